"""Raw files: how their text is read, and the lazy frame that they hold."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import polars.selectors as cs

from stages.common.errors import StageError
from stages.data.parsing import parse

_SAMPLE = 10_000  # rows from which the type of a column that the schema does not name is inferred
FIX = "correct the file, or fetch it again"


@dataclass(frozen=True)
class Format:
    """How a text file is to be read."""

    separator: str = ","
    null_values: tuple[str, ...] = ("",)


def require(path: Path) -> None:
    """Refuse a path that is not a file, saying where the file could come from."""
    if not path.is_file():
        raise StageError(f"{path} is missing; put the file there, or restore it: dvc pull, git checkout")


def malformed(path: Path, error: Exception) -> StageError:
    """The refusal of a file that its own format's reader refuses."""
    return StageError(f"{path} is not readable as {path.suffix[1:]}: {one_line(error)}; {FIX}")


def one_line(error: Exception) -> str:
    """The error's message in one line of at most 300 characters."""
    return " ".join(str(error).split())[:300]


def scan(path: Path, form: Format, columns: Mapping[str, Any], *, as_text: bool = False) -> pl.LazyFrame:
    """The rows of `path`, lazily; a NaN is read as missing.

    Args:
        path: a CSV, Parquet or JSON lines file.
        form: how the text of a CSV file is to be read.
        columns: dtype by name. Text is parsed as these; reading fails on a cell that does not parse.
        as_text: leave these columns text instead, for a file in which a cell does not parse. A column not named
            keeps the type inferred from the first rows if all its cells parse, and stays text otherwise, so that
            its type depends on nothing but itself.

    Raises:
        StageError: if the file is missing or malformed.
    """
    require(path)
    try:
        if path.suffix == ".parquet":
            frame = pl.scan_parquet(path)
            frame.collect_schema()
        else:
            frame = _scan_text(path, form, columns, as_text=as_text)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise malformed(path, error) from error
    have = frame.collect_schema()
    texts = [by_name(name) for name, dtype in columns.items() if dtype.is_float() and have.get(name) == pl.String]
    spelled = [pl.when(text.str.strip_chars().str.to_lowercase() != "nan").then(text).name.keep() for text in texts]
    return frame.with_columns(cs.float().fill_nan(None), *spelled)


def _scan_text(path: Path, form: Format, columns: Mapping[str, Any], *, as_text: bool) -> pl.LazyFrame:
    schema = _open(path, form, {}).collect_schema()
    if path.suffix == ".jsonl" and not columns.keys() <= schema.keys():  # a key may first appear in a late row
        schema = _open(path, form, {}, sample=None).collect_schema()
    named = {name: pl.String if as_text else dtype for name, dtype in columns.items() if name in schema}
    others = {name: _storable(dtype) for name, dtype in schema.items() if name not in columns}
    if as_text:
        others = _fitting(path, form, others)
    return _open(path, form, others | named)


def _storable(dtype: Any) -> Any:
    return pl.String if dtype == pl.Int128 else dtype  # neither Arrow nor Parquet knows 128 bits


def _fitting(path: Path, form: Format, inferred: dict[str, Any]) -> dict[str, Any]:
    """`inferred`, but text where some cell does not parse."""
    simple = [name for name, dtype in inferred.items() if dtype.is_numeric() or dtype == pl.Boolean]
    text = _open(path, form, inferred | dict.fromkeys(simple, pl.String))
    odd = [(parse(by_name(name), inferred[name]).is_null() & by_name(name).is_not_null()).any() for name in simple]
    broken = text.select(odd).collect(engine="streaming").row(0) if simple else ()
    return inferred | {name: pl.String for name, is_broken in zip(simple, broken, strict=True) if is_broken}


def by_name(name: str) -> pl.Expr:
    """The column of exactly this name; `pl.col` would read `*` and `^x$` as patterns."""
    return cs.by_name(name).as_expr()


def _open(path: Path, form: Format, overrides: dict[str, Any], sample: int | None = _SAMPLE) -> pl.LazyFrame:
    if path.suffix == ".jsonl":
        return pl.scan_ndjson(path, schema_overrides=overrides, infer_schema_length=sample)
    return pl.scan_csv(
        path,
        separator=form.separator,
        null_values=list(form.null_values),
        schema_overrides=overrides,
        infer_schema_length=sample,
    )
