"""A model of data that are larger than memory: a sample, or one part after the other; and what is measured of it."""

import json

import joblib
import numpy as np
import polars as pl
import pytest
from modelling import LOGISTIC, RIDGE, config, iris, params, stage
from pandas.testing import assert_frame_equal
from sklearn.naive_bayes import GaussianNB
from sklearn.preprocessing import StandardScaler

from stages import evaluate, train
from stages.common.errors import StageError
from stages.modelling import sample, table

SGD, BAYES = "sklearn.linear_model.SGDClassifier", "sklearn.naive_bayes.GaussianNB"
XGB = "xgboost.XGB{}".format
SCALER = "sklearn.preprocessing.StandardScaler"


def shuffled_iris():
    return iris().sample(fraction=1, shuffle=True, seed=1)


def halves(folder, rows, cuts=(40, 40, 100)):
    """The train half in parts, one of them empty."""
    (folder / "train").mkdir()
    for number, (first, last) in enumerate(zip((0, *cuts), (*cuts, rows.height), strict=True)):
        rows[first:last].write_parquet(folder / "train" / f"part-{number}.parquet")
    return folder / "train"


def learned(folder, rows, *args, of_train=(), **kwargs):
    spec = config(*args, **kwargs)
    spec["models"]["m"]["train"] |= dict(of_train)
    path = folder / "train" if (folder / "train").exists() else halves(folder, rows)
    train.run("m", type(params()).model_validate(spec), train=path, model=folder / "m.joblib")
    return joblib.load(folder / "m.joblib")


IN_PARTS = {"in_parts": True}


def test_partial_fit_over_parts_is_what_all_rows_at_once_give(tmp_path):
    rows = shuffled_iris()
    model = learned(tmp_path, rows, estimator=BAYES, of_train=IN_PARTS)
    whole = GaussianNB().fit(rows.drop("species").to_pandas(), rows["species"].to_list())
    np.testing.assert_allclose(model.theta_, whole.theta_)
    assert model.classes_.tolist() == whole.classes_.tolist()
    assert model.feature_names_in_.tolist() == rows.columns[:-1]


def test_a_class_that_the_first_part_has_not_is_known_from_the_start(tmp_path):
    model = learned(tmp_path, iris(), estimator=SGD, of_train={**IN_PARTS, "epochs": 20}, random_state=0)
    assert model.classes_.tolist() == ["setosa", "versicolor", "virginica"]


def test_steps_are_fitted_on_all_parts_one_after_the_other(tmp_path):
    rows = shuffled_iris()
    steps = [SCALER, "sklearn.preprocessing.Normalizer", {"estimator": "sklearn.decomposition.IncrementalPCA",
             "params": {"n_components": 2}}]  # fmt: skip
    model = learned(tmp_path, rows, estimator=SGD, prepare=steps, of_train=IN_PARTS, random_state=0)
    assert [name for name, _ in model.steps][:3] == ["standardscaler", "normalizer", "incrementalpca"]
    whole = StandardScaler().fit(rows.drop("species").to_pandas())
    np.testing.assert_allclose(model[0].scale_, whole.scale_)
    assert model[2].n_samples_seen_ == 150


def test_auto_puts_numbers_on_one_scale(tmp_path):
    model = learned(tmp_path, shuffled_iris(), estimator=SGD, prepare="auto", of_train=IN_PARTS)
    np.testing.assert_allclose(model[0].mean_, iris().drop("species").mean().row(0))


@pytest.mark.parametrize(("target", "kind"), [("species", "Classifier"), ("sepal_length", "Regressor")])
def test_xgboost_reads_parts_by_its_own_iterator(tmp_path, target, kind):
    rows = shuffled_iris().with_columns(pl.col("species").cast(pl.Categorical))
    rows = rows if kind == "Classifier" else rows.drop("species")
    model = learned(tmp_path, rows, target, XGB(kind), of_train=IN_PARTS, n_estimators=20, max_depth=3)
    features, actual = table.read(tmp_path / "train", target, "split@m")
    assert model.score(features, actual) > 0.9
    if kind == "Classifier":
        assert set(model.predict(features)) == {"setosa", "versicolor", "virginica"}
        assert model.predict_proba(features).shape == (150, 3)


def test_the_same_parts_give_the_same_bytes_whatever_ran_before(tmp_path):
    given = {"estimator": SGD, "of_train": {**IN_PARTS, "epochs": 2}}
    found = []
    for seed in (1, 2):
        np.random.seed(seed)  # noqa: NPY002  what an estimator without a random_state would draw from
        learned(tmp_path, shuffled_iris(), **given)
        found.append((tmp_path / "m.joblib").read_bytes())
    assert found[0] == found[1]


TEXT = shuffled_iris().with_columns(colour=pl.lit("red"))
GAPS = shuffled_iris().with_columns(pl.when(pl.col("sepal_length") > 5).then("sepal_length").name.keep())


