"""Validation row by row against a schema in pandera's vocabulary, in the same streaming pass as the cleaning.

pandera's own `validate` collects the frame for each check, which neither streams nor tells the rows in one pass. So
its objects (DataFrameSchema, Column, Check) say what to check, and its own implementation of each check is asked for
the Polars expression that it would select: `check_fn` gets a stand-in for a frame whose `select` hands the expression
back. These expressions become flags beside the rows, evaluated by Polars while it reads: benchmarks/cleaning.py.
"""

import inspect
from collections.abc import Callable, Container, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandera.polars as pa
import polars as pl
from pandera.api.polars.types import PolarsData

from stages import raw as raw_files
from stages.config import PARAMS_FILE, Column, Dataset, Schema
from stages.errors import StageError

ROW_CHECKS = (
    *("eq", "ne", "gt", "ge", "lt", "le", "between", "in_range", "isin", "notin"),
    *("equal_to", "not_equal_to", "greater_than", "greater_than_or_equal_to", "less_than", "less_than_or_equal_to"),
    *("str_matches", "str_contains", "str_startswith", "str_endswith", "str_length"),
)
_DTYPES: dict[str, Any] = {
    "str": pl.String,
    "int64": pl.Int64,
    "int32": pl.Int32,
    "float64": pl.Float64,
    "float32": pl.Float32,
    "bool": pl.Boolean,
    "date": pl.Date,
    "datetime": pl.Datetime("us"),
}
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
        return f"{self.column}: {self.name if len(self.name) <= _LABEL else self.name[: _LABEL - 1] + '…'}"


@dataclass(frozen=True)
class Validated:
    """The rows of a raw file told apart, lazily.

    Attributes:
        good: rows that keep all rules, with the schema's types.
        rejected: the others, as read, with `row`, their number from 1, and `reason`.
        counts: one row: `rows`, then a count of breaks per rule, then a count of missing values per column.
        rules: in the order of the counts.
        columns: of the raw file, in the order of the counts.
        row: the name of the column with the row's number; not `row` if the file has one of this name.
        reason: likewise.
    """

    good: pl.LazyFrame
    rejected: pl.LazyFrame
    counts: pl.LazyFrame
    rules: tuple[Rule, ...]
    columns: tuple[str, ...]
    row: str
    reason: str


@dataclass(frozen=True)
class _Typed:
    """A column with the schema's type: its name, how it is made, and where the raw value is none of this type.

    `unparsed` refers to the column by name, so that Polars does not parse twice.
    """

    name: str
    value: pl.Expr
    unparsed: pl.Expr | None = None


def validate(dataset: Dataset, place: str, raw: Path, *, as_text: bool = False) -> Validated:
    """Tell the rows of `raw` apart by the dataset's schema; nothing is read but the head of the file.

    Args:
        dataset: its schema, and how its text is to be read.
        place: of the dataset in params.yaml, for messages.
        raw: the file.
        as_text: read text as text and reject rows with a cell that does not parse, slower; without it such a cell
            makes the reading fail with a polars ComputeError.

    Raises:
        StageError: on a missing or malformed file, missing or unknown columns, checks that cannot be made.
    """
    schema = pandera_schema(dataset.schema_, f"{place}.schema")
    form = raw_files.Format(dataset.clean.separator, tuple(dataset.clean.null_values))
    frame = raw_files.scan(
        raw, form, {name: _parsed_as(column.dtype.type) for name, column in schema.columns.items()}, as_text=as_text
    )
    have = frame.collect_schema()
    _columns_agree(schema, list(have), raw)
    typed = {
        name: _typed(name, have[name], column.dtype.type, f"{raw}: column {name!r}")
        for name, column in schema.columns.items()
        if name in have
    }
    rules = [
        rule
        for name, column in typed.items()
        for rule in _rules(
            schema.columns[name], column, dataset.schema_.columns[name], f"{place}.schema.columns.{name}"
        )
    ]
    return _tell_apart(frame, have, typed, rules)


def _parsed_as(dtype: Any) -> Any:
    return pl.String if dtype.is_temporal() else dtype  # Polars would guess at 01/02/2020


def pandera_schema(schema: Schema, place: str) -> pa.DataFrameSchema:
    """The schema as pandera's own object.

    Raises:
        StageError: on an unknown check or one that rejects its arguments, naming its place in params.yaml.
    """
    pa.Check.get_backend(pl.LazyFrame())  # registers pandera's Polars checks: a schema copies its checks as they are
    columns = {
        name: pa.Column(
            _DTYPES[column.dtype],
            [_check(check, args, f"{place}.columns.{name}.checks") for check, args in column.checks.items()],
            nullable=column.nullable,
            unique=column.unique,
            required=column.required,
        )
        for name, column in schema.columns.items()
    }
    return pa.DataFrameSchema(columns, strict=schema.strict)


def _check(name: str, args: Any, place: str) -> pa.Check:
    if name not in ROW_CHECKS:
        raise StageError(f"{PARAMS_FILE}: {place}: no check {name!r}; there are: {', '.join(ROW_CHECKS)}")
    try:
        return _build(getattr(pa.Check, name), args)
    except Exception as error:  # whatever pandera raises is about these arguments
        raise _bad_arguments(f"{place}.{name}", args, error) from error


