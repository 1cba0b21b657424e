"""Repositories and shells as others set them up: signed commits, submodules, a folder within, another encoding."""

import json
import os
import shlex
import shutil
import signal
import subprocess
import time

import pytest
from project import DVC_YAML, TRAIN, Project

from dovetail.repo.workspace import open_workspace


def test_signed_commits_and_settings_that_change_what_git_prints(registered):
    """`log.showSignature` puts what GnuPG says before each commit."""
    head = registered.run("git", "cat-file", "commit", "HEAD").stdout
    signature = "gpgsig -----BEGIN PGP SIGNATURE-----\n \n no\n -----END PGP SIGNATURE-----\n"
    author, committer = (next(line for line in head.splitlines() if line.startswith(who)) for who in ("author", "com"))
    signed = head.replace(f"{committer}\n", f"{committer}\n{signature}")
    (registered.root / "commit").write_text(signed)
    sha = registered.run("git", "hash-object", "-t", "commit", "-w", "commit").stdout.strip()
    (registered.root / "commit").unlink()
    registered.run("git", "reset", "-q", "--hard", sha)
    assert author
    for setting in ("log.showSignature=true", "log.follow=true", "color.ui=always", "column.ui=always"):
        registered.run("git", "config", *setting.split("="))
    assert registered.json("promote", "m")["promoted"]
    assert registered.json("history", "m")["events"][0]["commit"] == sha
    assert registered.json("lineage", "m")["commits"][0]["sha"] == sha


def test_who_makes_a_tag_is_asked_before_the_gates(registered):
    registered.run("git", "config", "--global", "--remove-section", "user", HOME=str(_home(registered)))
    said = registered.run("dovetail", "promote", "m", code=2, HOME=str(_home(registered)), **_NOBODY)
    assert "git does not know who commits here; next: git config user.name" in said.stderr
    assert "pass" not in said.stderr
    registered.run("dovetail", "promote", "m", "--dry-run", HOME=str(_home(registered)), **_NOBODY)
    registered.run("dovetail", "promote", "m")
    registered.run("git", "config", "user.useConfigOnly", "true")
    said = registered.run("dovetail", "rollback", "m", code=2, HOME=str(_home(registered)), **_NOBODY)
    assert "no earlier version to roll back to" in said.stderr


_NOBODY = {"GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": "user.useConfigOnly", "GIT_CONFIG_VALUE_0": "true"}


def _home(project):
    """A home without an identity."""
    home = project.root.parent / "home"
    home.mkdir(exist_ok=True)
    (home / ".gitconfig").write_text("[user]\n")
    return home


@pytest.fixture
def with_submodule(tmp_path):
    """A project whose training reads code of a submodule, registered and committed."""
    library = Project(tmp_path / "library")
    library.root.mkdir()
    library.run("git", "init", "-q")
    library.write("scale.py", "FACTOR = 1\n")
    library.commit("first")
    project = Project(tmp_path / "p")
    project.root.mkdir()
    project.run("git", "init", "-q")
    project.run("git", "-c", "protocol.file.allow=always", "submodule", "--quiet", "add", str(library.root), "lib")
    project.run("dvc", "init", "-q")
    project.write("train.py", "import sys; sys.path.append('lib'); import scale\n" + TRAIN)
    project.write("params.yaml", "train: {w: 7}\n")
    project.write("data.csv", "a,b\n1,2\n")
    project.write("dvc.yaml", DVC_YAML.replace("[train.py, data.csv]", "[train.py, data.csv, lib, lib/scale.py]"))
    project.write(".gitignore", "/mlflow.db*\n/mlruns/\n__pycache__/\n")
    project.write(".dvcignore", "__pycache__\n")
    project.run("dvc", "add", "-q", "data.csv")
    project.run("dvc", "repro", "-q")
    project.commit("first")
    return project


@pytest.mark.slow
def test_code_of_a_submodule_is_kept_by_git(with_submodule):
    project = with_submodule
    problems = project.json("doctor", code=None)["problems"]
    assert [one["what"] for one in problems if "neither git nor DVC" in one["what"]] == []
    assert project.json("promote", "m")["promoted"]
    assert project.json("reproduce", "m")["verdict"] == "identical"
    project.write("lib/scale.py", "FACTOR = 2\n")
    project.write("data.csv", "a,b\n1,3\n")
    project.run("dvc", "add", "-q", "data.csv")
    project.run("dovetail", "repro", "train", "--workers", "2")  # not in a copy, in which the submodule is empty
    shutil.rmtree(project.root / "lib")
    project.run("git", "submodule", "deinit", "-q", "-f", "lib")
    said = project.run("dovetail", "reproduce", "m", code=None)
    assert "Traceback" not in said.stderr


