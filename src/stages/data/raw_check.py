"""Whether a raw file is readable as its format: all of it is read once, in constant memory."""

import codecs
import json
import mmap
import re
from pathlib import Path
from typing import BinaryIO

import polars as pl

from stages.common.errors import StageError
from stages.common.params import Params
from stages.data.raw_file import FIX, Format, malformed, one_line, require

_BLANK = re.compile(rb"\n\r?\n")
_CHUNK = 1 << 22  # bytes


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
    check_columns(path, form, shown)
    rows = {".csv": _check_csv, ".jsonl": _check_jsonl, ".parquet": _check_parquet}[shown.suffix](path, form, shown)
    if rows == 0:
        raise StageError(f"{shown} has no rows; {FIX}")


def check_columns(path: Path, form: Format, shown: Path | None = None) -> None:
    """Refuse an empty file and column names that are none; nothing is read but the head of the file.

    Raises:
        StageError: no header, or one with two columns of a name, a column without, or in another encoding.
    """
    shown = shown or path
    require(path)
    if path.stat().st_size == 0:
        raise StageError(f"{shown} is empty; {FIX}")
    if shown.suffix == ".parquet":
        _refuse_twice(_parquet_names(path, shown), shown)
    if shown.suffix != ".csv":
        return
    with path.open("rb") as file:
        names = _header(file, form.separator, shown)
    if not names:
        raise StageError(f"{shown}: line 1 is blank; the first line must name the columns")
    if all(_is_number(name) for name in names):
        raise StageError(
            f"{shown}: line 1: {form.separator.join(names)!r} is data; the first line must name the columns"
        )
    if "" in names:
        raise StageError(
            f"{shown}: line 1: column {names.index('') + 1} has no name; name it, or write the file without it "
            "(pandas' index: to_csv(…, index=False))"
        )
    _refuse_twice(names, shown)


def _refuse_twice(names: list[str], shown: Path) -> None:
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise StageError(f"{shown}: line 1: two columns are named {twice!r}; rename one")


def _parquet_names(path: Path, shown: Path) -> list[str]:
    import pyarrow as pa
    from pyarrow.parquet import read_schema

    try:
        return list(read_schema(path).names)
    except (pa.ArrowException, OSError) as error:
        raise malformed(shown, error) from error


def _header(file: BinaryIO, separator: str, shown: Path) -> list[str]:
    import csv

    lines = (_decoded(line, number, shown).removeprefix("\ufeff") for number, line in enumerate(file, start=1))
    try:
        return next(csv.reader(lines, delimiter=separator), [])
    except csv.Error as error:
        raise malformed(shown, error) from error


def _decoded(line: bytes, number: int, shown: Path) -> str:
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError as error:
        guess = "UTF-16" if line.startswith((b"\xff\xfe", b"\xfe\xff")) else "WINDOWS-1252"
        raise StageError(
            f"{shown}: line {number} is not UTF-8: {line[error.start : error.start + 12]!r}; convert the file, "
            f"for example: iconv -f {guess} -t UTF-8"
        ) from error


def _check_csv(path: Path, form: Format, shown: Path) -> int:
    import pyarrow as pa  # its reader alone counts the fields of every row; Polars fills a short row with nulls
    from pyarrow import csv

    with path.open("rb") as file:
        names = _header(file, form.separator, shown)
    try:
        batches = csv.open_csv(
            path,
            csv.ReadOptions(use_threads=False),  # with threads it does not know which row is ragged
            parse_options=csv.ParseOptions(delimiter=form.separator, newlines_in_values=True),
            convert_options=csv.ConvertOptions(column_types=dict.fromkeys(names, pa.string()), check_utf8=False),
        )
        rows = sum(int(batch.num_rows) for batch in batches)
    except pa.ArrowInvalid as error:
        _check_encoding(path, shown)
        raise StageError(
            f"{shown} is not a CSV file separated by {form.separator!r}: {one_line(error)}; {FIX}, "
            "or set `separator` in the dataset's clean block"
        ) from error
    _check_encoding(path, shown)
    _check_blank_lines(path, shown)
    return rows


def _check_encoding(path: Path, shown: Path) -> None:
    decoder = codecs.getincrementaldecoder("utf-8")()
    with path.open("rb") as file:
        try:
            while chunk := file.read(_CHUNK):
                decoder.decode(chunk)
            decoder.decode(b"", final=True)
        except UnicodeDecodeError:
            file.seek(0)
            for number, line in enumerate(file, start=1):
                _decoded(line, number, shown)


def _check_blank_lines(path: Path, shown: Path) -> None:
    """Polars reads a blank line as a row of missing values, other readers as none at all."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        if not _BLANK.search(content):
            return
    quotes = 0
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if quotes % 2 == 0 and not line.strip(b"\r\n"):
                remedy = 'remove it (a missing value in a file of one column is written "")'
                raise StageError(f"{shown}: line {number} is blank; {remedy}")
            quotes += line.count(b'"')


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
                raise StageError(f"{shown}: line {number} is not JSON: {one_line(error)}; {FIX}") from error
            if not isinstance(value, dict):
                raise StageError(f'{path}: line {number} is {value!r:.40}, not an object such as {{"age": 25}}; {FIX}')
            rows += 1
    return rows


def _check_parquet(path: Path, _form: Format, shown: Path) -> int:
    try:
        return int(pl.scan_parquet(path).select(pl.len()).collect().item())
    except pl.exceptions.PolarsError as error:
        raise malformed(shown, error) from error
