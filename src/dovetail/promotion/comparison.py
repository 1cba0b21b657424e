"""Metrics over arrays, and how two models compare on the same rows: the difference with a paired bootstrap."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
FEWEST = 2  # rows that a bootstrap takes
_RESAMPLES = 2000
_MOST_DRAWS = 30_000_000  # rows times resamples, a second or so; beyond it fewer resamples tell as much
_BATCH = 2_000_000  # rows times resamples that are held in memory at once


def _accuracy(actual: Array, predicted: Array) -> Array:
    return np.asarray((actual == predicted).mean(axis=-1))


def _per_class(actual: Array, predicted: Array) -> tuple[Array, Array, Array]:
    """Hits, actual rows and predicted rows of each class, classes first."""
    classes = np.union1d(actual, predicted)
    counts = [((actual == c) & (predicted == c), actual == c, predicted == c) for c in classes]
    hits, are, said = (np.stack([count[i].sum(axis=-1) for count in counts]) for i in range(3))
    return hits, are, said


def _balanced_accuracy(actual: Array, predicted: Array) -> Array:
    hits, are, _ = _per_class(actual, predicted)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.nanmean(hits / are, axis=0))


def _f1_macro(actual: Array, predicted: Array) -> Array:
    hits, are, said = _per_class(actual, predicted)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.nanmean(2 * hits / (are + said), axis=0))


def _r2(actual: Array, predicted: Array) -> Array:
    spread = ((actual - actual.mean(axis=-1, keepdims=True)) ** 2).sum(axis=-1)
    return np.asarray(1 - ((actual - predicted) ** 2).sum(axis=-1) / np.where(spread > 0, spread, np.nan))


def _minus_mae(actual: Array, predicted: Array) -> Array:
    return np.asarray(-np.abs(actual - predicted).mean(axis=-1))


def _minus_rmse(actual: Array, predicted: Array) -> Array:
    return np.asarray(-np.sqrt(((actual - predicted) ** 2).mean(axis=-1)))


# More is better in each: errors are counted negative. All work along the last axis.
SCORES: Mapping[str, Callable[[Array, Array], Array]] = {
    "accuracy": _accuracy,
    "balanced_accuracy": _balanced_accuracy,
    "f1_macro": _f1_macro,
    "r2": _r2,
    "mae": _minus_mae,
    "rmse": _minus_rmse,
}
OF_LABELS = ("accuracy", "balanced_accuracy", "f1_macro")


@dataclass(frozen=True, slots=True)
class Difference:
    """Candidate minus champion, positive where the candidate is better, and its interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Interval:
    """A metric in its usual sense, an error positive, with its interval."""

    value: float
    low: float
    high: float


def default_metric(*arrays: Array) -> str:
    """The metric where none is set: r2 if actual or predicted values are floats, else accuracy."""
    return "r2" if "f" in {array.dtype.kind for array in arrays} else "accuracy"


def score(metric: str, actual: Array, predicted: Array) -> float:
    """The metric in its usual sense: an error is positive."""
    value = float(SCORES[metric](actual, predicted))
    return -value if is_error(metric) else value


def is_error(metric: str) -> bool:
    """Whether less is better."""
    return metric in ("mae", "rmse")


def interval(metric: str, actual: Array, predicted: Array, confidence: float) -> Interval:
    """The metric on rows, at least two, with the percentile interval that `difference` has."""
    if metric in OF_LABELS:
        actual, predicted = _coded(actual, predicted)
    low, high = _bootstrap(SCORES[metric], (actual, predicted), confidence)
    if is_error(metric):
        low, high = -high, -low
    return Interval(score(metric, actual, predicted), low, high)


def difference(metric: str, arrays: tuple[Array, Array, Array], confidence: float) -> Difference:
    """How much better the candidate is, with a percentile interval of the paired bootstrap over rows.

    Efron & Tibshirani 1993, ch. 13; drawn by scipy.stats.bootstrap. `arrays` are the actual values and what candidate
    and champion predicted, each of shape (rows,), at least two rows.
    """
    is_label = metric in OF_LABELS
    actual, candidate, champion = _coded(*arrays) if is_label else [np.asarray(a, dtype=float) for a in arrays]
    if np.array_equal(candidate, champion):
        return Difference(0.0, 0.0, 0.0)
    of = SCORES[metric]

    def better(actual: Array, candidate: Array, champion: Array) -> Array:
        return np.asarray(of(actual, candidate) - of(actual, champion))

    low, high = _bootstrap(better, (actual, candidate, champion), confidence)
    return Difference(float(better(actual, candidate, champion)), low, high)


def _bootstrap(statistic: Callable[..., Array], arrays: tuple[Array, ...], confidence: float) -> tuple[float, float]:
    from scipy.stats import bootstrap

    def of(*arrays: Array, axis: int) -> Array:
        del axis  # the last one, which SCORES works along
        return statistic(*arrays)

    rows = len(arrays[0])
    found = bootstrap(
        arrays,
        of,
        paired=True,
        vectorized=True,
        n_resamples=max(200, min(_RESAMPLES, _MOST_DRAWS // rows)),
        batch=max(1, _BATCH // rows),
        confidence_level=confidence,
        method="percentile",
        rng=np.random.default_rng(0),
    ).confidence_interval
    return float(found.low), float(found.high)


def _coded(*arrays: Array) -> list[Array]:
    """Labels as numbers, which compare a hundred times faster than text."""
    _, codes = np.unique(np.concatenate([np.asarray(a).astype(str) for a in arrays]), return_inverse=True)
    return np.split(codes, np.cumsum([len(a) for a in arrays])[:-1])