def test_the_store_in_git_is_taken_out_where_the_project_is_a_folder_of_it(tmp_path):
    whole = Project(tmp_path / "whole")
    whole.root.mkdir()
    whole.run("git", "init", "-q")
    whole.write("mlruns/notes.txt", "another project's\n")
    whole.write("sub/train.py", "")
    project = Project(whole.root / "sub")
    project.run("dvc", "init", "-q", "--subdir")
    project.write("mlruns/receipts/m.json", "{}")
    whole.commit("first")
    (found,) = [one for one in project.json("doctor", code=1)["problems"] if one["what"].startswith("git tracks")]
    assert found["what"] == "git tracks mlruns"
    project.run("bash", "-c", found["next"])
    assert whole.run("git", "ls-files", "mlruns", "sub/mlruns", "sub/train.py").stdout.split() == [
        "mlruns/notes.txt", "sub/train.py"
    ]  # fmt: skip


def test_paths_are_taken_as_they_are_typed_in_a_folder(small, monkeypatch):
    (small.root / "notes").mkdir()
    monkeypatch.chdir(small.root / "notes")
    with open_workspace() as workspace:
        assert workspace.relative("../out/m.joblib") == "out/m.joblib"


def test_a_command_that_takes_a_file_back_can_be_typed_whatever_it_is_called_and_wherever(small):
    folder = "my out's"
    text = (
        (small.root / "dvc.yaml").read_text().replace("out/", f"{folder}/").replace("[out/plots]", f"[{folder}/plots]")
    )
    small.write("dvc.yaml", text.replace(f"[{folder}/m.joblib]", f'["{folder}/m.joblib"]'))
    small.write("train.py", TRAIN.replace('"out/', f'"{folder}/'))
    quoted = [f'"{folder}/{name}"' for name in ("m.joblib", "metrics.json", "plots")]
    text = (small.root / "dvc.yaml").read_text()
    for name, one in zip(("m.joblib", "metrics.json", "plots"), quoted, strict=True):
        text = text.replace(one, f"{folder}/{name}").replace(f"{folder}/{name}", one)
    small.write("dvc.yaml", text)
    small.run("dvc", "repro", "-q", "train")
    small.commit("renamed")
    small.write(f"{folder}/m.joblib", "changed")
    (small.root / "sub").mkdir()
    said = small.run("dovetail", "register", "m", code=2, cwd=small.root / "sub").stderr
    command = said.strip().rpartition("take the recorded file back: ")[2]
    assert shlex.split(command)[-1] == f"../{folder}/m.joblib"
    small.run("bash", "-c", command, cwd=small.root / "sub")
    small.run("dovetail", "register", "m", cwd=small.root / "sub")


@pytest.mark.slow
def test_an_output_that_is_not_utf8_ends_no_command(registered):
    for name in ("lineage", "status", "show", "history"):
        said = registered.run("dovetail", name, "m", code=None, PYTHONIOENCODING="ascii", PYTHONUTF8="0", plain=True)
        assert "Traceback" not in said.stderr
        assert said.returncode in (0, 1)
    as_json = registered.run("dovetail", "lineage", "m", "--json", PYTHONIOENCODING="ascii", PYTHONUTF8="0", plain=True)
    assert json.loads(as_json.stdout)["model"] == "m"


@pytest.mark.parametrize("arguments", [("status", "--bogus"), ("promote",), ("diff", "a", "b", "c"), ("nothing",)])
def test_what_was_typed_wrongly_is_json_where_it_was_asked_for(registered, arguments):
    said = registered.run("dovetail", *arguments, "--json", code=2)
    error = json.loads(said.stdout)["error"]
    assert error["kind"] == "UserError"
    assert error["next"].endswith("--help")
    assert said.stderr == ""


def test_ctrl_c_is_told_apart_from_no(registered, tmp_path):
    git = tmp_path / "bin" / "git"
    git.parent.mkdir()
    git.write_text(f'#!/bin/sh\ntouch "{tmp_path}/asked"\nexec sleep 60\n')
    git.chmod(0o755)
    path = f"{git.parent}{os.pathsep}{os.environ['PATH']}"
    for asked in ((), ("--json",)):
        process = subprocess.Popen(
            ["dovetail", "doctor", *asked], cwd=registered.root, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            text=True, start_new_session=True, env={**os.environ, "PATH": path},
        )  # fmt: skip
        while not (tmp_path / "asked").exists():
            assert process.poll() is None
            time.sleep(0.02)
        (tmp_path / "asked").unlink()
        process.send_signal(signal.SIGINT)
        out, error = process.communicate(timeout=60)
        assert process.returncode == 130
        if asked:
            assert json.loads(out)["error"]["kind"] == "Interrupted"
        else:
            assert error.splitlines()[-1] == "dovetail: interrupted; next: run the same command again"


def test_a_defect_is_no_answer(registered):
    """Exit code 1 would let a script of `monitor` retrain."""
    broken = registered.root / "broken"
    broken.mkdir()
    (broken / "sitecustomize.py").write_text(
        "import dovetail.registration.list_models as found\nfound.list_models = lambda *_: 1 / 0\n"
    )
    said = registered.run("dovetail", "list", "--json", code=3, plain=True, PYTHONPATH=str(broken))
    assert json.loads(said.stdout)["error"]["kind"] == "Defect"
    assert "ZeroDivisionError" in said.stderr
