"""A model made as its block in params.yaml says: built, prepared for the features, fitted."""

from typing import Any

import numpy as np
from sklearn.base import is_classifier, is_regressor
from sklearn.utils.validation import has_fit_parameter

from stages.common.errors import StageError
from stages.common.models import Train
from stages.training import estimator as estimators
from stages.training import labels
from stages.training.preparation import prepare

OF_ANY_CLASSIFIER = ("class_weight", "threshold")


def fitted(place: str, spec: Train, features: Any, target: Any) -> Any:
    """The model of a block `train`, fitted; the same rows give the same model.

    Raises:
        StageError: as `build` and `prepare`.
        Exception: as the estimator does.
    """
    estimator, ours = build(place, spec)
    np.random.seed(0)  # noqa: NPY002  what an estimator without a random_state draws from: same inputs, same bytes
    prepared = prepare(estimator, features, spec.prepare, place)
    if not is_classifier(prepared):
        return prepared.fit(features, target)
    made = labels.fit(prepared, features, target, ours.get("class_weight"))
    return labels.decide(made, features, target, ours["threshold"]) if "threshold" in ours else made


def build(place: str, spec: Train) -> tuple[Any, dict[str, Any]]:
    """The estimator that models.KEY.train names, and those of its params that it does not take itself.

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


def _check_ours(place: str, spec: Train, estimator: Any, ours: dict[str, Any]) -> None:
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
