"""Stage `train`: the train part → a fitted scikit-learn compatible model in its file."""

import difflib
import inspect
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.base import is_classifier, is_regressor
from sklearn.utils import get_tags

from stages.common.errors import StageError
from stages.common.models import Model
from stages.common.outputs import replacing
from stages.common.params import PARAMS_FILE, Params, block
from stages.modelling import model_file, table

if TYPE_CHECKING:
    import pandas as pd


def run(key: str, params: Params, *, train: Path, model: Path) -> None:
    """Fit models.KEY.estimator on `train`, with skrub before it only where the columns need it, and write `model`.

    Raises:
        StageError: the estimator, its params or the data do not do.
    """
    spec = block("models", params.models, key)
    place = f"{PARAMS_FILE}: models.{key}"
    estimator = build(place, spec)
    features, target = table.read(train, spec.target, f"split@{key}")
    _check_target(train, place, spec, estimator, target)
    np.random.seed(0)  # noqa: NPY002  what an estimator without a random_state draws from: same inputs, same bytes
    prepared = prepare(estimator, features)
    try:
        prepared.fit(features, target)
    except (ValueError, TypeError) as error:
        # scikit-learn checks values of params when it fits; its error for them is both a ValueError and a TypeError.
        about_params = isinstance(error, ValueError) and isinstance(error, TypeError)
        what = f"{place}.params" if about_params else f"{place} ({spec.estimator}) cannot be fitted on {train}"
        raise StageError(f"{what}: {' '.join(str(error).split())}") from error
    with replacing(model) as temporary:
        model_file.write(prepared, temporary, model)


def build(place: str, spec: Model) -> Any:
    """The estimator that models.KEY names, with its params.

    Raises:
        StageError: the path does not import or names no classifier or regressor, or a param is unknown.
    """
    cls = _load(place, spec.estimator)
    if not (inspect.isclass(cls) and hasattr(cls, "fit") and hasattr(cls, "predict")):
        raise StageError(f"{place}.estimator = {spec.estimator!r} is not an estimator: a class with fit and predict")
    allowed = inspect.signature(cls).parameters
    takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in allowed.values())
    if not takes_any and (unknown := [name for name in spec.params if name not in allowed]):
        raise StageError(f"{place}.params: unknown param {unknown[0]!r}; {cls.__name__} takes: {', '.join(allowed)}")
    try:
        estimator = cls(**spec.params)
    except (ValueError, TypeError) as error:
        raise StageError(f"{place}.params: {cls.__name__} rejects {spec.params}: {error}") from error
    if not hasattr(estimator, "__sklearn_tags__") or not (is_classifier(estimator) or is_regressor(estimator)):
        raise StageError(f"{place}.estimator = {spec.estimator!r} is neither a classifier nor a regressor")
    return estimator


def prepare(estimator: Any, features: "pd.DataFrame") -> Any:
    """The estimator itself, or skrub's pipeline around it for text, dates, or missing values that it does not take."""
    numeric = all(dtype.kind in table.NUMERIC for dtype in features.dtypes)
    if numeric and (get_tags(estimator).input_tags.allow_nan or not features.isna().any(axis=None)):
        return estimator
    from skrub import tabular_pipeline  # 1 s: only where it is needed

    return tabular_pipeline(estimator)


def _load(place: str, path: str) -> Any:
    where, _, name = path.rpartition(".")
    try:
        module = import_module(where)
    except Exception as error:  # a module of the user's own can raise anything
        raise StageError(f"{place}.estimator = {path!r} does not import: {type(error).__name__}: {error}") from error
    if not hasattr(module, name):
        near = difflib.get_close_matches(name, dir(module), n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise StageError(f"{place}.estimator = {path!r} does not import: {where} has no {name}{hint}")
    return getattr(module, name)


def _check_target(path: Path, place: str, spec: Model, estimator: Any, target: Any) -> None:
    if is_regressor(estimator):
        if target.dtype.kind not in "if":
            kind = table.dtype_name(target.dtype)
            raise StageError(
                f"{place}: {spec.estimator} predicts numbers, but target {spec.target!r} in {path} is {kind}"
            )
    elif target.dtype.kind in "fM":
        raise StageError(
            f"{place}: {spec.estimator} predicts classes, but target {spec.target!r} in {path} is continuous "
            f"({table.dtype_name(target.dtype)}); take a regressor, or make it whole numbers or text in cleaning"
        )
    elif len(np.unique(target)) == 1:
        raise StageError(f"{path}: the target {spec.target!r} has one class, {target[0]!r}; there is nothing to learn")
