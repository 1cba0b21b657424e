"""Text as values of a declared type."""

import re
from dataclasses import dataclass
from typing import Any

import polars as pl

_INFINITE = r"(?i)^[+-]?inf(inity)?$"
_TIME = r"^\d{4}-\d\d-\d\d([T ]\d\d:\d\d(:[0-5]\d(\.\d{1,9})?)?(Z|[+-]\d\d(:?\d\d)?)?)?$"
_HOUR_ALONE = r"(:[\d.]+[+-]\d\d)$"  # PostgreSQL writes `10:00:00+02`
_NO_FRACTION = r"\.0*$"
_EXACT = 2**53  # below it a float64 holds every whole number, and is of no other one


@dataclass(frozen=True)
class NumberStyle:
    """How numbers are written: what stands before the fraction, and between three digits."""

    decimal: str = "."
    thousands: str = ""

    def plain(self, text: pl.Expr) -> pl.Expr:
        """Numbers as Polars and Python read them; null where they are written otherwise, so that none is misread."""
        if self == PLAIN:
            return text
        point, between = re.escape(self.decimal), re.escape(self.thousands)
        whole = rf"\d{{1,3}}({between}\d{{3}})+|\d+" if between else r"\d+"
        written = rf"^[+-]?(({whole})({point}\d*)?|{point}\d+)([eE][+-]?\d+)?$|{_INFINITE}"
        trimmed = text.str.strip_chars()
        joined = trimmed.str.replace_all(self.thousands, "", literal=True) if self.thousands else trimmed
        return pl.when(trimmed.str.contains(written)).then(joined.str.replace(self.decimal, ".", literal=True))


PLAIN = NumberStyle()


def parse(text: pl.Expr, dtype: Any, style: NumberStyle = PLAIN) -> pl.Expr:
    """Text as `dtype`, null where it is none, or too large for it.

    Whole numbers may be written with a fraction of zeros, as pandas does beside a missing value: `3.0`. Dates are
    ISO 8601: 01/02/2020 is one of two days, and nothing says which.
    """
    trimmed = (style.plain(text) if dtype.is_numeric() else text).str.strip_chars()
    if dtype == pl.Boolean:
        lower = trimmed.str.to_lowercase()
        return pl.when(lower.is_in(["true", "false"])).then(lower == "true")
    if dtype.is_temporal():
        return _time(trimmed, dtype)
    if dtype.is_integer():
        real = trimmed.cast(pl.Float64, strict=False)
        whole = pl.when((real == real.round()) & (real.abs() < _EXACT)).then(real).cast(dtype, strict=False)
        digits = trimmed.str.replace(_NO_FRACTION, "")
        return pl.coalesce(digits.cast(dtype, strict=False), whole)
    if dtype.is_float():
        real = trimmed.cast(dtype, strict=False)
        return pl.when(real.is_finite() | trimmed.str.contains(_INFINITE)).then(real)
    return trimmed.cast(dtype, strict=False) if dtype != pl.String else text


def _time(text: pl.Expr, dtype: Any) -> pl.Expr:
    """ISO 8601 as `dovetail serve` takes it, too; a time with a zone in UTC. Python has the years 1 to 9999."""
    written = pl.when(text.str.contains(_TIME) & ~text.str.starts_with("0000")).then(text)
    day = written.str.to_date("%Y-%m-%d", strict=False, cache=False)
    if dtype == pl.Date:
        return day
    local = (
        written.str.to_datetime(f"%Y-%m-%d{between}{clock}", strict=False, time_unit="us")
        for clock in ("%H:%M:%S%.f", "%H:%M")
        for between in "T "
    )
    offset = written.str.replace("Z$", "+00:00").str.replace(_HOUR_ALONE, "${1}00")
    zoned = (
        offset.str.to_datetime(
            f"%Y-%m-%d{between}{clock}%z", strict=False, time_unit="us", time_zone="UTC"
        ).dt.replace_time_zone(None)
        for clock in ("%H:%M:%S%.f", "%H:%M")
        for between in "T "
    )
    shifted = pl.coalesce(*zoned)
    return pl.coalesce(
        *local, day.cast(pl.Datetime("us")), pl.when(shifted.dt.year().is_between(1, 9999)).then(shifted)
    )
