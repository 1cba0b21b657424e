"""What people see: help with examples, tables that fit, colour, progress, what a shell completes."""

import json
import os
import pty
import re
import shlex
import shutil
import subprocess

import click
import commands
import pytest

import dovetail
from dovetail.cli import GROUPS, main
from dovetail.render import columns
from dovetail.render.promote import gates_table
from dovetail.scaffold import inferred
from dovetail.values import table_names

NAMES = sorted(main.commands)


@pytest.mark.parametrize("name", NAMES)
def test_the_help_of_every_command_has_two_examples_that_parse(name):
    command = main.commands[name]
    shown = command.get_help(click.Context(command, info_name=name))
    lines = shown.partition("Examples:\n")[2].splitlines()
    typed = [line.strip() for line in lines if line.startswith("    dovetail ")]
    assert len(typed) >= 2
    for line in typed:
        program, first, *arguments = shlex.split(line)
        assert (program, first) == ("dovetail", name)
        command.make_context(name, arguments)  # refuses an option that there is not


def test_every_command_stands_in_one_group_and_the_help_shows_them():
    assert sorted(command.name for group in GROUPS.values() for command in group) == NAMES
    shown = main.get_help(click.Context(main, info_name="dovetail"))
    places = [shown.index(f"\n{title}:\n") for title in ("Begin", "Look", "Decide", "Repair", "Run")]
    assert places == sorted(places)
    for title, group in GROUPS.items():
        assert {command.callback.__module__ for command in group} == {f"dovetail.cli.{title.lower()}"}


KINDS = {
    "csv": "CSV", "tsv": "TSV", "jsonl": "JSON lines", "ndjson": "JSON lines", "parquet": "Parquet", "arrow": "Arrow",
    "feather": "Feather", "xlsx": "Excel", "xls": "Excel", "xlsb": "Excel", "ods": "ODS",
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "takes"),
    [
        ("new", lambda file: file.endswith(inferred.SUFFIXES)),
        ("retrain", lambda file: table_names.is_table(file) or table_names.is_sheet(file)),
    ],
)
def test_the_help_names_each_kind_of_file_that_the_command_takes(name, takes):
    shown = " ".join(main.commands[name].get_help(click.Context(main.commands[name])).split())
    assert [kind for kind in KINDS.values() if kind not in shown] == []
    assert {kind for suffix, kind in KINDS.items() if takes(f"rows.{suffix}")} == set(KINDS.values())


GATES = [
    {"name": "accuracy", "passed": True, "limit": "accuracy ≥ 0.85", "detail": "accuracy = 0.9", "next": ""},
    {
        "name": "provenance.commit", "passed": False, "detail": "no commit holds it",
        "limit": "a commit holds the model, its code and its data's digests",
        "next": "git add -A && git commit, and a line that is longer than the terminal",
    },
]  # fmt: skip


@pytest.mark.parametrize("room", [60, 80, 100])
def test_a_table_fits_the_terminal_and_breaks_between_words(monkeypatch, room):
    monkeypatch.setattr(columns, "width", lambda: room)
    lines = [click.unstyle(line) for text in gates_table(GATES) for line in text.splitlines()]
    assert max(map(len, lines)) <= room
    words = {word for gate in GATES for key in ("limit", "detail", "next") for word in gate[key].split()}
    assert words <= {word for line in lines for word in line.split()}


def on_a_terminal(project, *command, width=80, typed="", **env):
    """What a command prints on a terminal, both streams, and its exit code; `typed` is what it is answered."""
    mine, theirs = pty.openpty()
    subprocess.run(["stty", "cols", str(width)], stdin=theirs, check=True)
    env = {**os.environ, "PATH": commands.path(plain=True), "TERM": "xterm", **env}  # the server's streams are pipes
    env.pop("COLUMNS", None)
    said = b""
    with subprocess.Popen(command, cwd=project.root, env=env, stdin=theirs, stdout=theirs, stderr=theirs) as asked:
        os.close(theirs)
        os.write(mine, typed.encode())
        while True:
            try:
                part = os.read(mine, 4096)
            except OSError:  # Linux says so when the other side is closed
                break
            if not part:
                break
            said += part
    os.close(mine)
    return said.decode(), asked.returncode


