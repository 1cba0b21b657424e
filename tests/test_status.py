"""Where git, DVC and MLflow disagree, and the command that ends it."""

import sys
from collections import Counter
from contextlib import closing

import pytest
from project import TWO_MODELS, Project

from dovetail.repo.git import Git


def test_nothing_registered_yet(small):
    (model,) = small.json("status", code=1)["models"]
    assert model["workspace"]["version"] is None
    assert model["workspace"]["committed"] is True
    assert model["workspace"]["pushed"] is None
    assert model["problems"][0]["next"] == "dovetail register m"


def test_in_sync(small):
    small.run("dvc", "repro", "-q", "register")
    (model,) = small.json("status")["models"]
    assert model["in_sync"] is True
    assert model["workspace"]["md5"] == model["staging"]["md5"]
    assert model["production"] == {"version": None, "md5": None}


def test_uncommitted_and_unpushed_are_said_and_the_commands_mend_it(small, tmp_path):
    small.run("dvc", "remote", "add", "-q", "-d", "store", str(tmp_path / "remote"))
    small.write("params.yaml", "train: {w: 8}\n")
    small.run("dvc", "repro", "-q", "register")
    (model,) = small.json("status", code=1)["models"]
    assert [p["next"] for p in model["problems"]] == ["git add -A && git commit", "dvc push"]
    small.commit("now")
    small.run("dvc", "push", "-q")
    (model,) = small.json("status")["models"]
    assert (model["workspace"]["committed"], model["workspace"]["pushed"]) == (True, True)


def test_history_is_read_only_where_head_does_not_hold_the_model(registered):
    def walks():
        return [line for line in registered.asked_of_git("dovetail", "status", code=None) if "--raw" in line]

    assert walks() == []
    registered.run("git", "rm", "-q", "--cached", "dvc.lock")
    registered.run("git", "commit", "-qm", "without a lock")
    (model,) = registered.json("status", code=None)["models"]
    assert model["workspace"]["committed"] is True
    assert len(walks()) == 1


def test_a_branch_that_we_make_is_seen_by_the_next_search(small, tmp_path):
    small.run("git", "clone", "-q", ".", str(tmp_path / "other"))
    other = Project(tmp_path / "other")
    other.run("git", "switch", "-qc", "more")
    other.write("dvc.lock", "of another model")
    sha = other.commit("another")
    with closing(Git(small.root)) as git:
        assert git.commits_with("of another", "dvc.lock", experiments=False) == []
        git.take_branch(other.root, "more")
        (found,) = git.commits_with("of another", "dvc.lock", experiments=False)
        assert (found.sha, found.refs) == (sha, ("more",))
        assert not git.head_has("of another", "dvc.lock")


@pytest.mark.slow
def test_git_is_asked_nothing_twice_in_a_command(small):
    small.write("code/a.py", "")
    small.write("dvc.yaml", TWO_MODELS)
    small.run("dvc", "repro", "-q")
    small.commit("two models")
    small.run("dovetail", "register")
    for command in (["status"], ["sync"], ["diff", "m"], ["lineage", "m"]):
        asked = Counter(small.asked_of_git("dovetail", *command))
        assert [line for line, times in asked.items() if times > 1] == [], command


def test_a_model_changed_behind_dvcs_back_is_said(small):
    small.run("dvc", "repro", "-q", "register")
    (small.root / "out/m.joblib").unlink()
    small.write("out/m.joblib", "other")
    done = small.run("dovetail", "status", code=1)
    assert "is not what dvc.lock records" in done.stdout
    assert "dvc repro" in done.stdout


def test_before_any_dvc_lock_is_committed(small):
    small.run("git", "rm", "-q", "--cached", "dvc.lock")
    small.run("git", "commit", "-q", "--amend", "-m", "without a lock\u2028 and with an odd line end")
    (model,) = small.json("status", code=1)["models"]
    assert model["workspace"]["committed"] is False
    assert small.json("sync")["versions"]["created"] == 1


