"""What a row must keep, as Polars expressions evaluated while the file is read.

pandera's own `validate` collects the frame for each check, which neither streams nor tells the rows in one pass. So
its objects (DataFrameSchema, Column, Check) say what to check, and its own implementation of each check is asked for
the Polars expression that it would select: `check_fn` gets a stand-in for a frame whose `select` hands the expression
back. These expressions become flags beside the rows: benchmarks/cleaning.py.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pandera.polars as pa
import polars as pl
from pandera.api.polars.types import PolarsData

from stages.common.datasets import Column
from stages.common.errors import StageError, listed
from stages.common.params import PARAMS_FILE
from stages.data.parsing import PLAIN, NumberStyle, parse
from stages.validation.schema import bad_arguments

_LABEL = 120  # characters of a reason: a check may list a thousand allowed values


@dataclass(frozen=True)
class Rule:
    """What a row must keep. `broken` is true where it does not, and never null."""

    column: str
    name: str
    broken: pl.Expr

    @property
    def reason(self) -> str:
        """As it stands beside a rejected row: `age: in_range(0, 130)`."""
        return f"{listed([self.column])}: {self.name if len(self.name) <= _LABEL else self.name[: _LABEL - 1] + '…'}"


@dataclass(frozen=True)
class Typed:
    """A column with the schema's type.

    Attributes:
        raw: the column as read.
        name: the column with the schema's type; the same if it has that type already.
        value: how it is made.
        unparsed: where the raw value is none of this type; by `name`, so that Polars does not parse twice.
    """

    raw: str
    name: str
    value: pl.Expr
    unparsed: pl.Expr | None = None


def typed_column(  # noqa: PLR0913  names before and after, types before and after
    raw: str, name: str, have: Any, wanted: Any, what: str, *, style: NumberStyle = PLAIN
) -> Typed:
    """How the column `raw` gets the schema's type, as the column `name`; `style` is how text writes numbers.

    Raises:
        StageError: if no value of the column's type could be of the schema's.
    """
    column = pl.col(raw)
    if have == wanted:
        return Typed(raw, raw, column)
    if have == pl.String:
        return Typed(raw, name, parse(column, wanted, style), pl.col(name).is_null() & column.is_not_null())
    value = column.cast(wanted, strict=False)
    is_plain = not (have.is_nested() or have == pl.Duration or isinstance(have, pl.BaseExtension))
    if (wanted == pl.String and is_plain) or have == pl.Null:
        return Typed(raw, name, value)
    if not _same_family(have, wanted):
        raise StageError(
            f"{what} is {have}, which cannot be {wanted}; correct the file, or the schema in {PARAMS_FILE}"
        )
    if wanted.is_float():  # at most rounded, but 1e39 is no float32
        return Typed(raw, name, value, pl.col(name).is_infinite() & column.is_finite() if have.is_float() else None)
    if wanted == pl.Datetime:  # at most rounded, or too far away for microseconds
        return Typed(raw, name, value, pl.col(name).is_null() & column.is_not_null())
    return Typed(raw, name, value, pl.col(name).cast(have, strict=False).ne_missing(column))  # 25.5 is no int64


def _same_family(have: Any, wanted: Any) -> bool:
    numbers = have.is_numeric() or have == pl.Boolean
    return numbers and not wanted.is_temporal() if not have.is_temporal() else _has_day(have) and _has_day(wanted)


def _has_day(dtype: Any) -> bool:
    return dtype in (pl.Date, pl.Datetime)


def rules_of(
    column: pa.Column, typed: Typed, config: Column, place: str, repeated: pl.Series | None = None
) -> Iterator[Rule]:
    """The rules of one column, in the order in which reasons name them.

    Args:
        column: as pandera has it.
        typed: how it is read.
        config: as params.yaml has it.
        place: of the column there, for messages.
        repeated: the values that come twice, where the rows at hand are not all that there are.

    Raises:
        StageError: on a check whose arguments do not go with the column's type.
    """
    name, value = column.name, pl.col(typed.name)
    if typed.unparsed is not None:
        yield Rule(name, f"dtype({config.dtype})", typed.unparsed)
    if not column.nullable:
        yield Rule(name, "not_nullable", pl.col(typed.raw).is_null())
    if column.unique:
        twice = value.is_duplicated() if repeated is None else value.is_in(repeated.implode())
        yield Rule(name, "unique", (twice & value.is_not_null()).fill_null(value=False))
    for check, (given, args) in zip(column.checks, config.checks.items(), strict=True):
        try:
            passes = _passes(check, typed.name, column.dtype.type)
        except Exception as error:  # pandera's or Polars' word on a value that does not go with this column
            raise bad_arguments(f"{place}.checks.{given}", args, error) from error
        yield Rule(name, str(check.error or given), ~passes.fill_null(value=check.ignore_na))


class _Frame:
    """Stands in for the frame in a check's implementation, to get the expression that it selects."""

    @staticmethod
    def select(expression: pl.Expr) -> pl.Expr:
        return expression


def _passes(check: pa.Check, column: str, dtype: Any) -> pl.Expr:
    """The expression of a check, tried on an empty column so that a wrong argument shows before any row is read."""
    probe = pl.LazyFrame(schema={column: dtype})
    implementation: Any = check.get_backend(probe)(check)
    frame: Any = _Frame()
    passes: pl.Expr = implementation.check_fn(PolarsData(frame, column))
    probe.select(passes.cast(pl.Boolean)).collect()
    return passes
