import json
import re

import joblib
import numpy as np
import pandas as pd
import polars as pl
import pytest
from modelling import LOGISTIC, RIDGE, config, diabetes, files, iris, params, penguins, stage
from scipy.stats import binomtest
from sklearn import metrics
from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.inspection import permutation_importance

from stages import evaluate, split, train
from stages.common.errors import StageError
from stages.evaluation import importance
from stages.modelling import table

OUTPUTS = {
    "metrics": "out/metrics.json",
    "plots": "out/plots",
    "importance": "out/importance.csv",
    "card": "out/card.json",
}


class Evaluated:
    """The outputs of `evaluate`, and what it had to work with."""

    def __init__(self, folder, target):
        self.folder = folder
        self.metrics, self.card = (json.loads((folder / OUTPUTS[name]).read_text()) for name in ("metrics", "card"))
        self.plots = sorted(path.name for path in (folder / OUTPUTS["plots"]).iterdir())
        self.importance = pd.read_csv(folder / OUTPUTS["importance"])
        self.model = joblib.load(folder / "m.joblib")
        self.features, self.actual = table.read(folder / "test.parquet", target, "split@m")


def inputs(folder):
    return {name: folder / f"{name}.parquet" for name in ("train", "test")} | {"model": folder / "m.joblib"}


def judge(folder, target="species"):
    outputs = {name: folder / path for name, path in OUTPUTS.items()}
    evaluate.run("m", params(target=target), **inputs(folder), **outputs)
    return Evaluated(folder, target)


def learn(folder, data, target="species", **kwargs):
    """Split and train into `folder`."""
    data.write_parquet(folder / "clean.parquet")
    given, paths = params(target=target, **kwargs), inputs(folder)
    split.run("m", given, clean=folder / "clean.parquet", train=paths["train"], test=paths["test"])
    train.run("m", given, train=paths["train"], model=paths["model"])


@pytest.fixture(scope="module")
def iris_forest(tmp_path_factory):
    folder = tmp_path_factory.mktemp("iris")
    learn(folder, iris(), split={"stratify": True}, n_estimators=100, random_state=42)
    return judge(folder)


@pytest.fixture(scope="module")
def penguin_pipeline(tmp_path_factory):
    folder = tmp_path_factory.mktemp("penguins")
    learn(folder, penguins(), estimator=LOGISTIC, max_iter=500)
    return judge(folder)


@pytest.fixture(scope="module")
def diabetes_ridge(tmp_path_factory):
    folder = tmp_path_factory.mktemp("diabetes")
    learn(folder, diabetes(), target="progression", estimator=RIDGE, alpha=0.1)
    return judge(folder, "progression")


def test_classification_metrics_are_scikit_learns(iris_forest):
    actual, predicted = iris_forest.actual, iris_forest.model.predict(iris_forest.features)
    probabilities = iris_forest.model.predict_proba(iris_forest.features)
    interval = binomtest(int((actual == predicted).sum()), 30).proportion_ci(method="wilson")
    found = {name: value for name, value in iris_forest.metrics.items() if not isinstance(value, dict)}
    bounds = {name: found.pop(name) for name in list(found) if name.endswith(("_low", "_high"))}
    assert found == pytest.approx(
        {
            "accuracy": metrics.accuracy_score(actual, predicted),
            "balanced_accuracy": metrics.balanced_accuracy_score(actual, predicted),
            "f1_macro": metrics.f1_score(actual, predicted, average="macro"),
            "precision_macro": metrics.precision_score(actual, predicted, average="macro"),
            "recall_macro": metrics.recall_score(actual, predicted, average="macro"),
            "log_loss": metrics.log_loss(actual, probabilities),
            "roc_auc": metrics.roc_auc_score(actual, probabilities, multi_class="ovr"),
            "mcc": metrics.matthews_corrcoef(actual, predicted),
            "brier": metrics.brier_score_loss(actual, probabilities, labels=iris_forest.model.classes_),
            "pr_auc": metrics.average_precision_score(
                actual[:, None] == iris_forest.model.classes_[None, :], probabilities, average="macro"
            ),
            "rows": 30,
        }
    )
    assert iris_forest.metrics["accuracy"] >= 0.9
    assert (bounds["accuracy_low"], bounds["accuracy_high"]) == pytest.approx((interval.low, interval.high))
    drawn = [np.random.default_rng(seed).integers(0, 30, 30) for seed in range(300)]
    for name, score in {
        "balanced_accuracy": metrics.balanced_accuracy_score,
        "mcc": metrics.matthews_corrcoef,
        "f1_macro": lambda *pair: metrics.f1_score(*pair, average="macro"),
    }.items():
        other = np.percentile([score(actual[rows], predicted[rows]) for rows in drawn], [2.5, 97.5])
        assert [bounds[f"{name}_low"], bounds[f"{name}_high"]] == pytest.approx(other, abs=0.06)


