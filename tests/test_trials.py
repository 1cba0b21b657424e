"""The trials of a search are runs below the model's run: made once, and again where MLflow lost them."""

import pytest
from project import facts

from dovetail.values.trials import Trial, trials_of

TRIALS = [
    {"trial": 0, "params": {"depth": 3, "kind": "gini"}, "score": 0.5},
    {"trial": 1, "params": {"depth": 1, "kind": None}, "failed": "ValueError: no"},
    {"trial": 2, "params": {"depth": 9, "kind": "gini"}, "score": 0.75},
]


@pytest.fixture
def searched(judged):
    """A project whose card lists trials."""
    card = '"example": example'
    judged.replace("judge.py", card, f'{card}, "search": {{"metric": "f1", "trials": trials}}')
    none = repr(TRIALS)
    judged.replace("judge.py", "rows =", f"trials = {none}\nrows =")
    return judged


def children(project):
    """The runs of trials, by number; all of them are below one run, which is a model's."""
    runs = {run.info.run_id: run for run in project.store().runs()}
    trials = [run for run in runs.values() if "dovetail.trial" in facts(run)]
    (parent,) = {run.data.tags["mlflow.parentRunId"] for run in trials}
    assert "dovetail.fingerprint" in runs[parent].data.tags
    return sorted(trials, key=lambda run: int(facts(run)["dovetail.trial"]))


@pytest.mark.slow
def test_each_trial_is_one_run_below_the_models_whatever_happens_in_between(searched):
    searched.run("dvc", "repro", "-q")
    searched.commit("searched")
    first, failed, last = children(searched)
    assert (first.data.params, first.data.metrics) == ({"depth": "3", "kind": "gini"}, {"f1": 0.5})
    assert (failed.info.status, failed.data.metrics) == ("FAILED", {})
    assert (last.info.run_name, last.info.status, last.data.metrics["f1"]) == ("trial 2", "FINISHED", 0.75)
    searched.run("dvc", "repro", "-q", "-f", "register")
    searched.run("dovetail", "sync")
    assert len(children(searched)) == 3
    (searched.root / "mlflow.db").unlink()
    searched.run("dovetail", "sync")
    assert [run.data.params for run in children(searched)] == [first.data.params, failed.data.params, last.data.params]
    assert searched.json("doctor")["problems"] == []


@pytest.mark.parametrize("step", ["log_batch:4", "create_run:4"])
def test_a_registration_killed_between_trials_is_completed(searched, step):
    searched.run("dvc", "repro", "-q", "judge")
    searched.killed(step, "register")
    searched.run("dovetail", "register")
    assert [run.info.status for run in children(searched)] == ["FINISHED", "FAILED", "FINISHED"]
    assert [len(run.data.params) for run in children(searched)] == [2, 2, 2]


@pytest.mark.parametrize(
    "card",
    [None, {}, {"search": 7}, {"search": {"trials": "x"}}, {"search": {"trials": [7, {"trial": "1", "params": {}}]}}],
)
def test_a_card_without_trials_has_none(card):
    assert trials_of(card) == ()


def test_a_score_that_is_no_number_is_left_out():
    card = {"search": {"trials": [{"trial": 4, "params": {"a": [1]}, "score": float("nan")}]}}
    assert trials_of(card) == (Trial(4, {"a": "[1]"}, {}),)
