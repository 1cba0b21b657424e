"""MLflow is away: pipeline and experiments go on where that is asked for, and the next sync writes what they made."""

import pytest

AWAY = {"MLFLOW_TRACKING_URI": "http://127.0.0.1:9", "DOVETAIL_OFFLINE": "1"}

pytestmark = pytest.mark.slow


def test_what_was_made_while_mlflow_was_away_is_written_by_the_next_sync(small):
    refused = small.run("dvc", "repro", "-q", "register", code=None, **{**AWAY, "DOVETAIL_OFFLINE": ""})
    assert refused.returncode != 0  # nobody asked for it: a store that should be there is missed at once
    said = small.run("dovetail", "register", **AWAY).stdout
    assert "m is not in MLflow yet" in said
    assert said.endswith("next: dovetail sync --all\n")
    (answer,) = small.json("register", **AWAY)
    assert (answer["version"], answer["warnings"][0]["next"]) == (None, "dovetail sync --all")
    small.run("dvc", "repro", "-q", **AWAY)
    small.commit("made offline")
    small.run("dvc", "exp", "run", "-q", "-n", "tried", "-S", "train.w=9", **AWAY)
    small.run("git", "checkout", "-q", ".")
    small.run("dvc", "checkout", "-q")
    small.run("dovetail", "history", "m", **AWAY)

    small.run("dovetail", "sync", "--all")
    small.run("dovetail", "sync", "--all")
    runs = {run.data.params["train.w"]: run.info.status for run in small.store().runs()}
    assert runs == {"7": "FINISHED", "9": "FINISHED"}
    assert small.store().counts() == (2, 1)
