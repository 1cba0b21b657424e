"""A column of the training data and the same column as it was served, brought to one kind of value. Pure."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import date
from decimal import Decimal
from functools import cached_property
from typing import Any

import numpy as np

NUMBER, DATE, CATEGORY = "number", "date", "category"
Array = np.ndarray[Any, Any]
_BOOLEANS = {"0": "false", "1": "true"}
_ROUNDING = 1e-6  # of the standard deviation: what a number may lose on its way


@dataclass(frozen=True)
class Sample:
    """The values of a column, as numbers or as text, and how many rows have none.

    Missing are null, NaN, infinity and, in a column of numbers, what is no number. A date is its seconds since 1970.
    """

    values: Array
    missing: int

    @property
    def rows(self) -> int:
        """The number of rows, missing values included."""
        return len(self.values) + self.missing

    @property
    def missing_share(self) -> float:
        """The share of rows without a value; 0 where there are no rows."""
        return self.missing / self.rows if self.rows else 0.0

    @cached_property
    def counts(self) -> Mapping[str, int]:
        """How often each value occurs."""
        return Counter(self.values.tolist())


@dataclass(frozen=True)
class ColumnPair:
    """A column as it was trained on and as it was served."""

    name: str
    kind: str
    reference: Sample
    served: Sample


def pair(name: str, reference: Any, served: Any) -> ColumnPair:
    """The column of two pandas.Series, as it is compared; the reference says of which kind its values are."""
    kind = kind_of(reference)
    one, other = sample(reference, kind), sample(served, kind)
    if kind != CATEGORY:
        other = replace(other, values=aligned(one.values, other.values))
    elif one.counts.keys() and one.counts.keys() <= set(_BOOLEANS.values()):  # served as numbers where some are missing
        truths = [_BOOLEANS.get(value, value) for value in other.values.tolist()]
        other = replace(other, values=_texts(truths))
    return ColumnPair(name, kind, one, other)


def aligned(reference: Array, served: Array) -> Array:
    """The served values, those that differ from a reference value by rounding alone replaced by it.

    JSON as pandas writes it has ten decimals, and a model may take numbers of 32 bits: where a column has few values a
    difference in the eleventh digit would move all of them.
    """
    known = np.unique(reference)
    if not len(known):
        return served
    with np.errstate(over="ignore", invalid="ignore"):
        near = _ROUNDING * float(np.std(reference) if len(known) > 1 else np.abs(known[0]))
        places = np.searchsorted(known, served).clip(1, max(len(known) - 1, 1))
        below, above = known[places - 1], known[places.clip(max=len(known) - 1)]
        nearest = np.where(np.abs(served - below) <= np.abs(above - served), below, above)
        return np.where(np.abs(nearest - served) <= near, nearest, served)


def kind_of(values: Any) -> str:
    """Numbers, dates, or categories: text, booleans and all else."""
    import pandas as pd

    if pd.api.types.is_datetime64_any_dtype(values.dtype):
        return DATE
    if isinstance(values.dtype, (pd.CategoricalDtype, pd.StringDtype)) or pd.api.types.is_bool_dtype(values.dtype):
        return CATEGORY
    if pd.api.types.is_numeric_dtype(values.dtype):
        return NUMBER
    present = [value for value in values.array if not _is_missing(value)]
    if present and all(isinstance(value, (int, float, Decimal)) and not isinstance(value, bool) for value in present):
        return NUMBER  # integers beyond 64 bits and decimals are objects
    return DATE if present and all(isinstance(value, date) for value in present) else CATEGORY


def is_text(values: Any) -> bool:
    """Whether all that is there is text, so that 007 is three letters."""
    present = [value for value in values.array if not _is_missing(value)]
    return bool(present) and all(isinstance(value, str) for value in present)


def sample(values: Any, kind: str) -> Sample:
    """The values of a pandas.Series as values of that kind."""
    if kind == CATEGORY:
        present = [text(value) for value in values.array if not _is_missing(value)]
        return Sample(_texts(present), len(values) - len(present))
    found = _seconds(values) if kind == DATE else numbers(values)
    finite = found[np.isfinite(found)]
    return Sample(finite, len(found) - len(finite))


def _texts(values: list[str]) -> Array:
    """As objects: as text each would take as much memory as the longest."""
    return np.array(values, dtype=object)


def text(value: Any) -> str:
    """A category as text: the same whether it came as 1, 1.0 or True of numpy or of JSON."""
    if isinstance(value, (bool, np.bool_)):
        return str(bool(value)).lower()
    if isinstance(value, (float, np.floating)) and float(value).is_integer():
        return str(int(value))
    return str(value)


def numbers(values: Any) -> Array:
    """Values of any kind as floats; what is no number is NaN."""
    import pandas as pd

    values = pd.Series(values)
    if not pd.api.types.is_numeric_dtype(values.dtype):
        values = pd.Series([_number(value) for value in values.array], dtype=float)
    return np.asarray(values.to_numpy(dtype=float, na_value=np.nan))


def _number(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return float("nan")


def _seconds(values: Any) -> Array:
    import pandas as pd

    if not pd.api.types.is_datetime64_any_dtype(values.dtype):
        texts = [str(value) if isinstance(value, (str, date)) else None for value in values.array]
        values = pd.Series(texts, dtype=object)
    times = pd.Series(pd.to_datetime(values, errors="coerce", utc=True, format="ISO8601"))
    seconds = times.astype("datetime64[us, UTC]").astype("int64").to_numpy() / 1e6
    return np.where(times.isna().to_numpy(), np.nan, seconds)


def _is_missing(value: Any) -> bool:
    import pandas as pd

    if isinstance(value, Decimal):
        return not value.is_finite()
    is_number = isinstance(value, (float, np.floating))
    return value is None or value is pd.NA or value is pd.NaT or (is_number and not bool(np.isfinite(value)))


def most_frequent(counts: Mapping[str, int], most: int) -> list[str]:
    """The most frequent values, in that order; equally frequent ones by the alphabet."""
    return sorted(counts, key=lambda value: (-counts[value], value))[:most]


def totals(counts: Mapping[str, int], values: Iterable[str]) -> Array:
    """How often each of the values occurs, and last how often all others do."""
    named = [counts.get(value, 0) for value in values]
    return np.array([*named, sum(counts.values()) - sum(named)])
