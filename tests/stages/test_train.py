import sys

import joblib
import polars as pl
import pytest
from modelling import FOREST, LOGISTIC, RIDGE, config, diabetes, files, iris, params, penguins, stage
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import Pipeline

from stages import train
from stages.common.errors import StageError
from stages.modelling import model_file

HIST = "sklearn.ensemble.HistGradientBoostingClassifier"


def run(folder, table, *args, **kwargs):
    table.write_parquet(folder / "train.parquet")
    train.run("m", params(*args, **kwargs), train=folder / "train.parquet", model=folder / "out" / "m.joblib")
    return joblib.load(folder / "out" / "m.joblib")


def test_numbers_go_to_the_bare_estimator_with_its_params_and_their_names(tmp_path):
    model = run(tmp_path, iris(), n_estimators=7, random_state=42)
    assert type(model) is RandomForestClassifier
    assert len(model.estimators_) == 7
    assert model.feature_names_in_.tolist() == ["sepal_length", "sepal_width", "petal_length", "petal_width"]
    assert model.classes_.tolist() == ["setosa", "versicolor", "virginica"]


def test_whole_numbers_and_booleans_need_nothing_added(tmp_path):
    table = iris().with_columns(big=pl.col("sepal_width") > 3, count=pl.col("sepal_length").cast(pl.Int32))
    assert type(run(tmp_path, table, estimator=LOGISTIC, max_iter=1000)) is LogisticRegression


@pytest.mark.parametrize(
    "feature",
    [
        pl.col("species").alias("copy"),
        pl.col("species").cast(pl.Categorical).alias("copy"),
        pl.when(pl.col("sepal_width") > 3).then("sepal_width"),
        pl.when(pl.col("sepal_width") > 3).then(pl.lit(value=True)).alias("big"),
        pl.date_range(pl.date(2020, 1, 1), pl.date(2020, 5, 29)).alias("day"),
    ],
    ids=["text", "category", "missing number", "missing boolean", "date"],
)
def test_what_the_estimator_cannot_take_gets_skrub_before_it(tmp_path, feature):
    model = run(tmp_path, iris().with_columns(feature), estimator=LOGISTIC, max_iter=1000)
    assert isinstance(model, Pipeline)
    assert isinstance(model[-1], LogisticRegression)
    assert model[-1].max_iter == 1000


def test_an_estimator_that_takes_missing_numbers_stays_bare(tmp_path):
    table = iris().with_columns(pl.when(pl.col("sepal_width") > 3).then("sepal_width"))
    assert type(run(tmp_path, table, estimator=HIST, max_iter=3)).__name__ == "HistGradientBoostingClassifier"


def test_a_regressor_is_trained(tmp_path):
    model = run(tmp_path, diabetes(), target="progression", estimator=RIDGE, alpha=0.1)
    assert type(model) is Ridge
    assert model.alpha == 0.1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("table", "given", "names"),
    [
        (iris(), {"n_estimators": 10, "random_state": 42}, ("a.joblib", "b.joblib")),
        (iris(), {"n_estimators": 10}, ("a.skops", "b.skops")),  # no seed: the stage gives one
        (penguins(), {"estimator": LOGISTIC, "max_iter": 500}, ("a.joblib", "b.joblib")),
    ],
    ids=["forest", "unseeded forest in skops", "skrub pipeline"],
)
def test_two_processes_write_the_same_bytes(tmp_path, table, given, names):
    table.write_parquet(tmp_path / "train.parquet")
    for name in names:
        answer = stage(tmp_path, "train", config(**given), train="train.parquet", model=name)
        assert (answer.returncode, answer.stderr) == (0, "")
    first, second = ((tmp_path / name).read_bytes() for name in names)
    assert first == second


@pytest.mark.parametrize("table", [iris(), penguins()], ids=["forest", "skrub pipeline"])
def test_a_skops_file_holds_the_same_model(tmp_path, table):
    table.write_parquet(tmp_path / "train.parquet")
    paths = [tmp_path / "m.joblib", tmp_path / "m.skops"]
    read = []
    for path in paths:
        train.run("m", params(n_estimators=5), train=tmp_path / "train.parquet", model=path)
        read.append(model_file.read(path, "train@m"))
    (model, modules), (same, named) = read
    features = table.drop("species").to_pandas()
    assert same.predict_proba(features).tolist() == model.predict_proba(features).tolist()
    assert {module.partition(".")[0] for module in modules} - {"joblib"} <= {m.partition(".")[0] for m in named}
    assert not paths[1].read_bytes().startswith(b"\x80")


