"""A number for each row by the values of its key: the same on every machine, whatever rows stand beside it."""

from typing import Any

import polars as pl

_GOLDEN = 0x9E3779B97F4A7C15
_WHOLE = frozenset({pl.Boolean, pl.Int8, pl.Int16, pl.Int32, pl.Int64, pl.UInt8, pl.UInt16, pl.UInt32})


def row_hash(rows: pl.DataFrame) -> Any:
    """A number of 64 bits (numpy, by row) for the values of all columns; equal values have equal ones.

    pandas' hash, for it says how it is made, and Polars' may change from one version or machine to the next:
    https://pandas.pydata.org/docs/reference/api/pandas.util.hash_array.html
    """
    import numpy as np
    from pandas.util import hash_array

    found = np.zeros(rows.height, np.uint64)
    for column in rows:
        found = found * np.uint64(_GOLDEN) + hash_array(_plain(column), categorize=False)
    return found ^ (found >> np.uint64(29))


def _plain(column: pl.Series) -> Any:
    """Numbers and times as numpy has them, all else as text."""
    import numpy as np

    if column.dtype.is_float():
        values = column.cast(pl.Float64).to_numpy() + 0.0  # -0.0 is 0.0
        return np.where(np.isnan(values), np.nan, values)  # of many a NaN that there is, one; a missing value, too
    if column.dtype.is_temporal():
        return column.to_physical().cast(pl.Int64).fill_null(-1).to_numpy()
    if column.dtype == pl.UInt64:
        return column.fill_null(0).to_numpy()
    if column.dtype in _WHOLE:
        return column.cast(pl.Int64).fill_null(-1).to_numpy()
    return column.cast(pl.String).fill_null("").to_numpy().astype(object)
