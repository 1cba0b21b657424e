"""A version's metric on the served rows whose label is known, compared with that on its test set. Pure."""

import hashlib
import math
import warnings
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from dovetail.monitoring.column_pair import Array, numbers, text
from dovetail.promotion import comparison
from dovetail.promotion.comparison import FEWEST, Interval

CONFIDENCE = 0.95
_LONGEST = 200  # letters of a label


@dataclass(frozen=True, slots=True)
class MetricDrift:
    """The metric on both with its intervals; None where there are too few rows, and `reason` says so."""

    name: str
    rows: int
    test: Interval | None = None
    served: Interval | None = None
    drifted: bool = False
    reason: str = ""

    def as_json(self) -> dict[str, Any]:
        """The metric as `--json` gives it."""
        return asdict(self)


def usable(name: str, actual: Any) -> Array:
    """Which labels the metric can be computed with, of shape (rows,): numbers, or of classes any text."""
    if name in comparison.OF_LABELS:
        return np.ones(len(actual), dtype=bool)
    return np.isfinite(numbers(actual))


def compare(name: str, test: tuple[Any, Any], served: tuple[Any, Any], min_rows: int) -> MetricDrift:
    """The metric of both, each given as (actual, predicted), of shape (rows,).

    It has drifted where the interval of what was served lies wholly on the worse side of that of the test set. Two
    intervals of 95 % miss each other by chance once in 200 times or so: Schenker & Gentleman 2001, Am. Stat. 55.
    """
    known, before = _interval(name, *served, max(min_rows, FEWEST)), _interval(name, *test, FEWEST)
    rows = len(served[0])
    if rows < min_rows:
        return MetricDrift(name, rows, before, known, reason=f"too few labels: {rows} of {min_rows}")
    if known is None or before is None:
        return MetricDrift(name, rows, before, known, reason=f"{name} is not defined on these rows")
    worse = known.low > before.high if comparison.is_error(name) else known.high < before.low
    reason = f"{name} {known.value:.4g}, {before.value:.4g} on the test set; the intervals do not meet"
    return MetricDrift(name, rows, before, known, drifted=worse, reason=reason if worse else "")


def _interval(name: str, actual: Any, predicted: Any, min_rows: int) -> Interval | None:
    from scipy.stats import DegenerateDataWarning

    if len(actual) < min_rows:
        return None
    arrays = [_texts(values) if name in comparison.OF_LABELS else numbers(values) for values in (actual, predicted)]
    if any(array.dtype.kind == "f" and not np.isfinite(array).all() for array in arrays):
        return None
    if not math.isfinite(comparison.score(name, arrays[0], arrays[1])):
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DegenerateDataWarning)  # a resample without a score: its NaN says so
        found = comparison.interval(name, arrays[0], arrays[1], CONFIDENCE)
    return found if math.isfinite(found.low) and math.isfinite(found.high) else None


def _texts(values: Any) -> Array:
    return np.asarray([_bounded(text(value)) for value in values], dtype=str)


def _bounded(label: str) -> str:
    """The label; of a long one a digest: as an array all labels take as much memory as the longest."""
    return label if len(label) <= _LONGEST else hashlib.sha256(label.encode(errors="surrogatepass")).hexdigest()
