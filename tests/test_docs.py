"""The documents say what is: their commands run and print what they show, and what they name exists."""

import os
import re
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import click
import commands
import pytest
import yaml
from project import copy_tree, free_port

from dovetail.cli import main
from dovetail.values import tag_keys
from stages.common.params import Params

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").rglob("*.md")]
FENCED = re.compile(r"^( *)```(\w*)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
MARK = "=== block"
SERVERS = {  # the port that the README names, and what is asked to know that it is up
    "mlflow ui": ("5000", "api/2.0/mlflow/registered-models/search"),
    "mlflow models serve": ("5001", "ping"),
    "dovetail serve": ("5002", "ping"),
}
NAMED_IN_EXAMPLES = ("pets", "NAME")


def blocks(text):
    """The fenced blocks of a document: (language, content)."""
    return [(language, content) for _, language, content in FENCED.findall(text)]


def section(title):
    return re.search(rf"^## {title}\n(.*?)(?=^## )", README, re.MULTILINE | re.DOTALL)[1]


@pytest.fixture
def newcomer(tmp_path):
    """A copy of this tree with an environment that `make` finds made: the one that runs this test."""
    project = copy_tree(tmp_path / "dovetail")
    (project.root / ".venv").mkdir()
    for path in Path(sys.prefix).iterdir():
        if path.name not in (".installed", "bin"):
            (project.root / ".venv" / path.name).symlink_to(path)
    (project.root / ".venv/bin").mkdir()
    for path in commands.BIN.iterdir():
        (project.root / ".venv/bin" / path.name).symlink_to(path)
    for name in commands.SERVED.keys() - {"killed"} if commands.SHIMS in os.environ else ():
        command = project.root / ".venv/bin" / name
        command.unlink()
        command.write_text(f'#!/bin/sh\nexec {os.environ[commands.SHIMS]}/{name} "$@"\n')
        command.chmod(0o755)
    (project.root / ".venv/.installed").write_text(f"{project.root}\n")
    return project


@pytest.mark.slow
def test_the_commands_of_the_readme_run_and_print_what_it_shows(newcomer, tmp_path):
    told = blocks(section("Quick start") + section("A tour"))
    outputs = follow(newcomer, [content for language, content in told if language == "bash"], tmp_path)
    remaining = iter(outputs)
    for (language, _), (following, shown) in pairwise(told):
        if language == "bash":
            output = next(remaining)
            if following == "text":
                assert_shows(output, shown)
    assert '"alias":"staging","version":"2"' in "".join("".join(outputs).split())  # what the UI was asked


def follow(newcomer, commands, tmp_path):
    """Run the blocks in one shell, as a reader would; give what each of them printed."""
    script, ports = [], {command: free_port() for command in SERVERS}
    for number, block in enumerate(commands):
        lines = [ours(line, ports) for line in block.splitlines() if not line.startswith("make test")]  # runs this test
        script += [f"echo; echo '{MARK} {number}'", *lines]
    file = tmp_path / "readme.sh"
    file.write_text("\n".join(script))
    log = tmp_path / "readme.log"
    env = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS", "VIRTUAL_ENV"))}
    env |= {"PYTHONUNBUFFERED": "1", "COLUMNS": "120", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    with log.open("w") as out:
        shell = subprocess.Popen(
            ["bash", "-euo", "pipefail", file], cwd=newcomer.root, env=env, stdout=out, stderr=out, text=True,
            start_new_session=True,
        )  # fmt: skip
        try:
            code = shell.wait(timeout=560)
        finally:
            subprocess.run(["kill", "-KILL", "--", f"-{shell.pid}"], check=False, capture_output=True)
    assert code == 0, log.read_text()[-4000:]
    return re.split(rf"^{MARK} \d+\n", log.read_text(), flags=re.MULTILINE)[1:]


def ours(line, ports):
    """The line, but a server goes to the background and every server to a port that is free here."""
    for command, (named, health) in SERVERS.items():
        port = str(ports[command])
        if line.startswith(command):
            own = f"{line} --port {port} --workers 1" if command == "mlflow ui" else line.replace(named, port)
            wait = f"timeout 90 bash -c 'until curl -sf http://127.0.0.1:{port}/{health}; do sleep 0.2; done'"
            return f"{own} & {wait}"
        line = line.replace(f"127.0.0.1:{named}", f"127.0.0.1:{port}")
    return line


def assert_shows(output, shown):
    """Each line shown is printed, in this order; `…` stands for anything and ids differ from run to run."""
    lines = iter([" ".join(line.split()) for line in output.splitlines()])
    for line in [" ".join(line.split()) for line in shown.splitlines() if line.strip(" …")]:
        pattern = re.sub(r"\b(?=\d*[a-f])[0-9a-f]{8}\b", "[0-9a-f]{8}", re.escape(line).replace("…", ".*"))
        assert any(re.fullmatch(pattern, printed) for printed in lines), f"{line!r} was not printed there:\n{output}"


def test_what_the_readme_shows_is_compared_and_not_merely_printed():
    assert_shows("a\nrun 0123abcd made\nx   y\n", "run 6443966f made\n…\nx y\n")
    for shown in ("run 6443966f present", "x z", "x y\na"):
        with pytest.raises(AssertionError):
            assert_shows("a\nrun 0123abcd made\nx y\n", shown)


COMMANDS = [(None, main), *main.commands.items()]


@pytest.mark.parametrize(("name", "command"), COMMANDS, ids=[name or "dovetail" for name, _ in COMMANDS])
def test_every_command_and_every_flag_has_help_and_is_in_the_readme(name, command):
    assert command.help
    assert name is None or f"`dovetail {name}" in README
    for option in (p for p in command.params if isinstance(p, click.Option)):
        assert option.help
        assert f"{max(option.opts, key=len)}" in README


def test_the_make_targets_that_are_named_exist_and_each_is_explained():
    makefile = (ROOT / "Makefile").read_text()
    targets = set(re.search(r"^\.PHONY: (.+)$", makefile, re.MULTILINE)[1].split())
    named = {name for file in DOCUMENTS for name in re.findall(r"(?:`|^)make (\w+)", file.read_text(), re.MULTILINE)}
    assert named == targets


@pytest.mark.parametrize("file", sorted((ROOT / ".github/workflows").iterdir()), ids=lambda file: file.name)
def test_a_workflow_calls_make_targets_that_exist_and_nothing_else_but_github(file):
    targets = set(re.search(r"^\.PHONY: (.+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)[1].split())
    jobs = yaml.safe_load(file.read_text())["jobs"].values()
    scripts = [step["run"] for job in jobs for step in job["steps"] if "run" in step]
    called = {name for script in scripts for name in re.findall(r"^make (\w+)", script)}
    assert called
    assert called <= targets
    assert all(script.startswith("make ") or "gh pr " in script for script in scripts)


@pytest.mark.parametrize("file", DOCUMENTS, ids=lambda file: file.name)
def test_links_and_named_files_exist(file):
    text = FENCED.sub("", file.read_text())
    links = [link for link in re.findall(r"\]\(([^)#\s]+)", text) if not link.startswith("http")]
    named = re.findall(r"`((?:src|tests|docs|benchmarks)/[\w./-]+)`", text)
    assert [link for link in links if not (file.parent / link).exists()] == []
    assert [path for path in named if not (ROOT / path).exists() and not path_is_an_example(path)] == []


def path_is_an_example(path):
    return any(name in path for name in NAMED_IN_EXAMPLES)


def test_every_tag_is_in_the_table():
    written = {value for name, value in vars(tag_keys).items() if name.isupper() and str(value).startswith("dovetail.")}
    listed = {tag.replace("<path>", "") for tag in re.findall(r"^\| `(dovetail\.[\w.<>]+)` \|", README, re.MULTILINE)}
    assert listed == written


def test_the_blocks_to_be_added_are_valid():
    added = [yaml.safe_load(content) for language, content in blocks(README) if language == "yaml"]
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    halves = [name for block in added for name in block if name in params]
    assert halves == ["datasets", "models"]
    for block in added:
        for half in block.keys() & params.keys():
            params[half] |= block[half]
    assert Params.model_validate(params).models["pets"].data == "pets"
