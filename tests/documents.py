"""The documents' fenced blocks: read, run as a reader would run them, compared with what they are said to print."""

import os
import re
import subprocess
import sys
from pathlib import Path

import commands
from project import ROOT, Project, copy_tree, free_port

DOCUMENTS = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
]
FENCED = re.compile(r"^( *)```(\w*)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
MARK = "=== block"
SERVERS = {  # what a line begins with, the port that it is said to be on, and what is asked to know that it is up
    "mlflow ui": ("5000", "api/2.0/mlflow/registered-models/search"),
    "mlflow models serve": ("5001", "ping"),
    "dovetail serve iris@production": ("5002", "ping"),
    "dovetail serve wine@production": ("5003", "ping"),
    "dovetail serve churn@production": ("5004", "ping"),
}


def blocks(path):
    """The fenced blocks of a document: (language, content)."""
    return [(language, content) for _, language, content in FENCED.findall((ROOT / path).read_text())]


def commands_of(path):
    """The blocks that a test runs; those that it cannot run are marked `sh`."""
    return [content for language, content in blocks(path) if language == "bash"]


def clone_with_environment(folder):
    """A copy of this tree with an environment that `make` finds made: the one that runs this test."""
    project = copy_tree(folder)
    (folder / ".venv").mkdir()
    for path in Path(sys.prefix).iterdir():
        if path.name not in (".installed", "bin"):
            (folder / ".venv" / path.name).symlink_to(path)
    (folder / ".venv/bin").mkdir()
    for path in commands.BIN.iterdir():
        (folder / ".venv/bin" / path.name).symlink_to(path)
    for name in commands.SERVED.keys() - {"killed"} if commands.SHIMS in os.environ else ():
        command = folder / ".venv/bin" / name
        command.unlink()
        command.write_text(f'#!/bin/sh\nexec {os.environ[commands.SHIMS]}/{name} "$@"\n')
        command.chmod(0o755)
    (folder / ".venv/.installed").write_text(f"{folder}\n")
    return project


def folder_with_commands(folder):
    """An empty folder of somebody who has installed Dovetail."""
    folder.mkdir()
    return Project(folder, {"PATH": commands.path()})


def follow(project, pages, tmp_path, without=()):
    """Run the pages' blocks in one shell, as a reader would, and compare what they print with what is shown.

    Blocks of `without` are run elsewhere.
    """
    told = [block for page in pages for block in blocks(page) if block[0] in ("bash", "text")]
    told = [block for block in told if block[1] not in without]
    outputs = iter(_run(project, [content for language, content in told if language == "bash"], tmp_path))
    printed = []
    for language, content in told:
        if language == "bash":
            printed.append(next(outputs))
        else:
            assert_shows(printed[-1], content)
    return "".join(printed)


def _run(project, commands, tmp_path):
    """What each of the blocks printed."""
    script, ports = [], {command: free_port() for command in SERVERS}
    for number, block in enumerate(commands):
        lines = [
            _ours(line, ports) for line in block.splitlines() if not line.startswith("make test")
        ]  # runs this test
        script += [f"echo; echo '{MARK} {number}'", *lines]
    file = tmp_path / "commands.sh"
    file.write_text("\n".join(script))
    log = tmp_path / "commands.log"
    env = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS", "VIRTUAL_ENV"))}
    env |= {"COLUMNS": "120", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", **project.env}
    with log.open("w") as out:
        shell = subprocess.Popen(
            ["bash", "-euo", "pipefail", file], cwd=project.root, env=env, stdout=out, stderr=out, text=True,
            start_new_session=True,
        )  # fmt: skip
        try:
            code = shell.wait(timeout=1700)
        finally:
            subprocess.run(["kill", "-KILL", "--", f"-{shell.pid}"], check=False, capture_output=True)
    assert code == 0, log.read_text()[-4000:]
    return re.split(rf"^{MARK} \d+\n", log.read_text(), flags=re.MULTILINE)[1:]


def _ours(line, ports):
    """The line, but a server goes to the background and to a port that is free here; this machine gets more time."""
    for command, (named, health) in SERVERS.items():
        port = str(ports[command])
        if line.startswith(command):
            own = f"{line} --port {port} --workers 1" if command == "mlflow ui" else line.replace(named, port)
            wait = f"timeout 90 bash -c 'until curl -sf http://127.0.0.1:{port}/{health}; do sleep 0.2; done'"
            return f"{own} & {wait}"
        line = line.replace(f"127.0.0.1:{named}", f"127.0.0.1:{port}")
    return re.sub(r"^sleep (\d+)", lambda match: f"sleep {3 * int(match[1])}", line)


def assert_shows(output, shown):
    """Each line shown is printed, in this order; `…` stands for anything and ids differ from run to run."""
    lines = iter([" ".join(line.split()) for line in output.splitlines()])
    for line in [" ".join(line.split()) for line in shown.splitlines() if line.strip(" …")]:
        pattern = re.sub(r"\b(?=\d*[a-f])[0-9a-f]{8}\b", "[0-9a-f]{8}", re.escape(line).replace("…", ".*"))
        assert any(re.fullmatch(pattern, printed) for printed in lines), f"{line!r} was not printed there:\n{output}"