@pytest.mark.slow
def test_data_written_otherwise_are_told_from_data_of_other_values(small):
    small.write(
        "clean.py", "import pandas\npandas.read_csv('data.csv').to_parquet('clean.parquet', compression='snappy')\n"
    )
    small.replace("train.py", "w = yaml", "import pandas; pandas.read_parquet('clean.parquet')\nw = yaml")
    clean = "stages:\n  clean: {cmd: python clean.py, deps: [clean.py, data.csv], outs: [clean.parquet]}\n"
    small.replace("dvc.yaml", "stages:\n", clean)
    small.replace("dvc.yaml", "deps: [train.py, data.csv]", "deps: [train.py, clean.parquet]")
    small.run("dvc", "repro", "-q")
    small.commit("registered")
    assert small.json("status")["models"][0]["notes"] == []

    small.replace("clean.py", "snappy", "gzip")
    small.write("params.yaml", "train: {w: 8}\n")
    small.run("dvc", "repro", "-q")
    small.commit("written otherwise")
    small.run("dovetail", "promote", "m", "--version", "1", "--to", "production", code=None)
    (note,) = small.json("status")["models"][0]["notes"]
    assert note["what"].endswith("(@production): clean.parquet (the same table, written otherwise)")
    assert note["next"] == "dovetail diff m@production workspace:m"
    small.run(*note["next"].split())

    (small.root / "data.csv").unlink()
    small.write("data.csv", "a,b\n1,2\n3,5\n")
    (model,) = small.json("status", code=1)["models"]
    (changed,) = (problem["what"] for problem in model["problems"])  # told once: a problem is no note besides
    assert changed.startswith("data.csv (other values, md5 ")
    assert "is not what data.csv.dvc records" in changed
    assert not any("data.csv" in note["what"] for note in model["notes"])
    small.run("dvc", "repro", "-q")
    small.commit("other values")
    (note,) = small.json("status")["models"][0]["notes"]
    assert note["what"].endswith("(@production): data.csv (other values), clean.parquet (other values)")


READS_TABLES = """
import sys
from dovetail.cli import main
try:
    main(["status"])
finally:
    print("pyarrow" in sys.modules)
"""


@pytest.mark.parametrize(("name", "imports"), [("seen.png", [False, False]), ("rows.parquet", [True, False])])
def test_a_changed_file_that_is_no_table_is_read_as_one_once_at_most(small, name, imports):
    small.write(name, "as it was")
    small.run("dvc", "add", "-q", name)
    small.replace("dvc.yaml", "stages:\n", f"stages:\n  copy: {{cmd: cp {name} used, deps: [{name}], outs: [used]}}\n")
    small.replace("dvc.yaml", "deps: [train.py, data.csv]", "deps: [train.py, data.csv, used]")
    small.run("dvc", "repro", "-q", "train")
    (small.root / name).unlink()
    small.write(name, "as it is")
    small.run("dvc", "add", "-q", name)
    for imported in imports:
        done = small.run(sys.executable, "-c", READS_TABLES, plain=True, code=None)
        assert f"changed since the model was made: {name} (other bytes)" in done.stdout
        assert done.stdout.splitlines()[-1] == str(imported)


@pytest.mark.slow
def test_a_version_computed_under_other_settings_is_said_in_one_line_unless_its_stage_fixes_them(small, monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS")  # the suite sets it
    small.run("dvc", "repro", "-q", OMP_NUM_THREADS="2")
    (note,) = small.json("status")["models"][0]["notes"]
    said = "version 1 (@staging) was computed under other settings than this machine has now: OMP_NUM_THREADS 2 → none"
    assert note == {"what": said, "next": "dovetail reproduce m@staging"}
    assert f"  {said}; see: dovetail reproduce m@staging" in small.run("dovetail", "status").stdout
    assert small.json("status", OMP_NUM_THREADS="2")["models"][0]["notes"] == []

    small.write("params.yaml", "reproducible: true\ntrain: {w: 8}\n")
    small.replace("dvc.yaml", "params: [train]", "params: [train, reproducible]")
    small.run("dvc", "repro", "-q", OMP_NUM_THREADS="2")
    small.commit("reproducible")
    assert small.json("status")["models"][0]["notes"] == []
