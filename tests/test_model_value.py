"""A model's digest by value: the same however it was computed and written, another one where anything in it differs."""

import copy
import io
import pickle
import random
from types import FunctionType, ModuleType

import joblib
import numpy as np
import pytest
from scipy.sparse import csr_matrix
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import make_column_transformer
from sklearn.datasets import load_diabetes, load_iris
from sklearn.ensemble import (
    GradientBoostingRegressor,
    HistGradientBoostingClassifier,
    RandomForestClassifier,
    RandomForestRegressor,
    StackingClassifier,
)
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import GridSearchCV
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler
from sklearn.svm import SVC

from dovetail.joblib_model import read
from dovetail.models.value import NoValueError, value_digest

X, y = load_iris(return_X_y=True)
A, b = load_diabetes(return_X_y=True)
LABELS = np.array(["setosa", "versicolor", "virginica"], dtype=object)[y]
BOOSTERS = ("lightgbm", "xgboost", "catboost", "builtins.bytearray")


def written(model):
    file = io.BytesIO()
    joblib.dump(model, file)
    return file.getvalue()


def as_read(model):
    return read(written(model), BOOSTERS)


def value(model):
    """Of the model as it is read from a file."""
    return value_digest(as_read(model))


def forest(**how):
    return RandomForestClassifier(20, random_state=0, **how).fit(X, LABELS)


@pytest.mark.parametrize("backend", ["threading", "loky"])
def test_a_forest_is_the_same_however_its_trees_were_computed(backend):
    one = forest()
    with joblib.parallel_config(backend):
        other = forest(n_jobs=2)
    assert written(one) != written(other)
    assert value(one) == value(other)


def test_a_search_is_the_same_however_long_it_took():
    one, other = (GridSearchCV(GaussianNB(), {"var_smoothing": [1e-9, 1e-8]}).fit(X, y) for _ in range(2))
    assert written(one) != written(other)
    assert value(one) == value(other)
    other.cv_results_["mean_test_score"][0] += 0.25
    assert value(one) != value(other)


def test_what_another_program_wrote_and_compressed_is_the_same(tmp_path):
    model = forest()
    for compress in (0, 3, ("xz", 1)):
        joblib.dump(model, tmp_path / "m.joblib", compress=compress)
        content = (tmp_path / "m.joblib").read_bytes()
        assert value_digest(read(content), content) == value(model)
    for protocol in (2, 5):
        content = pickle.dumps(model, protocol)
        assert value_digest(read(content), content) == value(model)


def test_skops_holds_the_same_model():
    skops = pytest.importorskip("skops.io")
    model = make_pipeline(StandardScaler(), LogisticRegression()).fit(X, y)
    assert value_digest(read(skops.dumps(model))) == value(model)


@pytest.mark.parametrize("library", ["lightgbm", "xgboost", "catboost"])
def test_a_booster_is_the_same_with_one_and_two_threads_and_not_with_one_more_tree(library, tmp_path):
    def fitted(threads, trees=4):
        if library == "lightgbm":
            from lightgbm import LGBMClassifier

            model = LGBMClassifier(n_estimators=trees, n_jobs=threads, verbose=-1, min_child_samples=5).fit(X, y)
            model.booster_.save_model(tmp_path / "m")
        elif library == "xgboost":
            from xgboost import XGBClassifier

            model = XGBClassifier(n_estimators=trees, n_jobs=threads).fit(X, y)
            model.save_model(tmp_path / "m.ubj")
            (tmp_path / "m.ubj").rename(tmp_path / "m")
        else:
            from catboost import CatBoostClassifier

            model = CatBoostClassifier(trees, thread_count=threads, verbose=0, allow_writing_files=False).fit(X, y)
            model.save_model(str(tmp_path / "m"))
        file = (tmp_path / "m").read_bytes()
        return value_digest(model), value_digest(None, file)

    assert fitted(1) == fitted(2)
    assert set(fitted(1)).isdisjoint(fitted(1, trees=5))


