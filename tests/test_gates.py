"""From evidence to verdicts: each gate can say yes and no, and one that is written wrong says how to write it."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from sklearn import metrics

from dovetail.errors import UserError
from dovetail.gates.evidence import Compared, Evidence, ProvenanceEvidence, Slice, TriedPackage
from dovetail.gates.rules import evaluate
from dovetail.promotion import comparison
from dovetail.promotion.test_set import plain, seen_by
from dovetail.repo.workspace import open_workspace
from dovetail.serving.protocol.answers import plain as logged

GOOD = Evidence(
    metrics={"accuracy": 0.9, "accuracy_low": 0.7, "rmse": 3.0, "clean.rows_in": 100, "clean.rows_rejected": 2},
    has_signature=True,
    origin=ProvenanceEvidence("c" * 40, not_in_remote=(), pushed=True, reproduced="identical"),
    served=TriedPackage("a" * 32, "a" * 32, size=2_000_000, missing=True, p99_ms=5.0),
    compared=Compared(1, "accuracy", rows=50, difference=-0.01, low=-0.05, high=0.03),
    slices={"sex": (Slice("female", 20, 0.9), Slice("male", 3, 0.2))},
)
ALL = {
    "accuracy": {"min": 0.8},
    "rmse": {"max": 4},
    "data": {"max_rejected": 0.05},
    "signature": {"required": True},
    "provenance": {"pushed": True, "reproduced": True},
    "serving": {"p99_ms": 10, "max_mb": 2},
    "slices": {"sex": {"metric": "accuracy", "min": 0.8, "min_rows": 5}},
    "champion": {"margin": 0.02},
}


def failed(gates, **changed):
    return [verdict.name for verdict in evaluate(gates, replace(GOOD, **changed)) if not verdict.passed]


def test_all_that_is_good_passes():
    verdicts = evaluate(ALL, GOOD)
    assert all(verdict.passed for verdict in verdicts)
    assert {verdict.name.partition(".")[0] for verdict in verdicts} == {*ALL, "pickle"}


@pytest.mark.parametrize(
    ("gates", "changed", "names"),
    [
        ({"accuracy": {"min": 0.8, "on": "low"}}, {}, ["accuracy"]),
        ({"rmse": {"max": 2}}, {}, ["rmse"]),
        ({"f1": {"min": 0}}, {}, ["f1"]),
        ({"data": {}}, {}, ["data"]),
        ({"data": {"max_rejected": 1}}, {"metrics": {}}, ["data"]),
        ({"signature": {"required": True}}, {"has_signature": False}, ["signature"]),
        ({}, {"origin": ProvenanceEvidence(None)}, ["provenance.commit"]),
        ({}, {"origin": ProvenanceEvidence("c", differing=("train.py",))}, ["provenance.commit"]),
        ({}, {"origin": ProvenanceEvidence("c", not_cached=("data.csv",))}, ["provenance.data"]),
        ({}, {"origin": ProvenanceEvidence("c", not_in_remote=("data.csv",))}, ["provenance.data"]),
        ({}, {"origin": ProvenanceEvidence("c", remote_problem="no answer")}, ["provenance.data"]),
        ({"provenance": {"pushed": True}}, {"origin": ProvenanceEvidence("c")}, ["provenance.pushed"]),
        ({"provenance": {"reproduced": True}}, {"origin": ProvenanceEvidence("c")}, ["provenance.reproduced"]),
        ({}, {"served": TriedPackage("a", "b")}, ["pickle.digest"]),
        ({}, {"served": TriedPackage("a", None)}, ["pickle.digest"]),
        ({}, {"served": TriedPackage("a", "a", refused="os.system")}, ["pickle.names"]),
        ({}, {"served": TriedPackage("a", "a", error="no")}, ["serving.loads"]),
        ({}, {"served": TriedPackage("a", "a", missing=False)}, ["serving.missing"]),
        ({"serving": {"p99_ms": 4}}, {}, ["serving.p99_ms"]),
        ({"serving": {"max_mb": 1.9}}, {}, ["serving.max_mb"]),
        ({"slices": {"sex": {"metric": "accuracy", "min": 0.8}}}, {}, ["slices.sex"]),
        ({"slices": {"age": {"metric": "accuracy", "min": 0.8}}}, {"slices": {"age": "no column"}}, ["slices.age"]),
        ({}, {"compared": Compared(1, "accuracy", 50, 0, -0.2, -0.3, -0.1)}, ["champion"]),
        ({}, {"compared": Compared(1, "accuracy", 10)}, ["champion"]),
        ({}, {"compared": Compared(1, error="it does not load")}, ["champion"]),
        ({"champion": {}}, {"compared": Compared(1, unknown="the target")}, ["champion"]),
        ({}, {"compared": Compared(1, unknown="the target")}, []),
        ({}, {"compared": Compared(None)}, []),
        ({"champion": {"margin": 0.15}}, {"compared": Compared(1, "accuracy", 50, 0, -0.2, -0.3, -0.1)}, []),
    ],
)  # fmt: skip
def test_each_gate_says_no_to_what_it_is_for_and_what_to_do(gates, changed, names):
    assert failed(gates, **changed) == names
    assert all(v.next and v.detail for v in evaluate(gates, replace(GOOD, **changed)) if not v.passed)


SPAM = {
    "accuracy": 0.797,
    "accuracy_low": 0.77,
    "baseline.accuracy": 0.906,
    "balanced_accuracy": 0.8,
    "balanced_accuracy_low": 0.75,
    "baseline.balanced_accuracy": 0.5,
    "roc_auc": 0.9,
    "baseline.roc_auc": 0.5,
}


@pytest.mark.parametrize(
    ("gates", "metrics", "said"),
    [
        ({}, SPAM, "accuracy = 0.797, at least 0.77; without features 0.906"),
        ({}, {"r2": 0.2, "r2_low": -0.1, "baseline.r2": -0.02}, "at least -0.1; without features -0.02"),
        ({}, {"x.json:baseline.r2": 0.0, "r2_low": 0.0}, "at least 0"),
        ({"baseline": {"metric": "balanced_accuracy", "margin": 0.3}}, SPAM, "at least 0.75; without features 0.5"),
        ({"baseline": {"metric": "roc_auc"}}, SPAM, "no metric roc_auc_low; there are both of: accuracy, balanced"),
        (
            {"baseline": {}},
            {"accuracy": 1.0, "accuracy_low": 0.9},
            "no metric baseline.accuracy; there are both of: none",
        ),
        ({"baseline": {"metric": "balanced_accuracy"}}, SPAM, None),
        ({"baseline": {"required": False}}, SPAM, None),
        ({}, {"accuracy": 0.1, "accuracy_low": 0.0}, None),
        ({}, {**SPAM, "accuracy_low": 0.907}, None),
    ],
)
def test_a_model_must_surely_be_better_than_its_baseline(gates, metrics, said):
    refused = [verdict for verdict in evaluate(gates, Evidence(metrics)) if not verdict.passed]
    assert [verdict.name for verdict in refused] == (["baseline"] if said else [])
    if said:
        assert said in refused[0].detail
        assert refused[0].next


@pytest.mark.parametrize(
    ("low", "more", "passed"),
    [
        (0.93, {}, True),  # sure by the folds, though not on the few test rows
        (0.89, {"accuracy_low": 0.99}, False),
        (0.93, {"search.trials": 20}, False),  # the folds chose the params: what counts is the test part
        (0.89, {"search.trials": 20, "accuracy_low": 0.99}, True),
    ],
)
def test_where_there_are_folds_their_interval_is_held_against_the_baseline(low, more, passed):
    folds = {"validation.accuracy": 0.95, "validation.accuracy_low": low, "validation.baseline.accuracy": 0.9}
    test = {"accuracy": 0.93, "accuracy_low": 0.85, "baseline.accuracy": 0.9}
    (verdict,) = evaluate({}, Evidence({**test, **folds, **more}))
    assert verdict.passed is passed
    assert ("validation.accuracy_low" in verdict.limit) is ("search.trials" not in more)


def test_what_was_not_asked_gives_no_verdict():
    assert [verdict.name for verdict in evaluate(ALL, Evidence(GOOD.metrics))] == ["accuracy", "rmse", "data"]


@pytest.mark.parametrize(
    ("gates", "said"),
    [
        ({"accuracy": 0.8}, "gate 'accuracy' is 0.8"),
        ({"accuracy": {}}, "has neither min nor max"),
        ({"accuracy": {"mni": 1}}, r"gate 'accuracy' has no key 'mni', did you mean 'min'\? It has: min, max, on"),
        ({"champion": {"margn": 1}}, r"gate 'champion' has no key 'margn', did you mean 'margin'"),
        ({"serving": 5}, "gate 'serving' is 5"),
        ({"slices": {"sex": {"metric": "accuracy"}}}, "gate 'slices.sex' is"),
        ({"slices": ["sex"]}, "gate 'slices' is"),
    ],
)
def test_a_gate_that_is_written_wrong_is_refused(gates, said):
    with pytest.raises(UserError, match=said):
        evaluate(gates, GOOD)


def test_the_scores_are_scikit_learns():
    rng = np.random.default_rng(3)
    actual, said = rng.choice(["a", "b", "c"], (2, 40))
    assert comparison.score("accuracy", actual, said) == pytest.approx(metrics.accuracy_score(actual, said))
    assert comparison.score("f1_macro", actual, said) == pytest.approx(metrics.f1_score(actual, said, average="macro"))
    expected = metrics.balanced_accuracy_score(actual, said)
    assert comparison.score("balanced_accuracy", actual, said) == pytest.approx(expected)
    actual, said = rng.normal(size=(2, 40))
    assert comparison.score("r2", actual, said) == pytest.approx(metrics.r2_score(actual, said))
    assert comparison.score("mae", actual, said) == pytest.approx(metrics.mean_absolute_error(actual, said))
    assert comparison.score("rmse", actual, said) == pytest.approx(metrics.root_mean_squared_error(actual, said))


def test_a_difference_is_positive_where_the_candidate_is_better_and_mirrors():
    actual = np.arange(200.0)
    near, far = actual + np.tile([1.0, -1.0], 100), actual + np.tile([9.0, -3.0], 100)
    better, worse = (comparison.difference("rmse", (actual, *pair), 0.95) for pair in ((near, far), (far, near)))
    assert 0 < better.low < better.value < better.high
    assert (worse.low, worse.value, worse.high) == pytest.approx((-better.high, -better.value, -better.low), rel=0.05)
    assert comparison.difference("rmse", (actual, near, near), 0.95) == comparison.Difference(0, 0, 0)


def test_rows_are_known_again_whatever_type_a_missing_value_gave_their_column(small):
    """Integers of which one is missing are floats for pandas."""
    small.write("data.csv", "a,b,c\n1,2,x\n,4,\n5,6,7\n")
    small.run("dvc", "add", "-q", "data.csv")
    small.run("dvc", "repro", "-q", "train")
    with open_workspace(small.root) as workspace:
        made = workspace.tree.lineage(workspace.tree.model("m"))
        table = pd.DataFrame({"a": [1, 9, 5], "b": [2.0, 9.0, 6.0], "c": ["x", "x", "7"]})
        assert seen_by(workspace, made, table).tolist() == [True, False, True]
        assert seen_by(workspace, made, table.assign(c=[1, 2, 7])).tolist() == [False, False, True]


def test_predictions_in_a_column_are_predictions():
    """CatBoost answers so with one of several classes."""
    assert plain(np.array([["a"], ["b"]], dtype=object)).tolist() == ["a", "b"]
    assert plain(np.array([[1], [2]])).tolist() == [1, 2]
    assert logged([["a"], ["b"]], "predict") == ["a", "b"]
    assert logged([[0.1, 0.9]], "predict_proba") == [[0.1, 0.9]]