def test_each_class_has_its_precision_and_recall(iris_forest):
    actual, predicted = iris_forest.actual, iris_forest.model.predict(iris_forest.features)
    for name, found in iris_forest.metrics["classes"].items():
        assert found == {
            "precision": metrics.precision_score(actual == name, predicted == name),
            "recall": metrics.recall_score(actual == name, predicted == name),
        }
    assert list(iris_forest.metrics["classes"]) == ["setosa", "versicolor", "virginica"]


def test_a_class_has_a_name_that_a_metric_can_have(tmp_path):
    odd = pl.col("species").replace({"setosa": "a/b = 1", "versicolor": "a.b", "virginica": "a b"})
    learn(tmp_path, iris().with_columns(odd), n_estimators=5, random_state=1)
    assert set(judge(tmp_path).metrics["classes"]) == {"a_b _ 1", "a_b", "a b"}


def test_each_metric_has_its_baseline(iris_forest, diabetes_ridge):
    train, _ = table.read(iris_forest.folder / "train.parquet", "species", "split@m")
    for done, dummy in ((iris_forest, DummyClassifier()), (diabetes_ridge, DummyRegressor())):
        _, known = table.read(done.folder / "train.parquet", "species" if done is iris_forest else "progression", "s")
        said = dummy.fit(np.zeros((len(known), 1)), known).predict(np.zeros((len(done.actual), 1)))
        without = done.metrics["baseline"]
        score = metrics.accuracy_score if done is iris_forest else metrics.r2_score
        assert without["accuracy" if done is iris_forest else "r2"] == pytest.approx(score(done.actual, said))
        plain = {n for n, v in done.metrics.items() if not isinstance(v, dict) and not n.endswith(("_low", "_high"))}
        assert set(without) == plain - {"rows"}
    assert iris_forest.metrics["baseline"]["roc_auc"] == 0.5
    assert len(train) == 120


@pytest.mark.slow
def test_importance_of_a_wide_table_is_that_of_the_columns_that_tell_most(tmp_path, capsys):
    rng = np.random.default_rng(2)
    noise = pl.DataFrame({f"n{number}": rng.normal(size=150) for number in range(300)})
    learn(tmp_path, iris().hstack(noise), n_estimators=3, random_state=1)
    done = judge(tmp_path)
    assert len(done.importance) == 100
    assert {"petal_length", "petal_width"} <= set(done.importance["feature"])
    assert len(done.card["importance_left_out"]) == 204
    assert re.search(
        r"importance of the 100 columns that say most of 'species' alone; left out: n\d+, .* …", capsys.readouterr().err
    )


def test_shuffling_some_columns_is_scikit_learns(iris_forest):
    names = ["petal_width", "sepal_width"]
    drops = importance._drops(iris_forest.model, iris_forest.features, iris_forest.actual, names)  # noqa: SLF001
    expected = permutation_importance(
        iris_forest.model, iris_forest.features, iris_forest.actual, n_repeats=10, random_state=1
    )
    means = dict(zip(iris_forest.features, expected.importances_mean, strict=True))
    assert drops.mean(axis=1).tolist() == pytest.approx([means[name] for name in names], abs=0.1)


def test_regression_metrics_are_scikit_learns(diabetes_ridge):
    actual, predicted = diabetes_ridge.actual, diabetes_ridge.model.predict(diabetes_ridge.features)
    found = {name: value for name, value in diabetes_ridge.metrics.items() if name != "baseline"}
    low, high = found.pop("r2_low"), found.pop("r2_high")
    assert found == pytest.approx(
        {
            "r2": metrics.r2_score(actual, predicted),
            "mae": metrics.mean_absolute_error(actual, predicted),
            "rmse": metrics.root_mean_squared_error(actual, predicted),
            "rows": 89,
        }
    )
    draws = np.random.default_rng(7).integers(0, 89, (2000, 89))
    other = np.percentile([metrics.r2_score(actual[rows], predicted[rows]) for rows in draws], [2.5, 97.5])
    assert [low, high] == pytest.approx(other, abs=0.05)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["iris_forest", "penguin_pipeline", "diabetes_ridge"])