def test_an_xgboost_model_is_the_same_in_both_of_its_formats(tmp_path):
    from xgboost import XGBRegressor

    model = XGBRegressor(n_estimators=3).fit(A, b)
    for name in ("m.json", "m.ubj"):
        model.save_model(tmp_path / name)
    one, other = ((tmp_path / name).read_bytes() for name in ("m.json", "m.ubj"))
    assert value_digest(None, one) == value_digest(None, other)


# Mutations: every kind of thing that a fitted model keeps, changed by as little as there is.


def models():
    text = ["a cat", "a dog", "n_jobs threads", "cat and dog"] * 10
    mixed = np.array([[f"c{i % 3}", i] for i in range(150)], dtype=object)
    encoded = make_column_transformer((OneHotEncoder(), [0]), ("passthrough", [1]))
    return {
        "forest": RandomForestClassifier(5, random_state=0).fit(X, LABELS),
        "forest of numbers": RandomForestRegressor(3, random_state=0).fit(A, b),
        "histogram": HistGradientBoostingClassifier(max_iter=3).fit(X, y),
        "linear": make_pipeline(StandardScaler(), LogisticRegression()).fit(X, LABELS),
        "ridge": Ridge().fit(A, b),
        "bayes": GaussianNB().fit(X, y),
        "svm": SVC().fit(X, y),
        "neighbours": KNeighborsClassifier(algorithm="brute").fit(X, y),
        "network": MLPRegressor(hidden_layer_sizes=(4,), max_iter=5, random_state=0).fit(A, b),
        "words": make_pipeline(CountVectorizer(), LogisticRegression()).fit(text, [0, 1, 0, 1] * 10),
        "mixed": make_pipeline(encoded, LogisticRegression()).fit(mixed, y),
        "function": make_pipeline(FunctionTransformer(np.log1p), GaussianNB()).fit(X, y),
        "calibrated": CalibratedClassifierCV(GaussianNB(), method="isotonic", cv=2).fit(X, y),
        "sparse": KNeighborsClassifier(algorithm="brute").fit(csr_matrix(X), y),
        "balls": KNeighborsClassifier(algorithm="ball_tree").fit(X[:40], y[:40]),
        "seeded": GradientBoostingRegressor(n_estimators=2, random_state=np.random.RandomState(3)).fit(A, b),
        "stack": StackingClassifier([("b", GaussianNB()), ("l", LogisticRegression())], cv=2).fit(X, y),
    }


def places(thing, seen, way=()):
    """Every place below an object that can be changed: the holder and its key."""
    if id(thing) in seen or isinstance(thing, type | FunctionType | ModuleType | np.ufunc):
        return
    seen.add(id(thing))
    if isinstance(thing, dict):
        pairs = list(thing.items())
    elif isinstance(thing, list | tuple):
        pairs = list(enumerate(thing))
    elif isinstance(thing, np.ndarray) and thing.dtype.kind == "O":
        pairs = []
    else:
        pairs = list(getattr(thing, "__dict__", {}).items())
    for key, held in pairs:
        if isinstance(held, bool | int | float | str | np.ndarray | np.generic | type(None)) and not isinstance(
            thing, tuple
        ):
            yield thing, key
        yield from places(held, seen, (*way, key))


def changed(held, dice):
    """As little else as can be."""
    if isinstance(held, np.ndarray) and held.size:
        other = held.copy(order="A")
        spot = tuple(dice.randrange(n) for n in held.shape)
        if other.dtype.names:
            name = dice.choice(other.dtype.names)
            other[name][spot] = changed(other[name][spot], dice)
        else:
            other[spot] = changed(other[spot], dice)
        return other
    if isinstance(held, bool | np.bool_):
        return type(held)(not held)
    if isinstance(held, float | np.floating):
        return type(held)(np.nextafter(held, type(held)(np.inf)) if np.isfinite(held) else 0.0)
    if isinstance(held, int | np.integer):
        return type(held)(int(held) ^ 1)
    if isinstance(held, str):
        return held + "'"
    return 7


