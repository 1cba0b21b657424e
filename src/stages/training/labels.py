"""Labels and rows as a classifier needs them: classes numbered, weighted, and decided at a threshold.

All of it is scikit-learn's own, so that a model is read without this project.
"""

from typing import Any

import numpy as np
from sklearn.base import clone


def fit(model: Any, features: Any, target: Any, class_weight: Any = None) -> Any:
    """Fit `model`; where it refuses the classes as they are, fit it on their numbers, decoded when it predicts.

    Args:
        model: an estimator, or a pipeline that ends in one.
        features: by row.
        target: by row.
        class_weight: for an estimator that has no such param: `balanced`, or a weight by class.

    Raises:
        ValueError: as the estimator does.
        TypeError: likewise.
    """
    weights = {} if class_weight is None else _weights(model, class_weight, target)
    if not _could_number(target):
        return model.fit(features, target, **weights)
    try:
        return clone(model).fit(features, target, **weights)
    except (ValueError, TypeError):
        # If it is not the labels, or not they alone, this raises what is the matter besides.
        return _numbering(model).fit(features, target, **weights)


def named(fitted: Any, classes: Any) -> Any:
    """A classifier that was fitted on the numbers of classes, as one that says their names; itself where they are one.

    What `fit` makes of an estimator that refuses names.
    """
    if not _could_number(classes):
        return fitted
    from sklearn.ensemble import VotingClassifier
    from sklearn.preprocessing import LabelEncoder
    from sklearn.utils import Bunch

    vote = VotingClassifier([("estimator", clone(fitted))], voting="soft")
    vote.estimators_, vote.named_estimators_ = [fitted], Bunch(estimator=fitted)
    vote.le_ = LabelEncoder().fit(classes)
    vote.classes_ = vote.le_.classes_
    return vote


def _could_number(target: Any) -> bool:
    """Whether the classes are anything else than 0, 1, 2, …."""
    classes = np.unique(target)
    return not (target.dtype.kind in "iu" and np.array_equal(classes, np.arange(len(classes))))


def _numbering(model: Any) -> Any:
    """A vote of one, which numbers the classes for its voter and says their names."""
    from sklearn.ensemble import VotingClassifier  # these imports take longer than most fits

    *before, (name, last) = getattr(model, "steps", [("estimator", model)])
    vote = VotingClassifier([(name, clone(last))], voting="soft" if hasattr(last, "predict_proba") else "hard")
    from sklearn.pipeline import Pipeline

    return Pipeline([*((step, clone(part)) for step, part in before), (name, vote)]) if before else vote


def _weights(model: Any, class_weight: Any, target: Any) -> dict[str, Any]:
    from sklearn.utils.class_weight import compute_sample_weight

    prefix = f"{model.steps[-1][0]}__" if hasattr(model, "steps") else ""
    return {f"{prefix}sample_weight": compute_sample_weight(class_weight, target)}


def decide(fitted: Any, features: Any, target: Any, threshold: float) -> Any:
    """A fitted classifier of two classes that says the second from this probability on.

    Raises:
        ValueError: it has more classes, or gives no probability.
    """
    from sklearn.frozen import FrozenEstimator
    from sklearn.model_selection import FixedThresholdClassifier

    if len(fitted.classes_) != 2:  # noqa: PLR2004  there is one threshold between two
        raise ValueError(f"a threshold is for two classes, and there are {len(fitted.classes_)}")
    decided = FixedThresholdClassifier(
        FrozenEstimator(fitted), threshold=threshold, pos_label=fitted.classes_[1], response_method="predict_proba"
    )
    return decided.fit(features, target)
