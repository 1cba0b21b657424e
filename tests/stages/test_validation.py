"""Validation in folds: as scikit-learn does it, split as the test part is, by models that are made as the whole one."""

import json

import numpy as np
import pandas as pd
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from modelling import FOREST, LOGISTIC, RIDGE, diabetes, iris, params
from scipy import stats
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import RepeatedStratifiedKFold, cross_val_score

from stages import evaluate, split, train
from stages.common.errors import StageError
from stages.modelling import table
from stages.training.folds import folds, inner_part


def validated(folder, data, **kwargs):
    """What `evaluate` writes of the validation, after split and train."""
    data.write_parquet(folder / "clean.parquet")
    asked = params(**kwargs)
    parts = {name: folder / f"{name}.parquet" for name in ("train", "test")}
    outputs = {"metrics": "m.json", "plots": "plots", "importance": "i.csv", "card": "card.json"}
    split.run("m", asked, clean=folder / "clean.parquet", **parts)
    train.run("m", asked, train=parts["train"], model=folder / "m.joblib")
    paths = {name: folder / path for name, path in outputs.items()}
    evaluate.run("m", asked, model=folder / "m.joblib", **parts, **paths)
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
    for known, held in folds(spec.split, None, np.zeros(40), None, is_class=False):
        assert known.max() < held.min()


@given(st.lists(st.integers(1, 9), min_size=4, max_size=12), st.floats(0.05, 0.9))
def test_rows_of_one_time_stand_on_one_side_of_each_cut(sizes, test_size):
    moments = np.repeat(np.arange(len(sizes)), sizes)
    how = params(split={"time": "day", "folds": 3, "test_size": test_size}).models["m"].split
    parts = list(folds(how, None, moments, moments, is_class=False))
    assert len(parts) == 3
    for known, held in [*parts, inner_part(how, None, moments, moments, is_class=False)]:
        assert len(known)
        assert moments[known].max() < moments[held].min()
    assert parts[-1][1][-1] == len(moments) - 1


def test_folds_by_time_know_which_rows_are_of_one_time(tmp_path):
    rows = pl.DataFrame({"day": np.arange(120) // 17, "x": range(120), "species": ["a", "b"] * 60})
    rows.sample(fraction=1, shuffle=True, seed=1).write_parquet(tmp_path / "clean.parquet")
    asked = params(split={"time": "day", "columns": ["x"]})
    split.run("m", asked, **{name: tmp_path / f"{name}.parquet" for name in ("clean", "train", "test")})
    moments = table.groups_of(tmp_path / "train.parquet", "split@m")
    assert moments.tolist() == (pl.read_parquet(tmp_path / "train.parquet")["x"] // 17).to_list()


def test_too_few_times_for_the_folds_are_refused():
    how = params(split={"time": "day", "folds": 3}).models["m"].split
    with pytest.raises(ValueError, match="3 different times are too few for 4 parts"):
        folds(how, None, np.zeros(30), np.repeat([0, 1, 2], 10), is_class=False)


@pytest.mark.parametrize("is_class", [True, False])
def test_rows_that_are_alike_stand_on_one_side_where_the_whole_row_is_the_key(is_class):
    features = pd.DataFrame({"x": np.arange(60) % 20, "z": ["k", None, "m"] * 20})
    target = np.where(features["x"] % 2, "a", "b").astype(object)
    how = params(split={"key": "*", "folds": 4, "repeats": 2}).models["m"].split
    parts = list(folds(how, features, target, None, is_class=is_class))
    assert len(parts) == 8
    kind = np.array([f"{x} {z}" for x, z in features.itertuples(index=False)])
    for known, held in [*parts, inner_part(how, features, target, None, is_class=is_class)]:
        assert sorted([*known, *held]) == list(range(60))
        assert not set(kind[known]) & set(kind[held])


def test_rows_of_which_none_comes_twice_are_split_as_without_a_key():
    features, target = pd.DataFrame({"x": range(40)}), np.array(["a", "b"] * 20, object)
    plain, whole = (params(split={"folds": 4} | key).models["m"].split for key in ({}, {"key": "*"}))
    for one, other in zip(
        folds(plain, features, target, None, is_class=True),
        folds(whole, features, target, None, is_class=True),
        strict=True,
    ):
        assert [part.tolist() for part in one] == [part.tolist() for part in other]


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
