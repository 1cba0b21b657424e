"""Stage `train`: the train part → a fitted scikit-learn compatible model in its file."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.base import is_classifier, is_regressor
from sklearn.utils.validation import has_fit_parameter

from stages.common.errors import StageError
from stages.common.models import Model
from stages.common.outputs import replacing
from stages.common.params import PARAMS_FILE, Params, block
from stages.modelling import model_file, table
from stages.training import estimator as estimators
from stages.training import labels
from stages.training.preparation import prepare, scales_apart

OF_ANY_CLASSIFIER = ("class_weight", "threshold")


def run(key: str, params: Params, *, train: Path, model: Path) -> None:
    """Fit models.KEY.estimator on `train`, with what models.KEY.prepare puts before it, and write `model`.

    Raises:
        StageError: the estimator, its params or the data do not do.
    """
    spec = block("models", params.models, key)
    place = f"{PARAMS_FILE}: models.{key}"
    estimator, ours = build(place, spec)
    features, target = table.read(train, spec.target, f"split@{key}")
    _check_target(train, place, spec, estimator, target)
    np.random.seed(0)  # noqa: NPY002  what an estimator without a random_state draws from: same inputs, same bytes
    prepared = prepare(estimator, features, spec.prepare, place)
    if prepared is estimator and (apart := scales_apart(estimator, features)):
        print(
            f"train@{key}: {spec.estimator} goes by scales, and {apart}; perhaps {place}.prepare: auto", file=sys.stderr
        )
    try:
        fitted = _fit(prepared, features, target, ours)
    except Exception as error:  # an estimator of any library, with params of any kind, can raise anything
        # scikit-learn checks values of params when it fits; its error for them is both a ValueError and a TypeError.
        about_params = isinstance(error, ValueError) and isinstance(error, TypeError)
        what = f"{place}.params" if about_params else f"{place} ({spec.estimator}) cannot be fitted on {train}"
        help_ = "; perhaps prepare: auto" if spec.prepare == "none" and not about_params else ""
        kind = "" if isinstance(error, ValueError | TypeError) else f"{type(error).__name__}: "
        raise StageError(f"{what}: {kind}{estimators.one_line(error)}{help_}") from error
    with replacing(model) as temporary:
        model_file.write(fitted, temporary, model)


def _fit(prepared: Any, features: Any, target: Any, ours: dict[str, Any]) -> Any:
    if not is_classifier(prepared):
        return prepared.fit(features, target)
    fitted = labels.fit(prepared, features, target, ours.get("class_weight"))
    return labels.decide(fitted, features, target, ours["threshold"]) if "threshold" in ours else fitted


def build(place: str, spec: Model) -> tuple[Any, dict[str, Any]]:
    """The estimator that models.KEY names, and those of its params that it does not take itself.

    Raises:
        StageError: the path does not import or names no classifier or regressor, or a param is unknown.
    """
    takes = estimators.params_of(place, spec.estimator)
    ours = {name: spec.params[name] for name in OF_ANY_CLASSIFIER if name in spec.params and name not in takes}
    estimator = estimators.build(place, spec.estimator, {k: v for k, v in spec.params.items() if k not in ours})
    if not hasattr(estimator, "predict"):
        raise StageError(f"{place}.estimator = {spec.estimator!r} is not an estimator: a class with fit and predict")
    try:
        known = hasattr(estimator, "__sklearn_tags__") and (is_classifier(estimator) or is_regressor(estimator))
    except Exception as error:  # a part of it need not be an estimator
        what = estimators.one_line(error)
        raise StageError(f"{place}.params: {spec.estimator} does not do with them: {what}") from error
    if not known:
        raise StageError(f"{place}.estimator = {spec.estimator!r} is neither a classifier nor a regressor")
    _check_ours(place, spec, estimator, ours)
    return estimator, ours


def _check_ours(place: str, spec: Model, estimator: Any, ours: dict[str, Any]) -> None:
    if ours and not is_classifier(estimator):
        raise StageError(
            f"{place}.params.{next(iter(ours))} is for classifiers, and {spec.estimator} is none; leave it out"
        )
    if "class_weight" in ours and not has_fit_parameter(estimator, "sample_weight"):
        raise StageError(f"{place}.params.class_weight: {spec.estimator} takes no weights; leave it out")
    threshold = ours.get("threshold", 0.5)
    if not (isinstance(threshold, float) and 0 < threshold < 1):
        raise StageError(f"{place}.params.threshold = {threshold!r}: write a probability such as 0.3")
    if "threshold" in ours and not hasattr(estimator, "predict_proba"):
        raise StageError(f"{place}.params.threshold: {spec.estimator} gives no probabilities; leave it out")


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
