"""What `dvc metrics show` has of each class and of a baseline, and the curves that plots are drawn of."""

import re

import numpy as np
from sklearn import metrics

from stages.training.metrics import MOST_CLASSES, measure, predict
from stages.training.predictions import Array, Predictions, one_vs_rest

_LONGEST_NAME = 60
_BINS = 10  # of a calibration curve


def by_class(predictions: Predictions) -> dict[str, dict[str, float]]:
    """Precision and recall of each class of the test part, by a name that fits into a metric's; none where many are."""
    labels = np.unique(predictions.actual)
    if predictions.classes is None or len(labels) > MOST_CLASSES:
        return {}
    precision, recall, _, _ = metrics.precision_recall_fscore_support(
        predictions.actual, predictions.predicted, labels=labels, zero_division=0
    )
    found: dict[str, dict[str, float]] = {}
    for label, *values in zip(labels, precision.tolist(), recall.tolist(), strict=True):
        name = re.sub(r"[^\w -]+", "_", str(label)).strip()[:_LONGEST_NAME] or "_"
        while name in found:
            name += "_"
        found[name] = dict(zip(("precision", "recall"), values, strict=True))
    return found


def baseline(predictions: Predictions, known: Array) -> dict[str, float | int]:
    """The same metrics of a model that has seen no feature: the most frequent class, their shares, or the mean.

    Args:
        predictions: of the model that is compared with it.
        known: the target of the train part.
    """
    from sklearn.dummy import DummyClassifier, DummyRegressor

    model = DummyRegressor() if predictions.classes is None else DummyClassifier(strategy="prior")
    model.fit(np.zeros((len(known), 1)), known)
    found = measure(predict(model, np.zeros((len(predictions.actual), 1)), predictions.actual), intervals=False)
    return {name: value for name, value in found.items() if not name.endswith(("_low", "_high")) and name != "rows"}


def roc_curves(predictions: Predictions) -> list[tuple[str, Array, Array, float]]:
    """Each class against the rest: its name, false and true positive rates along the curve, the area beneath."""
    curves = []
    for label, is_class, score in one_vs_rest(predictions):
        wrong, right, _ = metrics.roc_curve(is_class, score)
        curves.append((str(label), wrong, right, float(metrics.auc(wrong, right))))
    return curves


def calibration_curves(predictions: Predictions) -> list[tuple[str, Array, Array]]:
    """Of each class, over bins of equal width: its name, the mean probability said, the share that came."""
    from sklearn.calibration import calibration_curve

    if not predictions.are_probabilities:
        return []
    curves = []
    for label, is_class, score in one_vs_rest(predictions):
        came, said = calibration_curve(is_class, np.clip(score, 0, 1), n_bins=_BINS)
        curves.append((str(label), said, came))
    return curves
