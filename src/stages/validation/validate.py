"""Validation row by row, in the same streaming pass as the cleaning."""

from collections.abc import Container, Mapping
from dataclasses import dataclass
from typing import Any

import pandera.polars as pa
import polars as pl

from stages.common.datasets import Dataset, Schema
from stages.common.errors import StageError, listed
from stages.common.params import PARAMS_FILE
from stages.data.parsing import PLAIN
from stages.data.raw_file import CSV, Raw, scan
from stages.validation.rules import Rule, Typed, rules_of, typed_column
from stages.validation.schema import pandera_schema
from stages.validation.type_report import report_of

_MOST_DIGITS = 38  # of Polars' decimals


@dataclass(frozen=True)
class Validated:
    """The rows of a raw file told apart, lazily.

    Attributes:
        good: rows that keep all rules, with the schema's types.
        typed: all rows, with the schema's types; null where a value does not parse.
        rejected: the others, as read, with `row`, their number from 1, and `reason`.
        counts: one row: `rows`, then a count of breaks per rule, then a count of missing values per column, then how
            many values are infinite.
        rules: in the order of the counts.
        columns: of the raw file, in the order of the counts.
        row: the name of the column with the row's number; not `row` if the file has one of this name.
        reason: likewise.
    """

    good: pl.LazyFrame
    typed: pl.LazyFrame
    rejected: pl.LazyFrame
    counts: pl.LazyFrame
    rules: tuple[Rule, ...]
    columns: tuple[str, ...]
    row: str
    reason: str

    def unnamed(self, schema: Schema) -> dict[str, Any]:
        """The types of the columns that the schema does not name."""
        return {name: dtype for name, dtype in self.good.collect_schema().items() if name not in schema.columns}


def validate(
    dataset: Dataset, place: str, raw: Raw, *, as_text: bool = False, repeated: Mapping[str, pl.Series] | None = None
) -> Validated:
    """Tell the rows of `raw` apart by the dataset's schema; nothing is read but the head of the file.

    Args:
        dataset: its schema, and how its text is to be read.
        place: of the dataset in params.yaml, for messages.
        raw: the file.
        as_text: read text as text and reject rows with a cell that does not parse, slower; without it such a cell
            makes the reading fail with a polars ComputeError.
        repeated: by column that has to be unique, the values that come twice in rows beyond these.

    Raises:
        StageError: on a missing or malformed file, missing or unknown columns, checks that cannot be made.
    """
    schema = pandera_schema(dataset.schema_, f"{place}.schema")
    frame = scan(raw, {name: _parsed_as(column.dtype.type) for name, column in schema.columns.items()}, as_text=as_text)
    have = frame.collect_schema()
    _columns_agree(schema, have, raw)
    style = raw.form.numbers if raw.kind == CSV else PLAIN
    typed = {
        name: typed_column(
            f"column{number}",
            f"value{number}",
            dtype,
            schema.columns[name].dtype.type,
            f"{raw.path}: column {name!r}",
            style=style,
        )
        for number, (name, dtype) in enumerate(have.items())
        if name in schema.columns
    }
    rules = [
        rule
        for name, column in schema.columns.items()
        if name in typed
        for rule in rules_of(
            column,
            typed[name],
            dataset.schema_.columns[name],
            f"{place}.schema.columns.{name}",
            (repeated or {}).get(name),
        )
    ]
    return _tell_apart(frame, have, typed, rules, raw)


def _parsed_as(dtype: Any) -> Any:
    return pl.String if dtype.is_temporal() else dtype  # Polars would guess at 01/02/2020