def _build(build: Callable[..., pa.Check], args: Any) -> pa.Check:
    """Pandera takes any keyword and ignores what it does not know; a misspelt one is refused here."""
    if not isinstance(args, dict):
        return build(args)
    parameters = inspect.signature(build).parameters.values()
    allowed = [p.name for p in parameters if p.kind in {p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY}] + ["ignore_na"]
    if unknown := [arg for arg in args if arg not in allowed]:
        raise TypeError(f"unknown argument {unknown[0]!r}; allowed: {', '.join(allowed)}")
    return build(**args)


def _bad_arguments(place: str, args: Any, error: Exception) -> StageError:
    return StageError(f"{PARAMS_FILE}: {place} = {args!r}: {' '.join(str(error).split())[:200]}")


def _columns_agree(schema: pa.DataFrameSchema, have: list[str], raw: Path) -> None:
    if missing := [name for name, column in schema.columns.items() if column.required and name not in have]:
        raise StageError(
            f"{raw} has no column {missing[0]!r}, only {', '.join(have)}; mend the file, or the schema in {PARAMS_FILE}"
        )
    if schema.strict and (unknown := [name for name in have if name not in schema.columns]):
        raise StageError(
            f"{raw}: column {unknown[0]!r} is not in the strict schema; add it to {PARAMS_FILE}, or drop it"
        )


def _typed(name: str, have: Any, wanted: Any, what: str) -> _Typed:
    column = pl.col(name)
    if have == wanted:
        return _Typed(name, column)
    typed = f"__{name}"
    if have == pl.String:
        return _Typed(typed, raw_files.parse(column, wanted), pl.col(typed).is_null() & column.is_not_null())
    value = column.cast(wanted, strict=False)
    if (wanted == pl.String and not have.is_nested()) or have == pl.Null:
        return _Typed(typed, value)
    if not _same_family(have, wanted):
        raise StageError(f"{what} is {have}, which cannot be {wanted}; mend the file, or the schema in {PARAMS_FILE}")
    if wanted.is_float() or wanted == pl.Datetime:
        return _Typed(typed, value)  # at most rounded
    return _Typed(typed, value, pl.col(typed).cast(have, strict=False).ne_missing(column))  # 25.5 is no int64


def _same_family(have: Any, wanted: Any) -> bool:
    numbers = have.is_numeric() or have == pl.Boolean
    return numbers and not wanted.is_temporal() if not have.is_temporal() else wanted.is_temporal()


def _rules(column: pa.Column, typed: _Typed, config: Column, place: str) -> Iterator[Rule]:
    name, value = column.name, pl.col(typed.name)
    if typed.unparsed is not None:
        yield Rule(name, f"dtype({config.dtype})", typed.unparsed)
    if not column.nullable:
        yield Rule(name, "not_nullable", pl.col(name).is_null())
    if column.unique:
        yield Rule(name, "unique", value.is_duplicated() & value.is_not_null())
    for check, (given, args) in zip(column.checks, config.checks.items(), strict=True):
        try:
            passes = _passes(check, typed.name, column.dtype.type)
        except Exception as error:  # pandera's or Polars' word on a value that does not go with this column
            raise _bad_arguments(f"{place}.checks.{given}", args, error) from error
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


def _tell_apart(frame: pl.LazyFrame, have: pl.Schema, typed: dict[str, _Typed], rules: list[Rule]) -> Validated:
    row, reason = _unused("row", have), _unused("reason", have)
    coded = pl.Categorical, pl.Enum  # as text: an Arrow file has but one set of codes
    as_read = [pl.col(name).cast(pl.String) if dtype in coded else pl.col(name) for name, dtype in have.items()]
    flags = [f"__broken{number}" for number in range(len(rules))]
    flagged = (
        frame.with_row_index(row, offset=1)
        .with_columns(column.value.alias(column.name) for name, column in typed.items() if column.name != name)
        .with_columns(rule.broken.alias(flag) for flag, rule in zip(flags, rules, strict=True))
    )
    broken = pl.any_horizontal(flags) if flags else pl.lit(value=False)
    reasons: list[pl.Expr] = [pl.when(flag).then(pl.lit(rule.reason)) for flag, rule in zip(flags, rules, strict=True)]
    return Validated(
        good=flagged.filter(~broken).select(
            pl.col(typed[name].name).alias(name) if name in typed else pl.col(name) for name in have
        ),
        rejected=flagged.filter(broken).select(
            row, *as_read, pl.concat_str(reasons or pl.lit(""), separator="; ", ignore_nulls=True).alias(reason)
        ),
        counts=flagged.select(
            pl.len().alias("rows"),
            *(pl.col(flag).sum() for flag in flags),
            *(pl.col(name).null_count().alias(f"__missing{number}") for number, name in enumerate(have)),
        ),
        rules=tuple(rules),
        columns=tuple(have),
        row=row,
        reason=reason,
    )


def _unused(name: str, taken: Container[str]) -> str:
    while name in taken:
        name += "_"
    return name
