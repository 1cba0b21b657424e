"""Which MLflow store a command asks: a server that is gone, another one than before, none yet."""

import shutil
import time

import pytest
from project import Project, free_port


def ask(project, port):
    begun = time.monotonic()
    done = project.run("dovetail", "status", code=3, MLFLOW_TRACKING_URI=f"http://ada:secret@127.0.0.1:{port}")
    assert time.monotonic() - begun < 25  # of which the server has five: this machine may be busy
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert "does not answer (asked for 5 seconds)" in line
    assert "secret" not in line
    assert f"next: curl http://…@127.0.0.1:{port}/health" in line


def test_a_server_that_is_gone_is_told_in_one_line_at_once(small):
    ask(small, free_port())


@pytest.mark.slow
def test_a_server_that_never_answers_is_told_in_five_seconds(small, silent):
    ask(small, silent)


@pytest.mark.slow
def test_another_store_than_before_is_told_and_sync_fills_it_aliases_too(registered, tmp_path):
    registered.run("dovetail", "promote", "m")
    before = registered.store().aliases()
    other = Project(registered.root, {"MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path}/other.db"})
    other.run("dvc", "repro", "-q")
    (model,) = other.json("status", code=1)["models"]
    (found, *_) = model["problems"]
    assert "mlruns/receipts/m.json says that the model is registered" in found["what"]
    assert found["next"] == "dovetail sync"
    other.run("dovetail", "sync")
    assert other.store().aliases() == before == {"m": {"staging": 1, "production": 1}}
    assert other.json("status", code=None)["models"][0]["problems"] == []


@pytest.mark.slow
def test_to_look_makes_no_store_and_nothing_does_where_no_model_is_declared(small):
    small.run("dovetail", "status", code=1)
    small.run("dovetail", "lineage", "data.csv")
    assert not [name for name in ("mlflow.db", "mlruns") if (small.root / name).exists()]
    small.write(
        "dvc.yaml", "stages: {train: {cmd: python train.py, deps: [train.py, data.csv], outs: [out/m.joblib]}}\n"
    )
    shutil.rmtree(small.root / ".git")
    small.run("git", "init", "-q")
    small.commit("adopted nothing")
    for command in (
        ["status"], ["register"], ["sync"], ["sync", "--all", "--repair"], ["lineage", "data.csv"], ["lineage", "m"],
        ["diff"], ["doctor"], ["gc"], ["promote", "m"], ["rollback", "m"], ["history", "m"], ["monitor", "m"],
        ["reproduce", "m"], ["retrain", "m", "--with", "feedback"],
    ):  # fmt: skip
        done = small.run("dovetail", *command, code=None)
        assert "Traceback" not in done.stderr
        assert not [name for name in ("mlflow.db", "mlruns") if (small.root / name).exists()], command


def test_a_database_whose_driver_is_missing_is_one_line_and_a_store_that_is_not_there_has_its_own_name(registered):
    done = registered.run("dovetail", "status", code=3, MLFLOW_TRACKING_URI="mysql://ada:secret@127.0.0.1:1/x")
    assert done.stderr.count("\n") == 1
    assert "MySQLdb, which asks this database, is not installed; next: python -m pip install mysqlclient" in done.stderr
    other = f"sqlite:///{registered.root}/none/x.db"
    assert other in registered.run("dovetail", "status", code=1, MLFLOW_TRACKING_URI=other).stdout
