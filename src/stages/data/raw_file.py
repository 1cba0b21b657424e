"""Raw files: how they are to be read, and the lazy frame that they hold."""

import csv
import glob
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl
import polars.selectors as cs

from stages.common.datasets import Cleaning
from stages.common.errors import StageError
from stages.data.parsing import PLAIN, NumberStyle, parse

CSV, JSONL, PARQUET, ARROW = "csv", "jsonl", "parquet", "arrow"
SAMPLE = 10_000  # rows from which the type of a column that the schema does not name is inferred
FIX = "correct the file, or fetch it again"


@dataclass(frozen=True)
class Format:
    """How a raw file is to be read.

    Attributes:
        separator: of a CSV file.
        null_values: what a CSV file or a text cell of Excel says for a missing value.
        encoding: of a text file.
        numbers: how a CSV file writes them.
        sheet: of an Excel file; None: its only one.
        place: the settings in params.yaml, for messages.
    """

    separator: str = ","
    null_values: tuple[str, ...] = ("",)
    encoding: str = "utf-8"
    numbers: NumberStyle = PLAIN
    sheet: str | None = None
    place: str = "the dataset's clean block"

    @classmethod
    def of(cls, path: Path, clean: Cleaning | None = None, place: str = "the dataset's clean block") -> "Format":
        """As a dataset's settings say, or as the file's name does."""
        usual = "\t" if path.name.lower().removesuffix(".gz").endswith(".tsv") else ","
        if clean is None:
            return cls(usual)
        style = NumberStyle(clean.decimal, clean.thousands)
        return cls(clean.separator or usual, tuple(clean.null_values), clean.encoding, style, clean.sheet, place)


@dataclass(frozen=True)
class RowRange:
    """Rows of a part, where a raw folder is read range by range.

    Attributes:
        part: the file's name in the folder.
        start: rows of the part before the range.
        rows: how many there are.
        types: of columns that the schema does not name, as the first range has them.
    """

    part: str
    start: int
    rows: int
    types: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Raw:
    """A raw file that can be scanned.

    Attributes:
        path: the file as users know it, for messages.
        file: what is read: the file itself or, where it is packed or written otherwise, a plain copy.
        kind: of `file`: CSV or JSONL, both in UTF-8, PARQUET (it may be a folder) or ARROW.
        form: how it is to be read.
        range: its rows that are meant, if not all; of a text file, `file` holds these alone.
        columns: of JSON lines, with their types: neither the first rows nor those of `file` need say which there are.
    """

    path: Path
    file: Path
    kind: str
    form: Format
    range: RowRange | None = None
    columns: Mapping[str, Any] | None = None

    @property
    def is_text(self) -> bool:
        """Whether its values are written as text."""
        return self.kind in {CSV, JSONL}


def malformed(path: Path, kind: str, error: Exception) -> StageError:
    """The refusal of a file that its own format's reader refuses."""
    return StageError(f"{path} is not readable as {kind}: {one_line(error)}; {FIX}")


def one_line(error: Exception) -> str:
    """The error's message in one line of at most 300 characters."""
    return " ".join(str(error).split())[:300]


def scan(raw: Raw, columns: Mapping[str, Any], *, as_text: bool = False) -> pl.LazyFrame:
    """The rows of `raw`, lazily; a NaN is read as missing.

    Args:
        raw: the file.
        columns: dtype by name. Text is parsed as these; reading fails on a cell that does not parse.
        as_text: leave these columns text instead, for a file in which a cell does not parse. A column not named
            keeps the type inferred from the first rows if all its cells parse, is float64 where that was whole numbers
            and others come later, and stays text otherwise, so that its type depends on nothing but itself.

    Raises:
        StageError: if the file is malformed.
    """
    try:
        frame = _scan_text(raw, columns, as_text=as_text) if raw.is_text else _scan_typed(raw)
        have = frame.collect_schema()
    except (pl.exceptions.PolarsError, OSError) as error:
        raise malformed(raw.path, raw.kind, error) from error
    texts = [by_name(name) for name, dtype in columns.items() if dtype.is_float() and have.get(name) == pl.String]
    spelled = [pl.when(text.str.strip_chars().str.to_lowercase() != "nan").then(text).name.keep() for text in texts]
    return frame.with_columns(cs.float().fill_nan(None), *spelled)


def _scan_typed(raw: Raw) -> pl.LazyFrame:
    if raw.file.is_dir():
        return pl.scan_parquet(Path(escaped(raw.file), "**", "*.parquet"), hive_partitioning=True)
    frame = (pl.scan_ipc if raw.kind == ARROW else pl.scan_parquet)(raw.file, glob=False)
    return frame.slice(raw.range.start, raw.range.rows) if raw.range else frame


