"""Validation in folds: as scikit-learn does it, split as the test part is, by models that are made as the whole one."""

import json

import numpy as np
import polars as pl
import pytest
from modelling import FOREST, LOGISTIC, RIDGE, diabetes, iris, params
from scipy import stats
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import RepeatedStratifiedKFold, cross_val_score

from stages import evaluate, split, train
from stages.common.errors import StageError
from stages.modelling import table
from stages.training.folds import folds


def validated(folder, data, **kwargs):
    """What `evaluate` writes of the validation, after split and train."""
    data.write_parquet(folder / "clean.parquet")
    given = params(**kwargs)
    parts = {name: folder / f"{name}.parquet" for name in ("train", "test")}
    outputs = {"metrics": "m.json", "plots": "plots", "importance": "i.csv", "card": "card.json"}
    split.run("m", given, clean=folder / "clean.parquet", **parts)
    train.run("m", given, train=parts["train"], model=folder / "m.joblib")
    paths = {name: folder / path for name, path in outputs.items()}
    evaluate.run("m", given, model=folder / "m.joblib", **parts, **paths)
    return json.loads(paths["metrics"].read_text())


def test_folds_are_scikit_learns_and_the_interval_is_widened_for_what_they_share(tmp_path):
    how = {"folds": 5, "repeats": 2, "stratify": True}
    found = validated(tmp_path, iris(), estimator=LOGISTIC, max_iter=900, split=how)["validation"]
    features, target = table.read(tmp_path / "train.parquet", "species", "split@m")
    folds = RepeatedStratifiedKFold(n_splits=5, n_repeats=2, random_state=42)
    scores = cross_val_score(LogisticRegression(max_iter=900), features, target, cv=folds)
    assert found["accuracy"] == pytest.approx(scores.mean())
    half = stats.t.ppf(0.975, 9) * np.sqrt(scores.var(ddof=1) * (1 / 10 + 1 / 4))
    assert [found["accuracy_low"], found["accuracy_high"]] == pytest.approx(
        [scores.mean() - half, scores.mean() + half]
    )
    assert found["fits"] == 10
    guesses = cross_val_score(DummyClassifier(), features, target, cv=folds)
    assert found["baseline"]["accuracy"] == pytest.approx(guesses.mean())


def test_a_model_without_folds_has_no_validation(tmp_path):
    assert "validation" not in validated(tmp_path, iris(), n_estimators=3, random_state=0)


@pytest.mark.parametrize(
    "given",
    [
        {"estimator": "xgboost.XGBClassifier", "n_estimators": 5},
        {"estimator": LOGISTIC, "prepare": "auto", "class_weight": "balanced"},
        {"estimator": "sklearn.naive_bayes.GaussianNB", "class_weight": "balanced", "threshold": 0.4},
    ],
)
def test_a_model_of_a_fold_is_made_as_the_whole_one(tmp_path, given):
    two = iris().filter(pl.col("species") != "setosa")
    assert validated(tmp_path, two, split={"folds": 3, "stratify": "auto"}, **given)["validation"]["accuracy"] > 0.8


def test_folds_by_group_hold_whole_groups_out(tmp_path):
    """Rows of a group are alike in `x`, which tells nothing of other groups."""
    rng = np.random.default_rng(0)
    group = np.repeat(np.arange(40), 8)
    data = pl.DataFrame({"who": group, "x": group + rng.normal(size=320) * 0.01, "y": rng.integers(0, 2, 40)[group]})
    data = data.with_columns(pl.col("y").replace_strict({0: "a", 1: "b"})).sample(fraction=1, shuffle=True, seed=1)
    forest = {"target": "y", "estimator": FOREST, "n_estimators": 20, "random_state": 0}
    apart = validated(tmp_path, data, split={"group": "who", "folds": 5}, **forest)["validation"]["accuracy"]
    (tmp_path / "mixed").mkdir()
    mixed = validated(tmp_path / "mixed", data.drop("who"), split={"folds": 5}, **forest)["validation"]["accuracy"]
    assert mixed > 0.95
    assert apart < 0.75
    groups = table.groups_of(tmp_path / "train.parquet", "split@m")
    whose = dict(zip(data["x"], data["who"], strict=True))
    names = [whose[x] for x in pl.read_parquet(tmp_path / "train.parquet")["x"]]
    assert len(set(zip(groups.tolist(), names, strict=True))) == len(set(names)) == len(set(groups.tolist()))


def test_folds_by_time_test_on_later_rows_than_they_learn_from():
    spec = params(split={"time": "day", "folds": 3}).models["m"]
    for known, held in folds(spec.split, np.zeros(40), None, is_class=False):
        assert known.max() < held.min()


def test_a_regression_is_validated_by_its_own_metrics(tmp_path):
    found = validated(tmp_path, diabetes(), target="progression", estimator=RIDGE, alpha=0.1, split={"folds": 4})
    assert found["validation"]["r2_low"] < found["validation"]["r2"] < found["validation"]["r2_high"]
    assert found["validation"]["rmse"] > 0


def test_more_folds_than_rows_are_refused(tmp_path):
    with pytest.raises(StageError, match=r"models\.m\.split\.folds = 500: .*; take fewer folds, or leave it out"):
        validated(tmp_path, iris(), n_estimators=2, split={"folds": 500})


@pytest.mark.parametrize("how", [{"repeats": 2}, {"folds": 3, "repeats": 2, "time": "day"}, {"folds": 1}])
def test_folds_that_make_no_sense_are_refused(how):
    with pytest.raises(ValueError, match=r"repeats belongs to folds at random|greater than or equal to 2"):
        params(split=how)