def test_importance_is_scikit_learns_and_sorted(name, request):
    done = request.getfixturevalue(name)
    expected = permutation_importance(done.model, done.features, done.actual, n_repeats=10, random_state=0)
    assert done.importance["importance"].is_monotonic_decreasing
    found = done.importance.set_index("feature")["importance"][done.features.columns]
    assert found.to_numpy() == pytest.approx(expected.importances_mean)


def test_plots_fit_the_task(iris_forest, diabetes_ridge):
    assert iris_forest.plots == ["calibration.png", "confusion.png", "importance.png", "roc.png"]
    assert diabetes_ridge.plots == ["importance.png", "residuals.png"]


def test_a_dollar_sign_in_a_name_begins_no_formula(tmp_path):
    data = iris().rename({"petal_length": r"$\a$"})
    learn(
        tmp_path, data.with_columns(pl.col("species").replace("setosa", r"$\a to $5")), n_estimators=5, random_state=1
    )
    assert judge(tmp_path).plots == ["calibration.png", "confusion.png", "importance.png", "roc.png"]


@pytest.mark.slow
def test_evaluating_again_gives_the_same_bytes_and_no_old_plot(tmp_path):
    learn(tmp_path, iris(), n_estimators=5, random_state=1)
    judge(tmp_path)
    outputs = [tmp_path / "out" / name for name in files(tmp_path / "out")]
    first = {path: path.read_bytes() for path in outputs}
    (tmp_path / "out" / "plots" / "old.png").write_bytes(b"")
    answer = stage(tmp_path, "evaluate", config(), **inputs(tmp_path), **OUTPUTS)
    assert (answer.returncode, answer.stderr) == (0, "")
    assert {path: path.read_bytes() for path in outputs} == first
    assert files(tmp_path / "out") == [str(path.relative_to(tmp_path / "out")) for path in outputs]


def test_predictions_in_a_column_are_predictions_by_row(tmp_path):
    """As CatBoost has them of three classes or more, and regressions of one target in a matrix."""
    learn(tmp_path, iris(), estimator="catboost.CatBoostClassifier", iterations=5, verbose=False,
          allow_writing_files=False)  # fmt: skip
    found = judge(tmp_path)
    predicted = found.model.predict(found.features)
    assert predicted.shape == (30, 1)
    assert found.metrics["accuracy"] == (predicted.ravel() == found.actual).mean()
    assert found.card["predictions"] == [name for (name,) in found.model.predict(_example(found)).tolist()]


def _example(found):
    return pd.DataFrame(found.card["example"]["data"], columns=found.card["example"]["columns"])


def test_two_classes_have_one_roc_auc(tmp_path):
    two = iris().filter(pl.col("species") != "setosa")
    learn(tmp_path, two, n_estimators=5, random_state=1)
    done = judge(tmp_path)
    second = done.model.predict_proba(done.features)[:, 1]
    assert done.metrics["roc_auc"] == pytest.approx(metrics.roc_auc_score(done.actual == "virginica", second))


@pytest.mark.parametrize("classes", [2, 3])
def test_a_classifier_without_probabilities_is_ranked_by_its_decisions(tmp_path, classes):
    learn(tmp_path, iris().tail(50 * classes), estimator="sklearn.svm.LinearSVC", split={"stratify": True})
    done = judge(tmp_path)
    assert "log_loss" not in done.metrics
    assert done.metrics["roc_auc"] > 0.9
    assert "roc.png" in done.plots
    assert (done.card["predict_proba"], done.card["probabilities"]) == (False, None)


@pytest.mark.parametrize("extra", [{}, {"text": pl.lit("same")}], ids=["bare", "pipeline"])
def test_decisions_by_pairs_of_classes_have_no_roc(tmp_path, extra):
    data = iris().with_columns(**extra)
    learn(tmp_path, data, estimator="sklearn.svm.SVC", decision_function_shape="ovo")
    done = judge(tmp_path)
    assert done.metrics["accuracy"] > 0.9
    assert "roc_auc" not in done.metrics
    assert "roc.png" not in done.plots


def test_a_class_missing_in_the_test_part_leaves_out_only_the_roc(tmp_path):
    learn(tmp_path, iris(), n_estimators=5, random_state=1)
    pl.read_parquet(tmp_path / "test.parquet").filter(pl.col("species") != "setosa").write_parquet(
        tmp_path / "test.parquet"
    )
    done = judge(tmp_path)
    assert "roc_auc" not in done.metrics
    assert "log_loss" in done.metrics
    assert done.plots == ["confusion.png", "importance.png"]