def _scan_text(raw: Raw, columns: Mapping[str, Any], *, as_text: bool) -> pl.LazyFrame:
    schema = _open(raw, {}).collect_schema()
    style = raw.form.numbers if raw.kind == CSV else PLAIN
    named = {
        name: pl.String if as_text or (style != PLAIN and dtype.is_numeric()) else dtype
        for name, dtype in columns.items()
        if name in schema
    }
    known = raw.range.types if raw.range else {}
    others = {name: known.get(name, _storable(dtype)) for name, dtype in schema.items() if name not in columns}
    if style != PLAIN:
        return _with_numbers(raw, named, others, style)
    if as_text:
        others = _fitting(raw, others)
    return _open(raw, others | named)


def _storable(dtype: Any) -> Any:
    return pl.String if dtype == pl.Int128 else dtype  # neither Arrow nor Parquet knows 128 bits


def _fitting(raw: Raw, inferred: dict[str, Any]) -> dict[str, Any]:
    """`inferred`, but float64 where a column of whole numbers has others too, and text where a cell does not parse."""
    simple = [name for name, dtype in inferred.items() if dtype.is_numeric() or dtype == pl.Boolean]
    text = _open(raw, inferred | dict.fromkeys(simple, pl.String))
    kinds = {name: [inferred[name], *([pl.Float64] if inferred[name].is_integer() else [])] for name in simple}
    asked = [(name, kind) for name, tried in kinds.items() for kind in tried]
    odd = [(parse(by_name(name), kind).is_null() & by_name(name).is_not_null()).any() for name, kind in asked]
    inner = [one.alias(str(number)) for number, one in enumerate(odd)]
    broken = text.select(inner).collect(engine="streaming").row(0) if inner else ()
    fits = {one for one, is_broken in zip(asked, broken, strict=True) if not is_broken}
    found = {name: next((kind for kind in kinds[name] if (name, kind) in fits), pl.String) for name in simple}
    return inferred | found


def _with_numbers(raw: Raw, named: dict[str, Any], others: dict[str, Any], style: NumberStyle) -> pl.LazyFrame:
    """The rows with those of the `others` as numbers whose values are all numbers as this file writes them."""
    maybe = [name for name, dtype in others.items() if dtype == pl.String or dtype.is_numeric()]
    frame = _open(raw, others | named | dict.fromkeys(maybe, pl.String))
    kinds = (pl.Int64, pl.Float64)
    fits = [
        (parse(by_name(name), kind, style).is_null() == by_name(name).is_null()).all()
        & by_name(name).is_not_null().any()
        for name in maybe
        for kind in kinds
    ]
    inner = [fit.alias(str(number)) for number, fit in enumerate(fits)]
    found = iter(frame.select(inner).collect(engine="streaming").row(0) if inner else ())
    numbers = {name: next((kind for kind, fit in zip(kinds, [next(found), next(found)], strict=True) if fit), None)
               for name in maybe}  # fmt: skip
    return frame.with_columns(
        parse(by_name(name), kind, style).alias(name) for name, kind in numbers.items() if kind is not None
    )


def escaped(file: Path) -> str:
    """The path as Polars takes it where it reads any as a pattern: `a[1].jsonl` is that file."""
    return glob.escape(str(file))


def by_name(name: str) -> pl.Expr:
    """The column of exactly this name; `pl.col` would read `*` and `^x$` as patterns."""
    return cs.by_name(name).as_expr()


def _open(raw: Raw, overrides: dict[str, Any]) -> pl.LazyFrame:
    if raw.columns is not None:
        return pl.scan_ndjson(escaped(raw.file), schema={**raw.columns, **overrides})
    if raw.kind == JSONL:
        return pl.scan_ndjson(escaped(raw.file), schema_overrides=overrides, infer_schema_length=SAMPLE)
    renamed = _unescaped(raw)
    there = {name: read for read, name in renamed.items()}
    return _csv(raw, {there.get(name, name): dtype for name, dtype in overrides.items()}).rename(renamed)


def _csv(raw: Raw, overrides: dict[str, Any], rows: int = SAMPLE) -> pl.LazyFrame:
    return pl.scan_csv(
        raw.file,
        separator=raw.form.separator,
        null_values=list(raw.form.null_values),
        schema_overrides=overrides,
        infer_schema_length=rows,
        glob=False,
    )


def _unescaped(raw: Raw) -> dict[str, str]:
    """By Polars' name, that of a column with a quote in it: Polars leaves it doubled, as the header has it."""
    with raw.file.open(encoding="utf-8-sig", errors="replace", newline="") as file:
        names = next(csv.reader(file, delimiter=raw.form.separator), [])
    if not any('"' in name for name in names):
        return {}
    read = _csv(raw, {}, rows=0).collect_schema().names()
    return {odd: name for odd, name in zip(read, names, strict=False) if odd != name}
