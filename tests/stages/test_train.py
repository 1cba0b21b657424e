import re
import sys

import joblib
import numpy as np
import polars as pl
import pytest
from modelling import FOREST, LOGISTIC, RIDGE, config, diabetes, files, iris, params, penguins, stage
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import Pipeline
from sklearn.svm import SVR as SVR_CLASS

from dovetail.joblib_model import read
from stages import train
from stages.common.errors import StageError
from stages.modelling import model_file
from stages.training.fitting import build

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
        (iris(), {"n_estimators": -5}, r"models\.m\.train\.params: The 'n_estimators' parameter of .* Got -5 instead"),
        (iris(), {"estimator": LOGISTIC, "max_iter": "many"}, r"models\.m\.train\.params: The 'max_iter' parameter"),
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
        build("params.yaml: models.m.train", params(estimator="mine.Mine").models["m"].train)
    sys.modules.pop("mine", None)


def test_a_refusal_is_one_line_and_exit_code_2_and_leaves_the_old_model(tmp_path):
    (tmp_path / "m.joblib").write_bytes(b"old")
    answer = stage(tmp_path, "train", config(), train="data/train.parquet", model="m.joblib")
    assert answer.returncode == 2
    assert answer.stderr == "train@m: data/train.parquet is missing; make it: dvc repro split@m\n"
    assert (tmp_path / "m.joblib").read_bytes() == b"old"


SVR = "sklearn.svm.SVR"


def wide(rows=200):
    """A target that a narrow column tells, beside a wide one that says nothing."""
    rng = np.random.default_rng(3)
    narrow, noise = rng.normal(size=rows), rng.normal(size=rows) * 10_000
    return pl.DataFrame({"narrow": narrow, "noise": noise, "y": 3 * narrow + rng.normal(size=rows) * 0.1})


def test_auto_scales_for_an_estimator_that_goes_by_scales(tmp_path, capsys):
    features, y = wide().drop("y").to_pandas(), wide()["y"].to_numpy()
    bare = run(tmp_path, wide(), target="y", estimator=SVR)
    assert type(bare) is SVR_CLASS
    said = capsys.readouterr().err
    assert re.search(
        r"train@m: sklearn\.svm\.SVR goes by scales, and 'noise' is spread \d+ times as wide as 'narr", said
    )
    assert "perhaps params.yaml: models.m.train.prepare: auto" in said
    scaled = run(tmp_path, wide(), target="y", estimator=SVR, prepare="auto")
    assert "goes by scales" not in capsys.readouterr().err
    assert bare.score(features, y) < 0.2
    assert scaled.score(features, y) > 0.8


def test_auto_scales_the_target_where_an_estimator_goes_by_its_scale(tmp_path):
    table = diabetes()
    features, y = table.drop("progression").to_pandas(), table["progression"].to_numpy()
    bare, scaled = (
        run(tmp_path, table, target="progression", estimator=SVR, prepare=how).score(features, y)
        for how in ("minimal", "auto")
    )
    assert bare < 0.3
    assert scaled > 0.5


@pytest.mark.parametrize("estimator", [FOREST, HIST, "sklearn.tree.DecisionTreeClassifier", "xgboost.XGBClassifier"])
def test_auto_puts_nothing_before_trees_and_numbers(tmp_path, estimator):
    model = run(tmp_path, iris(), estimator=estimator, prepare="auto")
    assert not isinstance(model, Pipeline)


def test_auto_scales_no_number_before_trees(tmp_path):
    model = run(tmp_path, penguins(), estimator="sklearn.ensemble.ExtraTreesClassifier", prepare="auto")
    assert "SquashingScaler" not in str(model)
    assert isinstance(model, Pipeline)


def test_a_list_of_steps_comes_before_the_estimator_in_its_order(tmp_path):
    steps = [
        {"estimator": "sklearn.decomposition.PCA", "params": {"n_components": 2, "random_state": 0}},
        "sklearn.preprocessing.StandardScaler",
    ]
    model = run(tmp_path, iris(), estimator=LOGISTIC, prepare=steps)
    assert [type(step).__name__ for _, step in model.steps] == ["PCA", "StandardScaler", "LogisticRegression"]
    assert model[0].n_components == 2


