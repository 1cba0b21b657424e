"""A dataset's schema as pandera's own object."""

import inspect
from collections.abc import Callable
from typing import Any

import pandera.polars as pa
import polars as pl

from stages.common.datasets import Schema
from stages.common.errors import StageError
from stages.common.params import PARAMS_FILE

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
        raise bad_arguments(f"{place}.{name}", args, error) from error


def _build(build: Callable[..., pa.Check], args: Any) -> pa.Check:
    """Pandera takes any keyword and ignores what it does not know; a misspelt one is refused here."""
    if not isinstance(args, dict):
        return build(args)
    parameters = inspect.signature(build).parameters.values()
    allowed = [p.name for p in parameters if p.kind in {p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY}] + ["ignore_na"]
    if unknown := [arg for arg in args if arg not in allowed]:
        raise TypeError(f"unknown argument {unknown[0]!r}; allowed: {', '.join(allowed)}")
    return build(**args)


def bad_arguments(place: str, args: Any, error: Exception) -> StageError:
    """The refusal of a check's arguments, at their place in params.yaml."""
    return StageError(f"{PARAMS_FILE}: {place} = {args!r}: {' '.join(str(error).split())[:200]}")
