"""The numbers by which a model is judged, flat, so that `dvc metrics show` is one readable row a model."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn import metrics
from sklearn.base import is_classifier

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Outcome:
    """What a model said about the test part.

    Attributes:
        actual: the target, by row.
        predicted: the prediction, by row.
        classes: what a classifier can say; None for a regressor.
        scores: (rows, classes), higher for the likelier class; None where the model gives none.
        are_probabilities: whether `scores` come from predict_proba.
    """

    actual: Array
    predicted: Array
    classes: Array | None = None
    scores: Array | None = None
    are_probabilities: bool = False

    @property
    def unseen(self) -> list[Any]:
        """Classes of the test part that the model cannot say, because it never saw them."""
        return [] if self.classes is None else np.setdiff1d(self.actual, self.classes).tolist()

    @property
    def rankable(self) -> bool:
        """Whether a ROC curve exists for every class."""
        return self.scores is not None and np.unique(self.actual).tolist() == np.asarray(self.classes).tolist()


def judge(model: Any, features: Any, actual: Array) -> Outcome:
    """Predict on the test part."""
    predicted = np.asarray(model.predict(features))
    if not is_classifier(model):
        return Outcome(actual, predicted)
    classes = np.asarray(model.classes_)
    if hasattr(model, "predict_proba"):
        return Outcome(actual, predicted, classes, model.predict_proba(features), are_probabilities=True)
    scores = model.decision_function(features) if hasattr(model, "decision_function") else None
    last = model[-1] if hasattr(model, "steps") else model
    if scores is not None and scores.ndim == 1:
        scores = np.column_stack([-scores, scores])
    elif getattr(last, "decision_function_shape", "ovr") == "ovo":
        scores = None  # a column for each pair of classes, not for each class
    return Outcome(actual, predicted, classes, scores)


def measure(outcome: Outcome) -> dict[str, float | int]:
    """The metrics by name; one that cannot be computed on these rows is left out."""
    return _regression(outcome) if outcome.classes is None else _classification(outcome)


def one_vs_rest(outcome: Outcome) -> list[tuple[Any, Array, Array]]:
    """Each class, whether a row is of it, and the row's score for it; of two classes only the second."""
    if outcome.classes is None or outcome.scores is None or not outcome.rankable:
        return []
    first = 1 if len(outcome.classes) == 2 else 0  # noqa: PLR2004
    return [
        (name, outcome.actual == name, outcome.scores[:, i]) for i, name in enumerate(outcome.classes) if i >= first
    ]


def _classification(outcome: Outcome) -> dict[str, float | int]:
    from scipy.stats import binomtest

    actual, predicted = outcome.actual, outcome.predicted
    hits = int((actual == predicted).sum())
    interval = binomtest(hits, len(actual)).proportion_ci(0.95, method="wilson")
    precision, recall, f1, _ = metrics.precision_recall_fscore_support(
        actual, predicted, average="macro", zero_division=0
    )
    present = metrics.recall_score(actual, predicted, labels=np.unique(actual), average="macro", zero_division=0)
    result = {
        "accuracy": hits / len(actual),
        "accuracy_low": float(interval.low),
        "accuracy_high": float(interval.high),
        "balanced_accuracy": float(present),
        "f1_macro": float(f1),
        "precision_macro": float(precision),
        "recall_macro": float(recall),
    }
    if outcome.are_probabilities and not outcome.unseen:
        result["log_loss"] = float(metrics.log_loss(actual, outcome.scores, labels=outcome.classes))
    if curves := one_vs_rest(outcome):
        result["roc_auc"] = float(np.mean([metrics.roc_auc_score(is_class, score) for _, is_class, score in curves]))
    return {**result, "rows": len(actual)}


def _regression(outcome: Outcome) -> dict[str, float | int]:
    actual, errors = outcome.actual.astype(float), outcome.actual - outcome.predicted
    result: dict[str, float | int] = {}
    if np.ptp(actual) > 0:
        low, high = _r2_interval(actual, errors)
        result = {"r2": float(metrics.r2_score(actual, outcome.predicted)), "r2_low": low, "r2_high": high}
    mae, rmse = float(np.abs(errors).mean()), float(np.sqrt((errors**2).mean()))
    return {**result, "mae": mae, "rmse": rmse, "rows": len(actual)}


def _r2_interval(actual: Array, errors: Array, resamples: int = 1000) -> tuple[float, float]:
    """95 % percentile bootstrap over rows (Efron & Tibshirani 1993, ch. 13), in chunks of at most 16 MB of indices."""
    rng, rows, values = np.random.default_rng(0), len(actual), []
    chunk = max(1, 2_000_000 // rows)
    for start in range(0, resamples, chunk):
        drawn = rng.integers(0, rows, (min(chunk, resamples - start), rows))
        total = actual[drawn].var(axis=1) * rows
        values.append(1 - (errors[drawn] ** 2).sum(axis=1)[total > 0] / total[total > 0])
    low, high = np.percentile(np.concatenate(values), [2.5, 97.5])
    return float(low), float(high)
