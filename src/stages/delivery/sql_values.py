"""Columns as a database has them: names, types, and values that would arrive there as other ones."""

from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl
import polars.selectors as cs

from stages.common.errors import StageError
from stages.common.params import PARAMS_FILE
from stages.data.raw_file import by_name
from stages.delivery.content import Content

if TYPE_CHECKING:
    from sqlalchemy import Dialect

_LEAST, _MOST = -(2**63), 2**63 - 1  # of a BIGINT
_DIGITS = 15  # of a decimal that a float64 holds, whatever they are
_FINITE = {"mysql", "mariadb", "mssql"}  # whose numbers are neither infinite nor none
_WITHOUT_CASE = {"sqlite", "mysql", "mariadb", "mssql"}  # in names of columns
_FIX = "cast it in the cleaning script"


def check_names(dialect: "Dialect", name: str, content: Content) -> None:
    """Refuse names that the database cuts off without a word, and columns that are one there.

    Raises:
        StageError: naming them.
    """
    columns = pl.scan_parquet(content.file, glob=False).collect_schema().names()
    most = dialect.max_identifier_length
    table = (f"{PARAMS_FILE}: {content.place}.table", name.rpartition(".")[2])
    for what, one in (table, *((content.file, column) for column in columns)):
        if dialect.name == "postgresql" and len(one.encode()) > most:
            raise StageError(
                f"{what}: {one!r} is longer than the {most} bytes that PostgreSQL keeps of a name; shorten it"
            )
    known: dict[str, str] = {}
    for column in columns if dialect.name in _WITHOUT_CASE else ():
        if (other := known.setdefault(column.lower(), column)) != column:
            raise StageError(
                f"{content.file}: the columns {other!r} and {column!r} have one name in {dialect.name}; rename one in "
                "the cleaning script"
            )


def sql_type(dtype: Any, what: str) -> Any:
    """SQLAlchemy's type for a column that `what` names.

    Raises:
        StageError: there is none.
    """
    import sqlalchemy as sa
    from sqlalchemy.dialects import mssql, mysql, oracle

    # MySQL, SQL Server and Oracle leave fractions of a second out of what they call DATETIME, TIME or DATE. A TEXT of
    # MySQL ends after 64 KiB, and SQL Server's knows the signs of one code page alone.
    moment = sa.DateTime().with_variant(mysql.DATETIME(fsp=6), "mysql", "mariadb")
    precise = mssql.DATETIME2(6)  # type: ignore[no-untyped-call]  # SQLAlchemy has not typed it
    moment = moment.with_variant(precise, "mssql").with_variant(oracle.TIMESTAMP(), "oracle")
    text = sa.Text().with_variant(mysql.LONGTEXT(), "mysql", "mariadb").with_variant(sa.NVARCHAR(), "mssql")
    kinds: tuple[tuple[bool, Any], ...] = (
        (dtype.is_integer(), sa.BigInteger()),
        (dtype.is_float(), sa.Double()),
        (dtype == pl.Boolean, sa.Boolean()),
        (dtype == pl.Date, sa.Date()),
        (dtype == pl.Datetime, moment),
        (dtype == pl.Time, sa.Time().with_variant(mysql.TIME(fsp=6), "mysql", "mariadb")),
        (any(dtype == kind for kind in (pl.String, pl.Categorical, pl.Enum, pl.Null)), text),  # a set knows no instance
    )
    if dtype.is_decimal():
        return sa.Numeric(dtype.precision, dtype.scale)  # without them MySQL and SQL Server keep no fraction
    if kind := next((kind for fits, kind in kinds if fits), None):
        return kind
    raise StageError(f"{what} is {dtype}, for which a database has no type; {_FIX}")


def in_utc(rows: pl.LazyFrame) -> pl.LazyFrame:
    """Times with a zone in UTC, without it, as Delta has them."""
    return rows.with_columns(cs.datetime(time_zone="*").dt.convert_time_zone("UTC").dt.replace_time_zone(None))


def refuse_others(batch: pl.DataFrame, dialect: "Dialect", file: Path) -> None:
    """Refuse values that the database would refuse without a name, or have as other ones without a word.

    Raises:
        StageError: naming the column, and the value.
    """
    for name, dtype in batch.schema.items():
        what = f"{file}: column {name!r}:"
        for odd, why in _odd(by_name(name), dtype, dialect):
            found = batch.lazy().filter(odd).select(by_name(name).cast(pl.String)).head(1).collect()
            if found.height:
                raise StageError(f"{what} {found.item()} {why}; {_FIX}")
        if isinstance(dtype, pl.Decimal) and (given := _given_as(dtype, dialect)):
            has_many = by_name(name).abs() >= pl.lit(Decimal(10) ** (_DIGITS - dtype.scale))
            for value in batch.filter(has_many)[name]:
                if Decimal(repr(given(value))) != value:
                    raise StageError(f"{what} {value} has more digits than {dialect.name} gets of a decimal; {_FIX}")


def _odd(column: pl.Expr, dtype: Any, dialect: "Dialect") -> Iterator[tuple[pl.Expr, str]]:
    """What is odd in a column of the type, with the reason."""
    if any(dtype == kind for kind in (pl.UInt64, pl.Int128, pl.UInt128)):
        yield (column > _MOST) | (column < _LEAST), "is beyond the 64 bits of a whole number there"
    if dtype.is_float() and dialect.name in _FINITE:
        yield ~column.is_finite(), f"is no number in {dialect.name}"
    if dtype == pl.Time or (dtype == pl.Datetime and dtype.time_unit == "ns"):
        yield column.to_physical() % 1000 != 0, "has nanoseconds, and times there have microseconds"
    if any(dtype == kind for kind in (pl.Date, pl.Datetime)):
        yield ~column.dt.year().is_between(1, 9999), "is not between the years 1 and 9999"


def _given_as(dtype: Any, dialect: "Dialect") -> Callable[[Decimal], float] | None:
    """What SQLAlchemy makes of a decimal for a driver that knows none."""
    found: Callable[[Decimal], float] | None = sql_type(dtype, "").dialect_impl(dialect).bind_processor(dialect)
    return found