@pytest.mark.slow
def test_promote_tells_each_gate_as_it_is_decided_and_in_a_pipe_nothing(registered):
    said, code = on_a_terminal(registered, "dovetail", "promote", "m", "--dry-run", width=60)
    progress, _, answer = said.partition("\x1b[J")
    assert code == 0
    assert next(line.split()[2:4] for line in progress.splitlines() if " s  " in line) == ["pass", "accuracy"]
    assert progress.count(" s  pass") == answer.count("\x1b[32mpass\x1b[0m") == 8
    assert max(len(click.unstyle(line)) for line in answer.splitlines()) <= 60
    assert "\x1b[32m" not in on_a_terminal(registered, "dovetail", "promote", "m", "--dry-run", NO_COLOR="1")[0]
    piped = registered.run("dovetail", "promote", "m", "--dry-run")
    assert piped.stderr == ""
    assert "\x1b" not in piped.stdout
    always = registered.run("dovetail", "--color", "always", "promote", "m", "--dry-run", plain=True).stdout
    assert "\x1b[32mpass" in always


@pytest.mark.slow
def test_init_shows_what_it_would_write_once_and_asks(small):
    for typed, written in (("n\n", False), ("y\n", True)):
        said, code = on_a_terminal(small, "dovetail", "init", "n", "--path", "out/m.joblib", typed=typed)
        assert said.count("+++ b/dvc.yaml") == 1
        assert ("written; next: dvc repro" in said, code) == (written, 0 if written else 1)
        assert ("dovetail register n" in (small.root / "dvc.yaml").read_text()) is written


@pytest.mark.slow
def test_a_retraining_tells_each_stage(registered, tmp_path):
    (tmp_path / "new.csv").write_text("a,b\n5,6\n")
    said, _ = on_a_terminal(registered, "dovetail", "retrain", "m", "--with", "../new.csv")
    assert "train is done …" in said
    assert said.index("running the pipeline") < said.index("train is done") < said.index("asking the gates")


@pytest.mark.slow
def test_list_and_show_are_the_python_apis_answers(registered):
    registered.run("dovetail", "promote", "m")
    repository = dovetail.open(registered.root)
    listed = registered.json("list")
    assert listed == repository.list().as_json()
    (model,) = listed["models"]
    assert (model["model"], model["path"], model["aliases"]) == ("m", "out/m.joblib", {"production": 1, "staging": 1})
    assert repository.list("m").models[0].versions[0].metrics["accuracy"] == 0.7
    shown = registered.json("show", "m")
    assert shown == json.loads(json.dumps(repository.show("m").as_json()))
    assert {**repository.lineage("m").as_json(), **shown}.keys() == shown.keys()
    assert [gate["name"] for gate in shown["gates"]] == ["accuracy"]
    assert [event["tag"] for event in shown["promotions"]] == ["m#production#1"]
    text = registered.run("dovetail", "show", "m@production").stdout
    assert text.startswith("m/1 @production @staging\n")
    assert {"metrics", "made by", "promotions"} <= set(text.splitlines())
    assert "names data" in registered.json("show", "data.csv", code=2)["error"]["message"]
    assert "no model 'n'" in registered.json("list", "n", code=2)["error"]["message"]
    assert registered.json("status", "m")["models"][0]["model"] == "m"
    assert registered.json("status", "n", code=2)["error"]["kind"] == "UnknownModel"


