"""What is measured of a model's predictions, by the names that params.yaml and `dvc metrics show` have for it."""

from typing import Any

import numpy as np
from sklearn import metrics
from sklearn.base import is_classifier

from stages.training.predictions import Array, Predictions, one_vs_rest

OF_CLASSES = (
    *("accuracy", "balanced_accuracy", "f1_macro", "precision_macro", "recall_macro", "mcc"),
    *("log_loss", "brier", "roc_auc", "pr_auc"),
)
OF_NUMBERS = ("r2", "mae", "rmse")
SMALLER_IS_BETTER = frozenset({"log_loss", "brier", "mae", "rmse"})
_RESAMPLES = 1000  # of a bootstrap
MOST_CLASSES = 30  # of which each is told


def predict(model: Any, features: Any, actual: Array) -> Predictions:
    """Predict rows whose target is `actual`.

    Raises:
        ValueError: if a regressor predicts infinity or no number.
    """
    predicted = in_a_row(model.predict(features))
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


def in_a_row(predicted: Any) -> Array:
    """Predictions by row: CatBoost gives a column of them where there are three classes or more."""
    found: Array = np.asarray(predicted)
    return found.ravel() if found.ndim == 2 and found.shape[1] == 1 else found  # noqa: PLR2004  rows and columns


def measure(predictions: Predictions, *, intervals: bool = True) -> dict[str, float | int]:
    """The metrics by name; one that cannot be computed on these rows, or is not finite, is left out.

    Without `intervals` none is drawn by a bootstrap, which takes longer than all the rest.
    """
    of = _regression if predictions.classes is None else _classification
    found = of(predictions, intervals=intervals)
    return {name: value for name, value in found.items() if np.isfinite(value)}


def _classification(predictions: Predictions, *, intervals: bool) -> dict[str, float | int]:
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
    result["mcc"] = float(metrics.matthews_corrcoef(actual, predicted))
    result |= _intervals(actual, predicted) if intervals else {}
    if predictions.are_probabilities and not predictions.unseen:
        result["log_loss"] = float(metrics.log_loss(actual, predictions.scores, labels=predictions.classes))
        result["brier"] = _brier(predictions)
    if curves := one_vs_rest(predictions):
        result["roc_auc"] = float(np.mean([metrics.roc_auc_score(is_class, score) for _, is_class, score in curves]))
        precisions = [metrics.average_precision_score(is_class, score) for _, is_class, score in curves]
        result["pr_auc"] = float(np.mean(precisions))
    return {**result, "rows": len(actual)}


def _brier(predictions: Predictions) -> float:
    """The mean squared distance of the probabilities from what came (Brier 1950); of two classes that of the second."""
    classes, probabilities = predictions.classes, predictions.scores
    came = predictions.actual[:, None] == np.asarray(classes)[None, :]
    squared = ((probabilities - came) ** 2).sum(axis=1).mean()
    return float(squared / 2 if came.shape[1] == 2 else squared)  # noqa: PLR2004  as scikit-learn counts two


def _intervals(actual: Array, predicted: Array) -> dict[str, float]:
    """95 % percentile bootstrap over rows, drawn as tables of confusion, which are all that these metrics see."""
    labels, codes = np.unique(np.concatenate([actual, predicted]), return_inverse=True)
    size, rows = len(labels), len(actual)
    if size > MOST_CLASSES:
        return {}
    cells = np.bincount(codes[:rows] * size + codes[rows:], minlength=size * size) / rows
    drawn = np.random.default_rng(0).multinomial(rows, cells, _RESAMPLES).reshape(_RESAMPLES, size, size).astype(float)
    hits, came, said = np.diagonal(drawn, axis1=1, axis2=2), drawn.sum(axis=2), drawn.sum(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        recall = np.where(came > 0, hits / came, np.nan)
        f1 = np.where(came + said > 0, 2 * hits / (came + said), np.nan)
        spread = (rows**2 - (said**2).sum(axis=1)) * (rows**2 - (came**2).sum(axis=1))
        mcc = np.where(spread > 0, (hits.sum(axis=1) * rows - (came * said).sum(axis=1)) / np.sqrt(spread), 0.0)
    values = {"balanced_accuracy": np.nanmean(recall, axis=1), "f1_macro": np.nanmean(f1, axis=1), "mcc": mcc}
    bounds = {name: np.percentile(value, [2.5, 97.5]) for name, value in values.items()}
    ends = ("low", "high")
    return {f"{name}_{end}": float(bound[i]) for name, bound in bounds.items() for i, end in enumerate(ends)}


def _regression(predictions: Predictions, *, intervals: bool) -> dict[str, float | int]:
    actual, errors = predictions.actual.astype(float), predictions.actual - predictions.predicted
    result: dict[str, float | int] = {}
    if np.ptp(actual) > 0:
        result = {"r2": float(metrics.r2_score(actual, predictions.predicted))}
        result |= _r2_interval(actual, errors) if intervals else {}
    mae, rmse = float(np.abs(errors).mean()), float(np.sqrt((errors**2).mean()))
    return {**result, "mae": mae, "rmse": rmse, "rows": len(actual)}


def _r2_interval(actual: Array, errors: Array) -> dict[str, float]:
    """95 % percentile bootstrap over rows (Efron & Tibshirani 1993, ch. 13), in chunks of at most 16 MB of indices."""
    rng, rows, values = np.random.default_rng(0), len(actual), []
    chunk = max(1, 2_000_000 // rows)
    for start in range(0, _RESAMPLES, chunk):
        drawn = rng.integers(0, rows, (min(chunk, _RESAMPLES - start), rows))
        total = actual[drawn].var(axis=1) * rows
        values.append(1 - (errors[drawn] ** 2).sum(axis=1)[total > 0] / total[total > 0])
    low, high = np.percentile(np.concatenate(values), [2.5, 97.5])
    return {"r2_low": float(low), "r2_high": float(high)}
