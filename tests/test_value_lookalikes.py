"""What looks like the same model and is not has another value; what is only kept in another way has the same."""

import functools
import pickle
from types import FunctionType

import numpy as np
import pyarrow as pa
import pytest
import scipy.special
from scipy.sparse import csc_matrix, csr_matrix
from sklearn.base import BaseEstimator
from sklearn.datasets import load_diabetes

from dovetail.models.value import NoValueError, same_value, value_digest

A, b = load_diabetes(return_X_y=True)


def boosted(kind):
    """A fitted model of another library's, twice, as if it had been read twice."""
    if kind == "lightgbm":
        import lightgbm

        model = lightgbm.train({"verbose": -1}, lightgbm.Dataset(A, b), 5)
    elif kind == "xgboost":
        from xgboost import XGBRegressor

        model = XGBRegressor(n_estimators=3).fit(A, b)
    else:
        from catboost import CatBoostRegressor

        model = CatBoostRegressor(3, verbose=0, allow_writing_files=False).fit(A, b)
    return [pickle.loads(pickle.dumps(model)) for _ in range(2)]


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        ("lightgbm", lambda model: setattr(model, "best_iteration", 2)),
        ("xgboost", lambda model: model.get_booster().set_attr(best_iteration="1")),
        ("xgboost", lambda model: model.set_params(missing=0.0)),
        ("catboost", lambda model: vars(model)["_init_params"].update(loss_function="Poisson")),
        ("catboost", lambda model: model.set_scale_and_bias(2, [1])),
    ],
)
def test_what_a_booster_keeps_beside_its_trees_counts_where_it_predicts(kind, change):
    one, other = boosted(kind)
    before = one.predict(A).tobytes()
    assert value_digest(one) == value_digest(one) == value_digest(other)
    change(other)
    assert value_digest(one) != value_digest(other)
    assert one.predict(A).tobytes() == before  # to be told costs a model nothing


def put(n, thing, _state):
    thing.n = n


class Sets:
    """An object whose state a function of its own puts in."""

    def __init__(self, n):
        self.n = n

    def __reduce__(self):
        return (Sets, (0,), {}, None, None, functools.partial(put, self.n))


class Mine(BaseEstimator):
    """A user's estimator: what its attributes do nobody knows."""

    def __init__(self, num_threads):
        self.num_threads = num_threads


@pytest.mark.filterwarnings("ignore:numpy.core is deprecated:DeprecationWarning")  # pickle looks through all modules
def test_what_looks_alike_and_is_not_has_another_value():
    overlapping = np.dtype({"names": ["a", "b"], "formats": ["i4", "i2"], "offsets": [0, 0]})
    text = np.dtypes.StringDType()
    nan = np.array([np.nan, np.nan])
    nan.view("u8")[1] ^= 1
    moved = np.random.RandomState(0)
    moved.rand()
    pairs = [
        (np.dtype(("f4", (2,))), np.dtype(("i4", (2,)))),
        (np.zeros(2, overlapping), np.ones(2, overlapping)),
        (np.array(["a", "b"], dtype=text), np.array(["a", "c"], dtype=text)),
        (nan[:1], nan[1:]),
        (np.ma.array([1.0, 2.0], mask=[0, 1]), np.ma.array([1.0, 2.0], mask=[1, 0])),
        (np.rec.array([(1, 2.0)], names="a,b"), np.rec.array([(1, 3.0)], names="a,b")),
        (np.log1p, scipy.special.log1p),
        (pa.scalar(1, pa.timestamp("s")), pa.scalar(1000, pa.timestamp("ms"))),
        (pa.py_buffer(b"abc"), pa.py_buffer(b"abd")),
        (csr_matrix([[1.0, 0]]), csc_matrix([[1.0, 0]])),
        (moved, np.random.RandomState(0)),
        (Sets(1), Sets(2)),
        (Mine(1), Mine(2)),
    ]
    for one, other in pairs:
        once, again, different = (pickle.loads(pickle.dumps(thing)) for thing in (one, one, other))
        assert value_digest(once) == value_digest(again), one
        assert value_digest(once) != value_digest(different), (one, other)


def test_an_array_that_lies_in_a_file_is_the_same_array(tmp_path):
    mapped = np.memmap(tmp_path / "m", dtype="f8", mode="w+", shape=3)
    assert value_digest(mapped) == value_digest(np.zeros(3))


def named():
    """A function of this file."""


def test_code_that_a_file_brought_along_has_no_value_whatever_it_is_called():
    code = FunctionType(boosted.__code__, {}, "named")
    code.__module__, code.__qualname__ = __name__, "named"  # as cloudpickle makes it
    assert value_digest(named)
    for thing in (code, type("Mine", (), {"__module__": __name__})()):
        with pytest.raises(NoValueError, match="whose code has no name"):
            value_digest(thing)


def test_values_of_two_forms_are_not_compared():
    assert same_value("v1:ab", "v1:ab") is True
    assert same_value("v1:ab", "v1:cd") is False
    for one, other in (("v1:ab", "v2:ab"), (None, "v1:ab"), ("v1:ab", None)):
        assert same_value(one, other) is None
