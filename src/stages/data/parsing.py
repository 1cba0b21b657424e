"""Text as values of a declared type."""

from typing import Any

import polars as pl

_INFINITE = r"(?i)^[+-]?inf(inity)?$"
_EXACT = 2**53  # up to here a float64 holds every whole number


def parse(text: pl.Expr, dtype: Any) -> pl.Expr:
    """Text as `dtype`, null where it is none, or too large for it.

    Whole numbers may be written with a fraction of zeros, as pandas does beside a missing value: `3.0`. Dates are
    ISO 8601: 01/02/2020 is one of two days, and nothing says which.
    """
    if dtype == pl.Date:
        return text.str.to_date("%Y-%m-%d", strict=False, cache=False)
    trimmed = text.str.strip_chars()
    if dtype == pl.Boolean:
        lower = trimmed.str.to_lowercase()
        return pl.when(lower.is_in(["true", "false"])).then(lower == "true")
    if dtype == pl.Datetime:
        local = (
            trimmed.str.to_datetime(form, strict=False, time_unit="us")
            for form in ("%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M:%S%.f")
        )
        zoned = trimmed.str.to_datetime("%+", strict=False, time_unit="us", time_zone="UTC").dt.replace_time_zone(None)
        return pl.coalesce(*local, trimmed.str.to_date("%Y-%m-%d", strict=False).cast(pl.Datetime("us")), zoned)
    if dtype.is_integer():
        real = trimmed.cast(pl.Float64, strict=False)
        whole = pl.when((real == real.round()) & (real.abs() <= _EXACT)).then(real).cast(dtype, strict=False)
        return pl.coalesce(trimmed.cast(dtype, strict=False), whole)
    if dtype.is_float():
        real = trimmed.cast(dtype, strict=False)
        return pl.when(real.is_finite() | trimmed.str.contains(_INFINITE)).then(real)
    return trimmed.cast(dtype, strict=False) if dtype != pl.String else text
