"""What fails outside is one line with exit code 3, and the same command completes it afterwards."""

import contextlib
import sqlite3

import pytest


@pytest.mark.slow
def test_a_locked_database_is_waited_for_then_said_and_nothing_is_half_written(small):
    small.run("dvc", "repro", "-q", "register")
    small.replace("params.yaml", "w: 7", "w: 8")
    small.run("dvc", "repro", "-q", "train")
    with contextlib.closing(sqlite3.connect(small.root / "mlflow.db")) as other:
        other.execute("begin exclusive")
        done = small.run("dovetail", "register", code=3)
        assert "database is locked" in done.stderr
        assert done.stderr.count("\n") == 1
        other.rollback()
    assert small.store().counts() == (1, 1)
    assert small.json("register")[0]["version"] == 2
    assert small.store().counts() == (2, 2)


BIG = """
import os, joblib
model = joblib.load("out/m.joblib")
model.rows_ = os.urandom(8_000_000)
joblib.dump(model, "out/m.joblib")
"""


@pytest.mark.slow
def test_a_full_disk_is_said_and_afterwards_it_completes(small):
    small.run("dovetail", "register")
    small.write("big.py", BIG)
    small.replace("dvc.yaml", "python train.py", "python train.py && python big.py")
    small.run("dvc", "repro", "-q", "train")
    done = small.run("bash", "-c", "ulimit -f 4000; trap '' XFSZ; exec dovetail register", code=3, plain=True)
    assert "File too large" in done.stderr
    assert done.stderr.count("\n") == 1
    assert small.json("register")[0]["version"] == 2
    assert small.store().counts() == (2, 2)
    assert {model.status for model in small.store().models()} == {"READY"}