def test_a_class_that_the_model_never_saw_is_said_and_scored_as_an_error(tmp_path, capsys):
    learn(tmp_path, iris(), n_estimators=5, random_state=1)
    strange = pl.col("species").replace("setosa", "pallida")
    pl.read_parquet(tmp_path / "test.parquet").with_columns(strange).write_parquet(tmp_path / "test.parquet")
    done = judge(tmp_path)
    assert "was not trained on ['pallida'] of 'species'" in capsys.readouterr().err
    assert done.metrics["accuracy"] < 0.8
    assert not {"log_loss", "roc_auc"} & set(done.metrics)


def test_a_metric_that_is_not_finite_is_left_out_of_the_json(tmp_path):
    learn(tmp_path, diabetes(), target="progression", estimator=RIDGE)
    huge = pl.col("progression") * 1e200
    pl.read_parquet(tmp_path / "test.parquet").with_columns(huge).write_parquet(tmp_path / "test.parquet")
    done = judge(tmp_path, "progression")
    assert done.metrics["mae"] > 1e200
    assert "rmse" not in done.metrics


def test_a_constant_test_target_has_no_r2(tmp_path):
    learn(tmp_path, diabetes(), target="progression", estimator=RIDGE)
    pl.read_parquet(tmp_path / "test.parquet").with_columns(progression=100.0).write_parquet(tmp_path / "test.parquet")
    assert set(judge(tmp_path, "progression").metrics) == {"mae", "rmse", "rows", "baseline"}


def test_the_card_describes_a_plain_model(iris_forest):
    card = iris_forest.card
    assert card["task"] == "classification"
    assert card["inputs"][0] == {"name": "sepal_length", "dtype": "float64", "nullable": False}
    assert card["output"] == {"dtype": "str"}
    assert card["classes"] == ["setosa", "versicolor", "virginica"]
    assert card["packages"] == ["joblib", "numpy", "scikit-learn"]
    assert len(card["example"]["data"]) == 5


def test_the_card_describes_a_regression(diabetes_ridge):
    card = diabetes_ridge.card
    assert (card["task"], card["output"]["dtype"]) == ("regression", "float64")
    assert card["classes"] is None
    assert card["probabilities"] is None
    assert not card["predict_proba"]


def test_the_card_of_a_pipeline_shows_text_and_missing_values(penguin_pipeline):
    card = penguin_pipeline.card
    assert card["inputs"] == [
        {"name": "island", "dtype": "str", "nullable": False},
        {"name": "body_mass_g", "dtype": "float64", "nullable": True},
        {"name": "sex", "dtype": "str", "nullable": True},
        {"name": "year", "dtype": "int64", "nullable": False},
    ]
    assert card["packages"] == ["joblib", "numpy", "pandas", "scikit-learn", "skrub"]
    for column in (1, 2):
        assert None in [row[column] for row in card["example"]["data"]]


def test_the_card_names_the_steps_that_were_chosen(penguin_pipeline, iris_forest):
    vectorizer, imputer, scaler, last = penguin_pipeline.card["steps"]
    assert vectorizer["step"] == "skrub.TableVectorizer"
    assert vectorizer["columns"] == {"numeric": ["body_mass_g", "year"], "low_cardinality": ["island", "sex"]}
    assert (imputer["step"], scaler["step"]) == ("sklearn.impute.SimpleImputer", "skrub.SquashingScaler")
    assert last == {"step": LOGISTIC, "params": {"max_iter": 500}}
    assert iris_forest.card["steps"] == [
        {"step": "sklearn.ensemble.RandomForestClassifier", "params": {"random_state": 42}}
    ]


@pytest.mark.parametrize("dtype", [None, object])
def test_the_cards_example_predicts_what_the_card_says(penguin_pipeline, dtype):
    card = penguin_pipeline.card
    frame = pd.DataFrame(card["example"]["data"], columns=card["example"]["columns"])
    if dtype:  # text as a server may hand it over
        frame = frame.astype({"island": dtype, "sex": dtype})
    assert penguin_pipeline.model.predict(frame).tolist() == card["predictions"]
    assert penguin_pipeline.model.predict_proba(frame).tolist() == card["probabilities"]


