"""Raw files: is it readable as its format, and the lazy frame that it holds."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import polars.selectors as cs

from stages.config import Params
from stages.errors import StageError

_SAMPLE = 10_000  # rows from which the type of a column that the schema does not name is inferred
_MEND = "mend the file or fetch it anew"


@dataclass(frozen=True)
class Format:
    """How a text file is to be read."""

    separator: str = ","
    null_values: tuple[str, ...] = ("",)


def format_of(params: Params, raw: Path) -> Format:
    """As the dataset that reads `raw` says; it decides nothing but how the file is checked."""
    own = (dataset.clean for dataset in params.datasets.values() if Path(dataset.raw) == raw)
    return next((Format(clean.separator, tuple(clean.null_values)) for clean in own), Format())


def check(path: Path, form: Format, shown: Path | None = None) -> None:
    """Read all of `path` once, in constant memory, and refuse what is missing, malformed, ragged or without rows.

    Args:
        path: the file.
        form: how its text is to be read.
        shown: the name by which messages call it and whose ending says its format, if not `path`.

    Raises:
        StageError: naming the file and, where one is known, the line.
    """
    shown = shown or path
    require(path)
    if path.stat().st_size == 0:
        raise StageError(f"{shown} is empty; {_MEND}")
    rows = {".csv": _check_csv, ".jsonl": _check_jsonl, ".parquet": _check_parquet}[shown.suffix](path, form, shown)
    if rows == 0:
        raise StageError(f"{shown} has no rows; {_MEND}")


def require(path: Path) -> None:
    """Refuse a path that is not a file, saying where the file could come from."""
    if not path.is_file():
        raise StageError(f"{path} is missing; put the file there, or restore it: dvc pull, git checkout")


def _check_csv(path: Path, form: Format, shown: Path) -> int:
    import pyarrow as pa  # its reader alone counts the fields of every row; Polars fills a short row with nulls
    from pyarrow import csv

    with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
        header = _header(file.readline(), form.separator)
    if len(set(header)) < len(header):
        twice = next(name for name in header if header.count(name) > 1)
        raise StageError(f"{shown}: line 1: two columns are named {twice!r}; rename one")
    if all(_is_number(name) for name in header):
        raise StageError(
            f"{shown}: line 1: {form.separator.join(header)!r} is data; the first line must name the columns"
        )
    try:
        batches = csv.open_csv(
            path,
            csv.ReadOptions(use_threads=False),  # with threads it does not know which row is ragged
            parse_options=csv.ParseOptions(delimiter=form.separator, newlines_in_values=True),
            convert_options=csv.ConvertOptions(column_types=dict.fromkeys(header, pa.string())),
        )
        return sum(batch.num_rows for batch in batches)
    except pa.ArrowInvalid as error:
        raise StageError(
            f"{shown} is not a CSV file separated by {form.separator!r}: {_line(error)}; {_MEND}"
        ) from error


def _header(line: str, separator: str) -> list[str]:
    import csv

    return next(csv.reader([line], delimiter=separator), [])


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _check_jsonl(path: Path, _form: Format, shown: Path) -> int:
    rows = 0
    with path.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            if line.isspace():
                continue
            try:
                value = json.loads(line)
            except ValueError as error:
                raise StageError(f"{shown}: line {number} is not JSON: {_line(error)}; {_MEND}") from error
            if not isinstance(value, dict):
                raise StageError(
                    f'{path}: line {number} is {value!r:.40}, not an object such as {{"age": 25}}; {_MEND}'
                )
            rows += 1
    return rows


def _check_parquet(path: Path, _form: Format, shown: Path) -> int:
    try:
        return int(pl.scan_parquet(path).select(pl.len()).collect().item())
    except pl.exceptions.PolarsError as error:
        raise malformed(shown, error) from error


def malformed(path: Path, error: Exception) -> StageError:
    """The refusal of a file that its own format's reader refuses."""
    return StageError(f"{path} is not readable as {path.suffix[1:]}: {_line(error)}; {_MEND}")


def _line(error: Exception) -> str:
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
    floats = [pl.col(name) for name, dtype in columns.items() if as_text and dtype.is_float()]
    spelled = [pl.when(text.str.strip_chars().str.to_lowercase() != "nan").then(text).name.keep() for text in floats]
    return frame.with_columns(cs.float().fill_nan(None), *spelled)


def _scan_text(path: Path, form: Format, columns: Mapping[str, Any], *, as_text: bool) -> pl.LazyFrame:
    schema = _open(path, form, {}).collect_schema()
    if path.suffix == ".jsonl" and not columns.keys() <= schema.keys():  # a key may first appear in a late row
        schema = _open(path, form, {}, sample=None).collect_schema()
    named = {name: pl.String if as_text else dtype for name, dtype in columns.items() if name in schema}
    others = {name: dtype for name, dtype in schema.items() if name not in columns}
    if as_text:
        others = _fitting(path, form, others)
    return _open(path, form, others | named)


def _fitting(path: Path, form: Format, inferred: dict[str, Any]) -> dict[str, Any]:
    """`inferred`, but text where some cell does not parse."""
    simple = [name for name, dtype in inferred.items() if dtype.is_numeric() or dtype == pl.Boolean]
    text = _open(path, form, inferred | dict.fromkeys(simple, pl.String))
    odd = [(parse(pl.col(name), inferred[name]).is_null() & pl.col(name).is_not_null()).any() for name in simple]
    broken = text.select(odd).collect(engine="streaming").row(0) if simple else ()
    return inferred | {name: pl.String for name, is_broken in zip(simple, broken, strict=True) if is_broken}


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


def parse(text: pl.Expr, dtype: Any) -> pl.Expr:
    """Text as `dtype`, null where it is none. Dates are ISO 8601: 01/02/2020 is one of two days, who knows which."""
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
    return trimmed.cast(dtype, strict=False) if dtype != pl.String else text
