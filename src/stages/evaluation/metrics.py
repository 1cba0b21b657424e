"""A model's metrics, flat, so that `dvc metrics show` is one readable row a model."""

from typing import Any

import numpy as np
from sklearn import metrics
from sklearn.base import is_classifier

from stages.evaluation.predictions import Array, Predictions, one_vs_rest


def predict(model: Any, features: Any, actual: Array) -> Predictions:
    """Predict on the test part.

    Raises:
        ValueError: if a regressor predicts infinity or no number.
    """
    predicted = np.asarray(model.predict(features))
    if not is_classifier(model):
        if odd := int((~np.isfinite(predicted)).sum()):
            raise ValueError(f"it predicts no finite number for {odd} of {len(predicted)} rows")
        return Predictions(actual, predicted)
    classes = np.asarray(model.classes_)
    if hasattr(model, "predict_proba"):
        return Predictions(actual, predicted, classes, model.predict_proba(features), are_probabilities=True)
    scores = model.decision_function(features) if hasattr(model, "decision_function") else None
    last = model[-1] if hasattr(model, "steps") else model
    if scores is not None and scores.ndim == 1:
        scores = np.column_stack([-scores, scores])
    elif getattr(last, "decision_function_shape", "ovr") == "ovo":
        scores = None  # a column for each pair of classes, not for each class
    return Predictions(actual, predicted, classes, scores)


def measure(predictions: Predictions) -> dict[str, float | int]:
    """The metrics by name; one that cannot be computed on these rows, or is not finite, is left out."""
    found = _regression(predictions) if predictions.classes is None else _classification(predictions)
    return {name: value for name, value in found.items() if np.isfinite(value)}


def roc_curves(predictions: Predictions) -> list[tuple[str, Array, Array, float]]:
    """Each class against the rest: its name, false and true positive rates along the curve, the area beneath."""
    curves = []
    for label, is_class, score in one_vs_rest(predictions):
        wrong, right, _ = metrics.roc_curve(is_class, score)
        curves.append((str(label), wrong, right, float(metrics.auc(wrong, right))))
    return curves


def _classification(predictions: Predictions) -> dict[str, float | int]:
    from scipy.stats import binomtest

    actual, predicted = predictions.actual, predictions.predicted
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
    if predictions.are_probabilities and not predictions.unseen:
        result["log_loss"] = float(metrics.log_loss(actual, predictions.scores, labels=predictions.classes))
    if curves := one_vs_rest(predictions):
        result["roc_auc"] = float(np.mean([metrics.roc_auc_score(is_class, score) for _, is_class, score in curves]))
    return {**result, "rows": len(actual)}


def _regression(predictions: Predictions) -> dict[str, float | int]:
    actual, errors = predictions.actual.astype(float), predictions.actual - predictions.predicted
    result: dict[str, float | int] = {}
    if np.ptp(actual) > 0:
        low, high = _r2_interval(actual, errors)
        result = {"r2": float(metrics.r2_score(actual, predictions.predicted)), "r2_low": low, "r2_high": high}
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