COMPLETED = {
    "dovetail show m": {"m", "m@staging", "m/1"},
    "dovetail promote ": {"m"},
    "dovetail promote m --to prod": {"production"},
    "dovetail doctor --trace tr": {"train"},
    "dovetail hist": {"history"},
}
SHELLS = {
    "bash": 'eval "$(_DOVETAIL_COMPLETE=bash_source dovetail)"; COMP_WORDS=({words}); COMP_CWORD={place}; '
    "_dovetail_completion dovetail; printf '%s\\n' \"${{COMPREPLY[@]}}\"",
    "fish": "_DOVETAIL_COMPLETE=fish_source dovetail | source; complete --do-complete '{line}'",
    "zsh": 'compdef() {{ :; }}; eval "$(_DOVETAIL_COMPLETE=zsh_source dovetail)"; '
    "words=({words}); CURRENT={place}+1; compadd() {{ shift $(($# - 1)); print -l -- ${{(P)1}} }}; "
    "_describe() {{ local name=${{@[-1]}}; [[ $name == -U ]] && name=${{@[-2]}}; print -l -- ${{(P)name}} }}; "
    "_dovetail_completion",
}


@pytest.mark.parametrize("shell", SHELLS)
def test_shells_complete_models_aliases_versions_and_stages(registered, shell):
    if shutil.which(shell) is None:
        pytest.skip(f"there is no {shell} here")
    for line, expected in COMPLETED.items():
        words = line.split(" ")
        typed = " ".join(word or "''" for word in words)
        script = SHELLS[shell].format(words=typed, place=len(words) - 1, line=line)
        option = ["-f"] if shell == "zsh" else ["--norc"] if shell == "bash" else ["--no-config"]
        said = registered.run(shell, *option, "-c", script).stdout
        assert expected <= {one.split("\t")[0].split(":")[0] for one in said.split()}, (line, said)


def test_completing_waits_for_neither_dvc_nor_mlflow(registered):
    """They take three seconds to import; all else, a tenth of one."""
    env = {"_DOVETAIL_COMPLETE": "bash_complete", "COMP_WORDS": "dovetail show m", "COMP_CWORD": "2"}
    said = registered.run("dovetail", plain=True, PYTHONPROFILEIMPORTTIME="1", **env)
    assert "plain,m@staging" in said.stdout
    imported = set(re.findall(r"^import time:.*\| +([^.\n]+)", said.stderr, re.MULTILINE))
    assert "dovetail" in imported
    assert not {"dvc", "mlflow", "numpy", "pandas"} & imported


def test_what_git_alone_can_answer_asks_neither_dvc_nor_mlflow(registered):
    """Their imports, and those of what asks them, would be most of the time that `history` takes."""
    heavy = {"dvc", "gto", "mlflow", "numpy", "pandas", "dovetail.repo.dag", "dovetail.repo.tree", "dovetail.tracking"}
    code = "import sys; from dovetail.cli import main; main(sys.argv[1:], standalone_mode=False); "
    command = ("python", "-c", f"{code}print(sorted({heavy!r} & set(sys.modules)))", "history", "m")
    for said in ("no tag here names a version of m", "m#production#1"):
        typed = registered.run(*command, plain=True)
        assert typed.stdout.splitlines()[-1] == "[]"
        assert said in typed.stdout
        registered.run("dovetail", "promote", "m")


def test_artifacts_are_read_as_dvc_reads_them_without_gto(registered):
    from dvc.repo import Repo

    from dovetail.repo.dvc_yaml import declared_artifacts

    with Repo(str(registered.root)) as repo:
        assert declared_artifacts(repo) == repo.artifacts.read()
        assert repo.artifacts.read()["dvc.yaml"]["m"].path == "out/m.joblib"
    calls = "import sys; from dovetail.cli import main; main(sys.argv[1:], standalone_mode=False)"
    code = f"{calls}; print('gto' in sys.modules)"
    assert registered.run("python", "-c", code, "lineage", "m", plain=True).stdout.splitlines()[-1] == "False"


def test_a_folder_that_was_deleted_under_the_shell_is_one_line(tmp_path):
    command = f'mkdir gone; cd gone; rmdir ../gone; "{commands.BIN}/dovetail" status'
    done = subprocess.run(["sh", "-c", command], cwd=tmp_path, capture_output=True, text=True, check=False)
    said = "dovetail: the folder that this shell is in was deleted or moved; next: cd to the repository\n"
    assert (done.returncode, done.stderr) == (2, said)