def test_what_a_skops_file_cannot_hold_is_refused(tmp_path):
    with pytest.raises(StageError, match=r"m\.skops: a \.skops file cannot hold this model .*set model_format: joblib"):
        model_file.write(Ridge(alpha=(step for step in ())), tmp_path / "t", tmp_path / "m.skops")
    assert files(tmp_path) == []


@pytest.mark.parametrize(
    ("table", "given", "message"),
    [
        (iris(), {"estimator": "sklearn.forest.Forest"}, r"'sklearn\.forest\.Forest' does not import: Module"),
        (
            iris(),
            {"estimator": FOREST.replace("sifier", "sifer")},
            r"no RandomForestClassifer; did you mean Random",
        ),
        (iris(), {"estimator": "sklearn.metrics.accuracy_score"}, r"is not an estimator: a class with fit and predict"),
        (iris(), {"estimator": "sklearn.preprocessing.StandardScaler"}, r"is not an estimator"),
        (iris(), {"estimator": "sklearn.cluster.KMeans"}, r"is neither a classifier nor a regressor"),
        (
            iris(),
            {"n_estimator": 5},
            r"params: unknown param 'n_estimator'; RandomForestClassifier takes: n_est",
        ),
        (iris(), {"estimator": "sklearn.ensemble.VotingClassifier"}, r"VotingClassifier rejects \{\}: .*'estimators'"),
        (iris(), {"n_estimators": -5}, r"models\.m\.params: The 'n_estimators' parameter of .* Got -5 instead"),
        (iris(), {"estimator": LOGISTIC, "max_iter": "many"}, r"models\.m\.params: The 'max_iter' parameter"),
        (diabetes(), {"target": "progression"}, r"predicts classes, but target 'progression' in .* is continuous"),
        (iris(), {"estimator": RIDGE}, r"predicts numbers, but target 'species' in .* is str"),
        (iris(), {"target": "kind"}, r"train\.parquet: no target column 'kind'; there are: sepal_length, "),
        (iris().head(40), {}, r"the target 'species' has one class, 'setosa'"),
        (iris().with_columns(species=None), {}, r"150 rows have no 'species'"),
        (iris().with_columns(many=[1, 2]), {}, r"column 'many' is .*list.*; make it a number, text or date"),
        (
            iris().with_columns(sepal_width=float("inf")),
            {"estimator": LOGISTIC},
            r"column .* is infinite in \d+ rows, first in row \d+; make it missing",
        ),
    ],
)
def test_what_cannot_be_trained_is_refused_and_nothing_is_written(tmp_path, table, given, message):
    with pytest.raises(StageError, match=message) as refusal:
        run(tmp_path, table, **given)
    assert "\n" not in str(refusal.value)
    assert files(tmp_path) == ["train.parquet"]


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("class Mine:\n    fit = predict = None\n", r"'mine\.Mine' is neither a classifier nor a regressor"),
        ("1 / 0\n", r"'mine\.Mine' does not import: ZeroDivisionError: "),
    ],
)
def test_an_estimator_of_ones_own_must_follow_scikit_learn(tmp_path, monkeypatch, source, message):
    (tmp_path / "mine.py").write_text(source)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "mine", raising=False)
    with pytest.raises(StageError, match=message):
        train.build("params.yaml: models.m", params(estimator="mine.Mine").models["m"])
    sys.modules.pop("mine", None)


def test_a_refusal_is_one_line_and_exit_code_2_and_leaves_the_old_model(tmp_path):
    (tmp_path / "m.joblib").write_bytes(b"old")
    answer = stage(tmp_path, "train", config(), train="data/train.parquet", model="m.joblib")
    assert answer.returncode == 2
    assert answer.stderr == "train@m: data/train.parquet is missing; make it: dvc repro split@m\n"
    assert (tmp_path / "m.joblib").read_bytes() == b"old"