NESTED = {
    "pipeline": (
        "sklearn.pipeline.Pipeline",
        {
            "steps": [
                ["scale", {"estimator": "sklearn.preprocessing.StandardScaler"}],
                ["last", {"estimator": LOGISTIC}],
            ]
        },
    ),
    "grid": (
        "sklearn.model_selection.GridSearchCV",
        {"estimator": {"estimator": LOGISTIC, "params": {"max_iter": 900}}, "param_grid": {"C": [0.1, 1.0]}, "cv": 3},
    ),
    "stacking": (
        "sklearn.ensemble.StackingClassifier",
        {
            "estimators": [
                ["tree", {"estimator": "sklearn.tree.DecisionTreeClassifier", "params": {"random_state": 0}}],
                ["near", {"estimator": "sklearn.neighbors.KNeighborsClassifier"}],
            ],
            "final_estimator": {"estimator": LOGISTIC},
            "cv": 3,
        },
    ),
    "calibrated": (
        "sklearn.calibration.CalibratedClassifierCV",
        {"estimator": {"estimator": "sklearn.svm.LinearSVC", "params": {"random_state": 0}}, "cv": 3},
    ),
    "columns": (
        "sklearn.pipeline.Pipeline",
        {
            "steps": [
                [
                    "columns",
                    {
                        "estimator": "sklearn.compose.ColumnTransformer",
                        "params": {
                            "transformers": [
                                ["wide", {"estimator": "sklearn.preprocessing.MinMaxScaler"}, ["sepal_length"]],
                                ["rest", "passthrough", ["petal_length"]],
                            ]
                        },
                    },
                ],
                ["last", {"estimator": LOGISTIC}],
            ]
        },
    ),
}


@pytest.mark.parametrize("name", NESTED)
def test_params_hold_estimators(tmp_path, name):
    estimator, given = NESTED[name]
    model = run(tmp_path, iris(), estimator=estimator, given=given)
    assert model.score(iris().drop("species").to_pandas(), iris()["species"].to_numpy()) > 0.85
    assert params(estimator=estimator, given=given).models["m"].train.params == given


def test_a_target_can_be_transformed(tmp_path):
    inner = {"estimator": RIDGE, "params": {"alpha": 0.1}}
    model = run(
        tmp_path,
        diabetes(),
        target="progression",
        estimator="sklearn.compose.TransformedTargetRegressor",
        regressor=inner,
        transformer={"estimator": "sklearn.preprocessing.QuantileTransformer", "params": {"n_quantiles": 50}},
    )
    assert model.regressor_.alpha == 0.1


@pytest.mark.parametrize("table", [iris(), penguins()], ids=["numbers", "text"])
def test_classes_are_numbered_for_an_estimator_that_needs_it_and_named_when_it_predicts(tmp_path, table):
    model = run(tmp_path, table, estimator="xgboost.XGBClassifier", n_estimators=20)
    features, species = table.drop("species").to_pandas(), table["species"].to_numpy()
    assert set(model.predict(features)) <= set(species)
    assert model.score(features, species) > 0.9
    assert model.classes_.tolist() == sorted(set(species))
    assert model.predict_proba(features).shape == (len(species), 3)


def test_whole_numbers_that_begin_elsewhere_are_classes_too(tmp_path):
    table = iris().with_columns(
        species=pl.col("species").replace_strict({"setosa": 3, "versicolor": 7, "virginica": 9})
    )
    model = run(tmp_path, table, estimator="xgboost.XGBClassifier", n_estimators=20)
    assert set(model.predict(table.drop("species").to_pandas())) == {3, 7, 9}


def two(rows=400):
    """Two classes that overlap, one in ten of them `yes`."""
    rng = np.random.default_rng(5)
    is_yes = rng.random(rows) < 0.1
    return pl.DataFrame({"x": is_yes + rng.normal(size=rows), "y": np.where(is_yes, "yes", "no").tolist()})


@pytest.mark.parametrize("estimator", [LOGISTIC, "sklearn.naive_bayes.GaussianNB", "xgboost.XGBClassifier"])
def test_any_classifier_takes_class_weights(tmp_path, estimator):
    features = two().drop("y").to_pandas()
    plain, balanced, chosen = (
        (run(tmp_path, two(), target="y", estimator=estimator, **given).predict(features) == "yes").sum()
        for given in ({}, {"class_weight": "balanced"}, {"class_weight": {"yes": 5.0, "no": 1.0}})
    )
    assert plain < balanced
    assert plain < chosen