COMPUTED = {"n_jobs", "n_threads", "_sklearn_version"}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_no_mutated_model_has_the_value_of_the_model():
    dice, tried, kinds = random.Random(0), 0, set()
    originals = {name: (as_read(model), value(model)) for name, model in models().items()}
    while tried < 1000:
        name, (model, before) = dice.choice(list(originals.items()))
        mutant = copy.deepcopy(model)
        assert value_digest(mutant) == before
        holder, key = dice.choice([place for place in places(mutant, set()) if place[1] not in COMPUTED])
        held = holder[key] if isinstance(holder, dict | list) else getattr(holder, key)
        other = changed(held, dice)
        try:
            if isinstance(holder, dict | list):
                holder[key] = other
            else:
                setattr(holder, key, other)
        except AttributeError:  # a constant of a compiled class
            continue
        if name == "calibrated" and written(mutant) == written(copy.deepcopy(model)):
            continue  # made anew when it is read: no file keeps it
        tried += 1
        kinds.add((name, key))
        assert value_digest(mutant) != before, (name, key, held, other)
    assert len(kinds) > 100


def test_a_tree_that_differs_in_one_threshold_or_one_vote_is_another():
    model = forest()
    states = [copy.deepcopy(model) for _ in range(3)]
    for state, part in zip(states, ("nodes", "values"), strict=False):
        tree = state.estimators_[3].tree_
        kept = tree.__getstate__()
        if part == "nodes":
            kept["nodes"]["threshold"][0] = np.nextafter(kept["nodes"]["threshold"][0], np.inf)
        else:
            kept["values"][-1, 0, 0] = np.nextafter(kept["values"][-1, 0, 0], np.inf)
        tree.__setstate__(kept)
    assert len({value(state) for state in states}) == 3


def test_what_lies_between_the_fields_of_a_row_says_nothing():
    kind = np.dtype([("a", "i8"), ("b", "u1")], align=True)
    rows = [np.frombuffer(bytes([9]) * kind.itemsize, dtype=kind).copy() for _ in range(2)]
    rows[1].view(np.uint8)[-1] = 77  # padding
    assert rows[0].tobytes() != rows[1].tobytes()
    assert value_digest(rows[0]) == value_digest(rows[1])
    rows[1]["b"] = 3
    assert value_digest(rows[0][:0]) != value_digest(rows[0])
    assert value_digest(rows[0]) != value_digest(rows[1])


def test_a_word_that_is_named_like_a_number_of_threads_counts():
    one, other = ({"n_jobs": 1, "x": 2}, {"n_jobs": 5, "x": 2})
    assert value_digest([one]) != value_digest([other])


class Looped:
    def __init__(self, n, *, shared):
        self.n, self.me = n, self
        part = [n]
        self.parts = [part, part if shared else [n]]


def test_what_holds_itself_has_a_value_and_sharing_says_nothing():
    assert value_digest(Looped(1, shared=True)) == value_digest(Looped(1, shared=False))
    assert value_digest(Looped(1, shared=True)) != value_digest(Looped(2, shared=True))


def test_the_lengths_of_parts_count():
    pairs = [
        (["ab", "c"], ["a", "bc"]),
        ([[1], 2], [[1, 2]]),
        ({"a": None}, {"a": 0}),
        (1, True),
        (1, 1.0),
        ("1", b"1"),
    ]
    for one, other in [*pairs, (0.0, -0.0), ({1, 2}, [1, 2]), (np.float32(1), np.float64(1)), ([], ())]:
        assert value_digest(one) != value_digest(other), (one, other)


def test_what_has_no_name_and_what_is_nested_without_end_has_no_value():
    deep = []
    for _ in range(100_000):
        deep = [deep]
    for thing in (lambda: 1, deep, (n for n in [1])):
        with pytest.raises(NoValueError):
            value_digest(thing)
