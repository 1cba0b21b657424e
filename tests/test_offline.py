"""MLflow is away: pipeline and experiments go on where that is asked for, and the next sync writes what they made."""

import pytest
from next_commands import following, typed

AWAY = {"MLFLOW_TRACKING_URI": "http://127.0.0.1:9", "DOVETAIL_OFFLINE": "1"}

pytestmark = pytest.mark.slow


def test_what_was_made_while_mlflow_was_away_is_written_by_the_next_sync(small):
    refused = small.run("dvc", "repro", "-q", "register", code=None, **{**AWAY, "DOVETAIL_OFFLINE": ""})
    assert refused.returncode != 0  # nobody asked for it: a store that should be there is missed at once
    said = small.run("dovetail", "register", **AWAY).stdout
    assert "m is not in MLflow yet" in said
    (answer,) = small.json("register", **AWAY)
    assert (answer["version"], answer["warnings"][0]["next"]) == (None, "dovetail sync --all")
    small.run("dvc", "repro", "-q", **AWAY)
    small.commit("made offline")
    small.run("dvc", "exp", "run", "-q", "-n", "tried", "-S", "train.w=9", **AWAY)
    small.run("git", "checkout", "-q", ".")
    small.run("dvc", "checkout", "-q")
    small.run("dovetail", "history", "m", **AWAY)

    for _ in range(2):
        typed(small, following(said, "not in MLflow yet")[0])
    assert "not in MLflow yet" not in small.run("dovetail", "register").stdout
    runs = {run.data.params["train.w"]: run.info.status for run in small.store().runs()}
    assert runs == {"7": "FINISHED", "9": "FINISHED"}
    assert small.store().counts() == (2, 1)