def test_a_threshold_decides_for_the_second_class(tmp_path):
    features = two().drop("y").to_pandas()
    plain = run(tmp_path, two(), target="y", estimator=LOGISTIC)
    early = run(tmp_path, two(), target="y", estimator=LOGISTIC, threshold=0.1, class_weight="balanced")
    sure = plain.predict_proba(features)[:, 1]
    assert early.predict_proba(features)[:, 1].mean() > sure.mean()
    alone = run(tmp_path, two(), target="y", estimator=LOGISTIC, threshold=0.1)
    assert (alone.predict(features) == "yes").tolist() == (sure >= 0.1).tolist()


@pytest.mark.parametrize(
    ("table", "given", "message"),
    [
        (penguins(), {"estimator": LOGISTIC, "prepare": "none"}, r"cannot be fitted on .*; perhaps prepare: auto"),
        (
            iris().rename({"sepal_length": "sepal[0]"}),
            {"estimator": "xgboost.XGBClassifier"},
            r"may not contain .*; if it is the names, rename columns such as 'sepal\[0\]' in the cleaning script",
        ),
        (
            iris().rename({"sepal_length": 'a "b"'}),
            {"estimator": "lightgbm.LGBMClassifier"},
            r"LightGBMError: .*; if it is the names, rename columns such as",
        ),
        (iris(), {"prepare": ["sklearn.svm.SVC"]}, r"train\.prepare\.0 = 'sklearn\.svm\.SVC' has no transform"),
        (iris(), {"prepare": ["sklearn.decomposition.PAC"]}, r"prepare\.0\.estimator = .* no PAC; did you mean PCA"),
        (
            iris(),
            {"estimator": NESTED["grid"][0], "param_grid": {}, "estimator_": 1},
            r"unknown param 'estimator_'; GridSearchCV takes: estimator, ",
        ),
        (
            iris(),
            {"prepare": [{"estimator": "sklearn.decomposition.PCA", "params": {"n": 1}}]},
            r"prepare\.0\.params: unknown param 'n'; PCA takes: ",
        ),
        (iris(), {"threshold": 0.3}, r"a threshold is for two classes, and there are 3"),
        (two(), {"target": "y", "threshold": 2}, r"params\.threshold = 2: write a probability such as 0\.3"),
        (two(), {"target": "y", "estimator": "sklearn.svm.LinearSVC", "threshold": 0.3}, r"gives no probabilities"),
        (two(), {"target": "y", "estimator": "sklearn.neighbors.KNeighborsClassifier", "class_weight": "balanced"},
         r"class_weight: .*KNeighborsClassifier takes no weights; leave it out"),
        (two(), {"target": "y", "estimator": "xgboost.XGBClassifier", "class_weight": "heavy"}, r"class_weight"),
        (diabetes(), {"target": "progression", "estimator": RIDGE, "threshold": 0.5}, r"threshold is for classifiers"),
    ],
)  # fmt: skip
def test_what_cannot_be_put_around_an_estimator_is_refused(tmp_path, table, given, message):
    with pytest.raises(StageError, match=message) as refusal:
        run(tmp_path, table, **given)
    assert "\n" not in str(refusal.value)
    assert files(tmp_path) == ["train.parquet"]


@pytest.mark.parametrize(
    ("table", "given"),
    [
        *((iris(), {"estimator": estimator, "given": inner}) for estimator, inner in NESTED.values()),
        (penguins(), {"estimator": "sklearn.svm.SVC", "prepare": "auto"}),
        (diabetes(), {"target": "progression", "estimator": SVR, "prepare": "auto"}),
        (two(), {"target": "y", "estimator": LOGISTIC, "threshold": 0.1}),
        (iris(), {"estimator": "xgboost.XGBClassifier", "n_estimators": 2}),
    ],
    ids=[*NESTED, "auto", "auto target", "threshold", "numbered"],
)
def test_what_is_put_around_an_estimator_is_read_by_the_registrys_closed_table(tmp_path, table, given):
    model = run(tmp_path, table, **given)
    allow = ["xgboost.sklearn.XGBClassifier", "xgboost.core.Booster"] if "xgboost" in given["estimator"] else []
    same = read((tmp_path / "out" / "m.joblib").read_bytes(), allow)
    features = table.drop(given.get("target", "species")).to_pandas()
    assert same.predict(features).tolist() == model.predict(features).tolist()