@pytest.mark.parametrize("part", ["train", "test"])
def test_a_value_missing_in_one_part_makes_the_column_nullable(tmp_path, part):
    table_ = iris().with_columns(petals=pl.Series([3, 4] * 75), big=pl.col("sepal_width") > 3)
    learn(tmp_path, table_, estimator="sklearn.ensemble.HistGradientBoostingClassifier", max_iter=3)
    hole = pl.when(pl.int_range(pl.len()) > 7).then(pl.col("petals", "big"))
    path = tmp_path / f"{part}.parquet"
    pl.read_parquet(path).with_columns(hole).write_parquet(path)
    done = judge(tmp_path)
    assert done.card["inputs"][4:] == [
        {"name": "petals", "dtype": "float64", "nullable": True},
        {"name": "big", "dtype": "float64", "nullable": True, "boolean": True},
    ]
    assert [None, None] in [row[4:] for row in done.card["example"]["data"]]


def test_dates_are_written_in_iso_format(tmp_path):
    days = pl.date_range(pl.date(2020, 1, 1), pl.date(2020, 5, 29)).alias("day")
    learn(tmp_path, iris().with_columns(days), estimator=LOGISTIC, max_iter=1000)
    card = judge(tmp_path).card
    assert card["inputs"][4] == {"name": "day", "dtype": "datetime", "nullable": False}
    assert all(row[4].startswith("2020-0") for row in card["example"]["data"])


def test_a_missing_date_is_null(tmp_path):
    days = pl.date_range(pl.date(2020, 1, 1), pl.date(2020, 5, 29), eager=True)
    table_ = iris().with_columns(
        day=pl.when(pl.col("sepal_length") < 6).then(days), never=pl.lit(None, dtype=pl.Datetime("us"))
    )
    learn(tmp_path, table_, estimator=LOGISTIC, max_iter=1000)
    card = judge(tmp_path).card
    assert None in [row[4] for row in card["example"]["data"]]
    assert {row[5] for row in card["example"]["data"]} == {None}


def _without(path):
    path.unlink()


def _holding(content):
    return lambda path: path.write_bytes(content)


def _dumping(thing):
    return lambda path: joblib.dump(thing, path)


def _changing(*expressions):
    return lambda path: pl.read_parquet(path).select(*expressions).write_parquet(path)


def _infinite(path):
    pl.read_parquet(path).with_columns(sepal_width=float("-inf")).write_parquet(path)


@pytest.mark.parametrize(
    ("name", "spoil", "message"),
    [
        ("m.joblib", _without, r"m\.joblib is missing; make it: dvc repro train@m"),
        ("m.joblib", _holding(b"\x80\x04half"), r"m\.joblib does not load \(.*\); make it again: dvc repro -f train@m"),
        ("m.joblib", _holding(b"cnosuchmodule\nModel\n."), r"does not load \(ModuleNotFoundError: .*nosuchmodule"),
        ("m.joblib", _dumping({"a": 1}), r"holds a dict, not a classifier or regressor"),
        ("test.parquet", _without, r"test\.parquet is missing; make it: dvc repro split@m"),
        (
            "test.parquet",
            _infinite,
            r"test\.parquet: column 'sepal_width' is infinite in 30 rows, first in row 1",
        ),
        ("test.parquet", _changing(pl.exclude("species")), r"test\.parquet: no target column 'species'; there are: "),
        ("test.parquet", _changing(pl.exclude("sepal_width")), r"no column 'sepal_width', which the model was"),
        (
            "test.parquet",
            _changing(pl.exclude("sepal_width"), pl.lit("wide").alias("sepal_width")),
            r"cannot be evaluated",
        ),
    ],
)
def test_what_cannot_be_judged_is_refused_and_nothing_is_written(tmp_path, name, spoil, message):
    learn(tmp_path, iris(), n_estimators=2, random_state=1)
    spoil(tmp_path / name)
    with pytest.raises(StageError, match=message) as refusal:
        judge(tmp_path)
    assert "\n" not in str(refusal.value)
    assert not (tmp_path / "out").exists()


def test_the_card_marks_booleans_that_the_model_gets_as_numbers_since_some_are_missing(tmp_path):
    data = pl.DataFrame({"a": [True, False, None] * 20, "b": [True, False] * 30, "species": ["x", "y", "x"] * 20})
    learn(tmp_path, data, estimator="sklearn.dummy.DummyClassifier")
    marked = {column["name"]: column.get("boolean") for column in judge(tmp_path).card["inputs"]}
    assert marked == {"a": True, "b": None}
