"""A forest is answered by the sum of its trees only where that gives the same bits, and takes less time."""

import timeit

import numpy as np
import pandas as pd
import pytest
import sklearn
from sklearn import ensemble
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from dovetail.serving.engine.forest_predictor import proved

NAMES = list("abcde")
RANDOM = np.random.default_rng(0)
ROWS = pd.DataFrame(RANDOM.normal(size=(3000, 5)), columns=NAMES)
LABEL = np.where(ROWS["a"] + ROWS["b"] > 0, "yes", "no")
NUMBER = ROWS["a"] * 3 + RANDOM.normal(size=len(ROWS))
FORESTS = {
    "classifier": ensemble.RandomForestClassifier(30, random_state=0).fit(ROWS, LABEL),
    "classifier of arrays": ensemble.RandomForestClassifier(30, random_state=0).fit(ROWS.to_numpy(), LABEL),
    "three classes": ensemble.RandomForestClassifier(30, random_state=0).fit(ROWS, np.digitize(NUMBER, [-1, 1])),
    "extra trees": ensemble.ExtraTreesClassifier(30, random_state=0).fit(ROWS, LABEL),
    "regressor": ensemble.RandomForestRegressor(30, random_state=0).fit(ROWS, NUMBER),
    "extra trees regressor": ensemble.ExtraTreesRegressor(30, random_state=0, bootstrap=True).fit(ROWS, NUMBER),
    "pipeline": make_pipeline(StandardScaler(), ensemble.RandomForestClassifier(30, random_state=0)).fit(ROWS, LABEL),
}
OTHERS = {
    "several outputs": ensemble.RandomForestClassifier(5).fit(ROWS, np.column_stack([LABEL, LABEL[::-1]])),
    "no forest": LogisticRegression().fit(ROWS, LABEL),
    "forest within": ensemble.VotingClassifier([("f", ensemble.RandomForestClassifier(5))]).fit(ROWS, LABEL),
    "other columns": ensemble.RandomForestClassifier(5).fit(ROWS[NAMES[::-1]], LABEL),
}


def methods(model):
    return [name for name in ("predict", "predict_proba") if hasattr(model, name)]


def predictor(model):
    return proved(model, NAMES, methods(model), [ROWS.head(3)])


@pytest.mark.filterwarnings("ignore:X has feature names")  # scikit-learn's, of a model trained on arrays
@pytest.mark.parametrize("kind", FORESTS)
@pytest.mark.parametrize("rows", [1, 500, 3000])
def test_gives_the_same_bits_as_the_model(kind, rows):
    model = FORESTS[kind]
    table = ROWS.head(rows) if hasattr(model, "feature_names_in_") else ROWS.head(rows).to_numpy()
    for method in methods(model):
        ours, theirs = predictor(model).answer(method, table), getattr(model, method)(table)
        assert ours.dtype == theirs.dtype
        assert ours.tobytes() == theirs.tobytes()


@pytest.mark.parametrize("kind", OTHERS)
def test_other_models_answer_themselves(kind):
    assert predictor(OTHERS[kind]) is None


def test_a_release_of_scikit_learn_that_answers_otherwise_answers_itself():
    home = "sklearn.ensemble._forest"
    changed = {"__module__": home, "predict_proba": lambda _, rows: np.eye(2)[np.zeros(len(rows), dtype=int)]}
    kind = type("RandomForestClassifier", (ensemble.RandomForestClassifier,), changed)
    assert predictor(kind(5, random_state=0).fit(ROWS, LABEL)) is None
    same = type("RandomForestClassifier", (ensemble.RandomForestClassifier,), {"__module__": home})
    assert predictor(same(5, random_state=0).fit(ROWS, LABEL))


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e300])
def test_what_scikit_learn_refuses_is_left_to_it(value):
    rows = ROWS.head(2).copy()
    rows.iloc[1, 0] = value
    assert predictor(FORESTS["classifier"]).answer("predict", rows) is None


def test_columns_in_another_order_are_left_to_the_model():
    assert predictor(FORESTS["classifier"]).answer("predict", ROWS[NAMES[::-1]].head(1)) is None


def test_takes_less_time_for_one_row():
    model, row = FORESTS["classifier"], ROWS.head(1)
    ours = predictor(model)
    with sklearn.config_context(skip_parameter_validation=True):  # as the model process has it
        slow = min(timeit.repeat(lambda: model.predict(row), number=10, repeat=5))
        fast = min(timeit.repeat(lambda: ours.answer("predict", row), number=10, repeat=5))
    assert slow > 2 * fast
