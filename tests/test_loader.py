"""The loader that travels with a model: what a pickle may name, however the name is hidden in it."""

import io
import os

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