def _columns_agree(schema: pa.DataFrameSchema, have: pl.Schema, raw: Raw) -> None:
    if odd := [name for name in have if "\0" in name]:  # Arrow's names end there, and Polars panics
        raise StageError(f"{raw.path}: the column name {odd[0]!r} holds a NUL; rename the column in the file")
    for name, dtype in have.items():
        if isinstance(dtype, pl.Decimal) and dtype.precision > _MOST_DIGITS:
            raise StageError(
                f"{raw.path}: column {name!r} is {dtype}, of more than {_MOST_DIGITS} digits; correct the file"
            )
    if missing := [name for name, column in schema.columns.items() if column.required and name not in have]:
        near = next((name for name in have if name.strip().casefold() == missing[0].strip().casefold()), None)
        raise StageError(
            f"{raw.path} has no column {missing[0]!r}, only {listed(have)}; "
            + (f"it has {near!r}: " if near else "")
            + f"correct the file, or the schema in {PARAMS_FILE}"
        )
    unknown = {name: dtype for name, dtype in have.items() if name not in schema.columns}
    if schema.strict and unknown:
        looks = "; ".join(
            f"{name!r} ({column['type']}{', looks like ' + column['looks_like'] if 'looks_like' in column else ''})"
            for name, column in report_of(raw, unknown).items()
        )
        several = len(unknown) > 1
        raise StageError(
            f"{raw.path}: the strict schema does not name {'columns' if several else 'column'} {looks}; "
            f"add {'them' if several else 'it'} to {PARAMS_FILE}, or drop {'them' if several else 'it'}"
        )


def _tell_apart(
    frame: pl.LazyFrame, have: pl.Schema, typed: dict[str, Typed], rules: list[Rule], raw: Raw
) -> Validated:
    """Add flags to the rows and sort them by these.

    In between all columns have names of ours, which the file's names can neither meet nor be read as a pattern by.
    """
    row, reason = _unused("row", have), _unused("reason", have)
    inner = {name: f"column{number}" for number, name in enumerate(have)}
    as_read = {name: _uncoded(dtype) for name, dtype in have.items()}  # an Arrow file has one code for all rows
    if raw.range and raw.is_text:
        as_read |= dict.fromkeys(typed, pl.String)  # or one part would have text, another one numbers
    part = [pl.lit(raw.range.part).alias(_unused("part", have))] if raw.range else []
    flags = [f"broken{number}" for number in range(len(rules))]
    flagged = (
        frame.rename(inner)
        .with_row_index("row", offset=1 + (raw.range.start if raw.range else 0))
        .with_columns(column.value.alias(column.name) for column in typed.values() if column.name != column.raw)
        .with_columns(rule.broken.alias(flag) for flag, rule in zip(flags, rules, strict=True))
    )
    infinite = [pl.col(inner[name]).is_infinite().sum() for name in typed if have[name].is_float()]
    broken = pl.any_horizontal(flags) if flags else pl.lit(value=False)
    reasons: list[pl.Expr] = [pl.when(flag).then(pl.lit(rule.reason)) for flag, rule in zip(flags, rules, strict=True)]
    values = [pl.col(typed[name].name if name in typed else inner[name]).alias(name) for name in have]
    return Validated(
        good=flagged.filter(~broken).select(values),
        typed=flagged.select(values),
        rejected=flagged.filter(broken).select(
            *part,
            pl.col("row").alias(row),
            *(pl.col(inner[name]).cast(dtype).alias(name) for name, dtype in as_read.items()),
            pl.concat_str(reasons or pl.lit(""), separator="; ", ignore_nulls=True).alias(reason),
        ),
        counts=flagged.select(
            pl.len().alias("rows"),
            *(pl.col(flag).sum() for flag in flags),
            *(pl.col(column).null_count().alias(f"missing_{column}") for column in inner.values()),
            pl.sum_horizontal(*infinite, pl.lit(0)).alias("infinite"),
        ),
        rules=tuple(rules),
        columns=tuple(have),
        row=row,
        reason=reason,
    )


def _uncoded(dtype: Any) -> Any:
    """The type with text in place of categories, also within lists and structs."""
    if dtype in (pl.Categorical, pl.Enum):
        return pl.String
    if isinstance(dtype, pl.List):
        return pl.List(_uncoded(dtype.inner))
    if isinstance(dtype, pl.Array):
        return pl.Array(_uncoded(dtype.inner), dtype.size)
    if isinstance(dtype, pl.Struct):
        return pl.Struct({field.name: _uncoded(field.dtype) for field in dtype.fields})
    return dtype


def _unused(name: str, taken: Container[str]) -> str:
    while name in taken:
        name += "_"
    return name