@pytest.mark.parametrize(
    ("rows", "given", "said"),
    [
        (
            iris(),
            {"estimator": LOGISTIC},
            r"train\.in_parts: sklearn\.linear_model\.LogisticRegression learns from all rows",
        ),
        (TEXT, {"estimator": SGD}, r"in_parts: column 'colour' is str, and what makes numbers of it"),
        (GAPS, {"estimator": SGD, "prepare": "auto"}, r"in_parts: column 'sepal_length' has missing values"),
        (
            iris(),
            {"estimator": SGD, "prepare": ["sklearn.preprocessing.RobustScaler"]},
            r"train\.prepare\.0: RobustScaler learns from all rows at once, it has no partial_fit",
        ),
        (iris(), {"estimator": BAYES, "given": {"threshold": 0.3}}, r"params\.threshold is decided by all rows"),
        (iris(), {"estimator": XGB("Classifier"), "epochs": 2}, r"train\.epochs: xgboost\.XGBClassifier goes through"),
        (iris(), {"estimator": XGB("Classifier"), "early_stopping_rounds": 2}, "early_stopping_rounds asks for rows"),
        (iris(), {"estimator": RIDGE, "target": "species"}, "predicts numbers, but target 'species'"),
        (iris().with_columns(species=pl.lit("a")), {"estimator": SGD}, "has one class, 'a'"),
        (iris(), {"estimator": SGD, "loss": "hinges"}, r"models\.m\.train\.params: .*loss"),
    ],
)
def test_what_needs_all_rows_at_once_is_refused_with_the_reason(tmp_path, rows, given, said):
    given = dict(given)
    of_train = {**IN_PARTS, "epochs": given.pop("epochs", 1)}
    with pytest.raises(StageError, match=said) as refused:
        learned(tmp_path, rows, of_train=of_train, **given)
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "m.joblib").exists()


@pytest.mark.parametrize(
    ("of_train", "split", "said"),
    [
        ({"in_parts": True, "sample": 9}, {}, "in_parts learns from all rows, and sample from some; choose one"),
        ({"in_parts": True, "search": {"space": {"alpha": [1, 2]}}}, {}, "search tries params on rows in memory"),
        ({"epochs": 2}, {}, "epochs belongs to in_parts"),
        ({"in_parts": True}, {"folds": 3}, "split.folds are of rows in memory; take a train.sample"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(tmp_path, of_train, split, said):
    content = config(split=split)
    content["models"]["m"]["train"] |= of_train
    refused = stage(tmp_path, "train", content, train="t.parquet", model="m.joblib")
    assert refused.returncode == 2
    assert said in refused.stderr


def test_a_sample_is_as_large_as_asked_for_and_the_same_each_time():
    counts = [1000, 0, 3, 500_000]
    for rows in (1, 7, 1000, 400_000):
        drawn = sample.draw(counts, rows)
        assert sum(map(len, drawn)) == rows
        assert all(np.array_equal(a, b) for a, b in zip(drawn, sample.draw(counts, rows), strict=True))
    assert 100 < len(sample.draw([100_000, 100_000], 400)[0]) < 300
    assert [len(part) for part in sample.draw(counts, 10**9)] == counts


def test_a_sample_of_equal_rows_has_as_many_of_each_as_there_are(tmp_path):
    rows = pl.DataFrame({"x": [0.0, 1.0] * 5000, "species": ["a", "b"] * 5000})
    features, _ = table.read(halves(tmp_path, rows), "species", "split@m", sample=1000)
    assert len(features) == 1000
    assert 400 < features["x"].sum() < 600


def test_a_model_of_a_sample_is_that_of_these_rows(tmp_path):
    model = learned(tmp_path, iris(), estimator=BAYES, of_train={"sample": 60})
    features, target = table.read(tmp_path / "train", "species", "split@m", sample=60)
    np.testing.assert_array_equal(model.theta_, GaussianNB().fit(features, target).theta_)
    whole, _ = table.read(tmp_path / "train", "species", "split@m")
    assert len(features) == 60 < len(whole)
    assert_frame_equal(features, features.merge(whole.drop_duplicates()))


def test_evaluation_over_parts_is_what_one_file_gives(tmp_path):
    rows = shuffled_iris().with_columns(gap=pl.when(pl.col("sepal_width") > 3.5).then(pl.int_range(pl.len())))
    spec = params(estimator="sklearn.ensemble.HistGradientBoostingClassifier", max_iter=5)
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    for folder in (whole, parts):
        folder.mkdir()
    rows[:90].write_parquet(whole / "train")
    rows[90:].write_parquet(whole / "test")
    halves(parts, rows[90:], (10, 11, 50))
    (parts / "train").rename(parts / "test")
    halves(parts, rows[:90], (1, 60))
    train.run("m", spec, train=whole / "train", model=tmp_path / "m.joblib")
    found = []
    for folder in (whole, parts):
        out = {name: folder / name for name in ("metrics", "plots", "importance", "card")}
        evaluate.run("m", spec, model=tmp_path / "m.joblib", train=folder / "train", test=folder / "test", **out)
        found.append({name: path.read_bytes() for name, path in out.items() if path.is_file()})
    assert found[0] == found[1]
    assert json.loads(found[1]["card"])["inputs"][4] == {"name": "gap", "dtype": "float64", "nullable": True}
