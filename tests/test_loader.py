"""The loader that travels with a model: what a pickle may name, however the name is hidden in it."""

import io
import os
import pickle
import warnings
from pathlib import Path

import joblib
import numpy as np
import pytest
from sklearn.datasets import load_iris
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.feature_selection import SelectKBest, f_classif
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from dovetail.joblib_model import NotAllowedError, read


class Payload:
    """Runs a command when it is unpickled."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.system, (f"touch {self.marker}",)


def dumped(value, **options):
    content = io.BytesIO()
    joblib.dump(value, content, **options)
    return content.getvalue()


@pytest.mark.parametrize("options", [{}, {"compress": 3}, {"protocol": 2}], ids=str)
@pytest.mark.parametrize(
    "hide",
    [
        lambda p: p,
        lambda p: {"a": [p]},
        lambda p: np.array([p], dtype=object),
        lambda p: np.array([[p, 1]], dtype=object),
    ],
    ids=["bare", "nested", "array of objects", "matrix of objects"],
)
def test_a_command_is_not_run_wherever_it_hides(tmp_path, hide, options):
    marker = tmp_path / "ran"
    content = dumped(hide(Payload(marker)), **options)
    with pytest.raises(NotAllowedError, match=r"names posix\.system"):
        read(content)
    assert not marker.exists()


@pytest.mark.parametrize(
    ("content", "name"),
    [
        (b"cbuiltins\neval\n.", "builtins.eval"),
        (b"cbuiltins\ngetattr\n.", "builtins.getattr"),
        (b"csklearn.datasets._base\nurlretrieve\n.", "sklearn.datasets._base.urlretrieve"),
        (b"csklearn.utils.fixes\nplatform\n.", "sklearn.utils.fixes.platform"),  # a module that it imported
        (b"\x80\x04\x8c\x08sklearn.\x8c\x09os.system\x93.", "sklearn..os.system"),
        (b"\x80\x04\x8c\x07sklearn\x8c\x0fbase.os.system_\x93.", "sklearn.base.os.system_"),
        (b"cnumpy\nload\n.", "numpy.load"),
        (b"cpandas\neval\n.", "pandas.eval"),
        (b"cpandas\nread_pickle\n.", "pandas.read_pickle"),
        (b"cnumpy.testing\nrundocs\n.", "numpy.testing.rundocs"),
        (b"csklearnish\nModel\n.", "sklearnish.Model"),
    ],
)
def test_a_name_that_does_harm_is_refused_though_its_module_is_allowed(content, name):
    with pytest.raises(NotAllowedError) as refused:
        read(content)
    assert refused.value.name == name


def test_what_is_allowed_besides_is_read():
    content = dumped(os.path.join)
    with pytest.raises(NotAllowedError):
        read(content)
    assert read(content, allow=["posixpath.join"]) is os.path.join
    with pytest.raises(NotAllowedError):  # a package allows its classes, never its functions
        read(content, allow=["posixpath"])


@pytest.mark.parametrize(
    "model",
    [
        RandomForestClassifier(3),
        HistGradientBoostingClassifier(max_iter=2),
        GridSearchCV(LogisticRegression(max_iter=500), {"C": [1, 2]}),
        make_pipeline(FunctionTransformer(np.log1p), SelectKBest(f_classif, k=2), LogisticRegression(max_iter=500)),
    ],
    ids=lambda model: type(model).__name__,
)
def test_the_usual_models_are_read(model):
    features, target = load_iris(return_X_y=True)
    names = np.array(["setosa", "versicolor", "virginica"], dtype=object)[target]
    fitted = model.fit(features, names)
    assert (read(dumped(fitted)).predict(features) == fitted.predict(features)).all()


def test_outside_of_a_reading_pickles_are_as_free_as_ever():
    read(dumped({"a": 1}))
    assert joblib.load(io.BytesIO(dumped(os.path.join))) is os.path.join


def answers(model):
    """What a model says of the rows that it was fitted on, by the first method that it has for one of their kinds."""
    import fitted_models as rows

    np.random.seed(0)  # noqa: NPY002  (what draws from it)
    for method in ("predict", "transform", "score_samples"):
        if hasattr(model, method):
            for given in (rows.X, rows.FRAME, rows.TEXT, rows.FRAME[["city", "note"]], rows.FRAME[["city", "kind"]]):
                try:
                    return getattr(model, method)(given)
                except Exception:
                    continue
    return None


def same(ours, theirs):
    if hasattr(ours, "toarray"):
        ours, theirs = ours.toarray(), theirs.toarray()
    if isinstance(ours, list):
        return all(map(same, ours, theirs))
    ours, theirs = np.asarray(ours), np.asarray(theirs)
    if ours.dtype.kind == "f" and ours.dtype == theirs.dtype:  # where an array lies in memory can move its last bits
        return np.allclose(ours, theirs, rtol=1e-9, atol=1e-12, equal_nan=True)
    return joblib.hash(ours) == joblib.hash(theirs)


@pytest.fixture
def fitted(monkeypatch):
    """The module of the script that makes the table."""
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "scripts"))
    warnings.simplefilter("ignore")
    import fitted_models

    return fitted_models


@pytest.mark.slow
def test_every_estimator_that_fits_is_read_and_says_the_same(fitted):
    count = 0
    for name, model in fitted.estimators(once=True):
        ours, theirs = answers(read(dumped(model))), answers(model)
        assert same(ours, theirs), name
        count += theirs is not None
    assert count > 150


@pytest.mark.slow
def test_pipelines_and_skrubs_are_read_and_say_the_same(fitted):
    asked = [*fitted.pipelines(), *fitted.skrubs()]
    assert len([name for name, _ in asked if name.startswith("pipeline")]) >= 30
    for name, model in asked:
        for content in (dumped(model), dumped(model, protocol=2, compress=3), pickle.dumps(model)):
            assert same(answers(read(content)), answers(model)), name


@pytest.mark.slow
def test_values_in_models_are_read_as_joblib_reads_them(fitted):
    for name, value in fitted.values():
        ours, theirs = read(dumped(value)), joblib.load(io.BytesIO(dumped(value)))
        if name == "masked":  # joblib cannot hash it
            assert (ours == theirs).all()
        else:
            assert joblib.hash(ours) == joblib.hash(theirs), name


@pytest.mark.slow
@pytest.mark.parametrize(
    ("package", "exact"),
    [("lightgbm", "lightgbm.sklearn.LGBMClassifier"), ("xgboost", "xgboost.sklearn.XGBClassifier")],
)
def test_boosters_are_read_where_they_are_allowed(package, exact):
    module = pytest.importorskip(package)
    features, target = load_iris(return_X_y=True)
    name = exact.rpartition(".")[2]
    model = getattr(module, name)(n_estimators=3).fit(features, target)
    content = dumped(model)
    with pytest.raises(NotAllowedError) as refused:
        read(content)
    assert refused.value.name == exact
    assert (read(content, [package]).predict(features) == model.predict(features)).all()


def test_a_skops_file_is_held_to_the_same_table():
    skops = pytest.importorskip("skops.io")
    features, target = load_iris(return_X_y=True)
    for model in (RandomForestClassifier(3), HistGradientBoostingClassifier(max_iter=2),
                  make_pipeline(FunctionTransformer(np.log1p), LogisticRegression(max_iter=500))):  # fmt: skip
        model.fit(features, target)
        assert (read(skops.dumps(model)).predict(features) == model.predict(features)).all()
    for func, name in ((np.save, "numpy.save"), (os.system, "posix.system")):
        with pytest.raises(NotAllowedError) as refused:
            read(skops.dumps(FunctionTransformer(func)))
        assert refused.value.name == name
