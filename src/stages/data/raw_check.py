"""Whether a raw file is readable as its format: all of it is read once, in constant memory."""

import codecs
import json
import mmap
import re
from pathlib import Path
from typing import Any, BinaryIO

import polars as pl

from stages.common.errors import StageError
from stages.common.params import PARAMS_FILE, Params
from stages.data.encoding import not_utf8
from stages.data.quotes import refuse_stray_quotes
from stages.data.raw_file import ARROW, CSV, FIX, JSONL, PARQUET, Format, Raw, malformed, one_line, scan

_BLANK = re.compile(rb"\n\r?\n")
_CHUNK = 1 << 22  # bytes
_BLOCK = 1 << 20  # bytes that Arrow parses at a time: no row may be longer
_LONGEST_ROW = 1 << 29  # bytes
_SEPARATORS = {";": "';'", "\t": "a tab", "|": "'|'", ",": "','"}


def format_of(params: Params, raw: Path) -> Format:
    """As the dataset that reads `raw` says; it decides nothing but how the file is checked."""
    own = ((key, dataset.clean) for key, dataset in params.datasets.items() if Path(dataset.raw) == raw)
    return next((format_for(raw, key, params) for key, _ in own), Format.of(raw))


def format_for(raw: Path, key: str, params: Params) -> Format:
    """As the dataset `key` says."""
    return Format.of(raw, params.datasets[key].clean, f"{PARAMS_FILE}: datasets.{key}.clean")


def check(raw: Raw) -> None:
    """Read all of `raw` once, in constant memory, and refuse what is missing, malformed, ragged or without rows.

    Raises:
        StageError: naming the file and, where one is known, the line.
    """
    check_columns(raw)
    rows = {CSV: _check_csv, JSONL: _check_jsonl, PARQUET: _count, ARROW: _count}[raw.kind](raw)
    if rows == 0:
        raise StageError(f"{raw.path} has no rows; {FIX}")


def column_names(raw: Raw) -> list[str]:
    """Those of a file, none of JSON lines; nothing is read but its head.

    Raises:
        StageError: as `check_columns`.
    """
    check_columns(raw)
    if raw.kind == JSONL:
        return []
    if raw.kind != CSV:
        return _typed_names(raw)
    with raw.file.open("rb") as file:
        return _header(file, raw)


def check_columns(raw: Raw) -> None:
    """Refuse column names that are none; nothing is read but the head of the file.

    Raises:
        StageError: no header, or one with two columns of a name, a column without, or in another encoding.
    """
    if not raw.is_text and raw.file.is_file():
        _refuse_twice(_typed_names(raw), raw)
    if raw.kind != CSV:
        return
    with raw.file.open("rb") as file:
        names = _header(file, raw)
    separator = raw.form.separator
    if not names:
        raise StageError(f"{raw.path}: line 1 is blank; the first line must name the columns")
    if all(_is_number(name) for name in names):
        raise StageError(
            f"{raw.path}: line 1: {separator.join(names)!r} is data; the first line must name the columns: add one "
            f"or, if these are their names, write one of them otherwise, such as {'y' + names[0]!r}"
        )
    if len(names) == 1 and (other := next((known for known in _SEPARATORS if known in names[0]), None)):
        raise StageError(
            f"{raw.path}: line 1: {names[0]!r:.80} is one column, separated by {separator!r}; "
            f"set {raw.form.place}.separator, perhaps to {_SEPARATORS[other]}"
        )
    if "" in names:
        raise StageError(
            f"{raw.path}: line 1: column {names.index('') + 1} has no name; name it, or write the file without it "
            "(pandas' index: to_csv(…, index=False))"
        )
    _refuse_twice(names, raw)


def _refuse_twice(names: list[str], raw: Raw) -> None:
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise StageError(f"{raw.path}: line 1: two columns are named {twice!r}; rename one")


def _typed_names(raw: Raw) -> list[str]:
    import pyarrow as pa
    from pyarrow import ipc
    from pyarrow.parquet import read_schema

    try:
        if raw.kind == PARQUET:
            return list(read_schema(raw.file).names)
        with ipc.open_file(raw.file) as file:
            return list(file.schema.names)
    except (pa.ArrowException, OSError) as error:
        raise malformed(raw.path, raw.kind, error) from error


def _header(file: BinaryIO, raw: Raw) -> list[str]:
    import csv

    lines = (_decoded(line, number, raw).removeprefix("\ufeff") for number, line in enumerate(file, start=1))
    try:
        return next(csv.reader(lines, delimiter=raw.form.separator), [])
    except csv.Error as error:
        if _has_old_line_ends(raw.file):
            raise StageError(
                f"{raw.path}: its lines end in \\r alone, as exports for old Macs do; write it with \\n: "
                "tr '\\r' '\\n' < FILE > NEW"
            ) from error
        raise malformed(raw.path, raw.kind, error) from error


def _has_old_line_ends(path: Path) -> bool:
    with path.open("rb") as file:
        head = file.read(_CHUNK)
    return b"\r" in head and b"\n" not in head


def _decoded(line: bytes, number: int, raw: Raw) -> str:
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError as error:
        raise not_utf8(raw.file, line, number, raw.path, raw.form.place) from error


def _check_csv(raw: Raw) -> int:
    import pyarrow as pa  # its reader alone counts the fields of every row; Polars fills a short row with nulls
    from pyarrow import csv

    separator = raw.form.separator
    with raw.file.open("rb") as file:
        names = _header(file, raw)

    def count(block: int) -> int:
        batches = csv.open_csv(
            raw.file,
            csv.ReadOptions(use_threads=False, block_size=block),  # with threads it does not know which row is ragged
            parse_options=csv.ParseOptions(delimiter=separator, newlines_in_values=True),
            convert_options=csv.ConvertOptions(column_types=dict.fromkeys(names, pa.string()), check_utf8=False),
        )
        return sum(int(batch.num_rows) for batch in batches)

    try:
        try:
            rows = count(_BLOCK)
        except pa.ArrowInvalid:
            if (size := _longest_row(raw)) <= _BLOCK:
                raise
            rows = count(size)
    except pa.ArrowInvalid as error:
        _check_encoding(raw)
        refuse_stray_quotes(raw.file, separator, raw.path)
        raise StageError(
            f"{raw.path} is not a CSV file separated by {separator!r}: {one_line(error)}; {FIX}, "
            f"or set {raw.form.place}.separator"
        ) from error
    _check_encoding(raw)
    refuse_stray_quotes(raw.file, separator, raw.path)
    _check_blank_lines(raw)
    return rows


def _longest_row(raw: Raw) -> int:
    """The bytes of the longest row; the end of a line within quotes does not end one.

    Raises:
        StageError: it is longer than any row is.
    """
    longest = size = quotes = 0
    first = 1
    with raw.file.open("rb") as file:
        for number, line in enumerate(file, start=1):
            size += len(line)
            quotes += line.count(b'"')
            longest = max(longest, size)
            if longest > _LONGEST_ROW:
                raise StageError(
                    f"{raw.path}: line {first} begins a row of more than {_LONGEST_ROW >> 20} MiB; close the quote in "
                    "it, or keep such values in files of their own"
                )
            if quotes % 2 == 0:
                size, first = 0, number + 1
    return longest


def _check_encoding(raw: Raw) -> None:
    decoder = codecs.getincrementaldecoder("utf-8")()
    with raw.file.open("rb") as file:
        try:
            while chunk := file.read(_CHUNK):
                decoder.decode(chunk)
            decoder.decode(b"", final=True)
        except UnicodeDecodeError:
            file.seek(0)
            for number, line in enumerate(file, start=1):
                _decoded(line, number, raw)


def _check_blank_lines(raw: Raw) -> None:
    """Polars reads a blank line as a row of missing values, other readers as none at all."""
    with raw.file.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        if not _BLANK.search(content):
            return
    quotes = 0
    with raw.file.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if quotes % 2 == 0 and not line.strip(b"\r\n"):
                remedy = 'remove it (a missing value in a file of one column is written "")'
                raise StageError(f"{raw.path}: line {number} is blank; {remedy}")
            quotes += line.count(b'"')


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _check_jsonl(raw: Raw) -> int:
    """Count the objects; Python's parser alone sees a key that is there twice."""
    rows = 0
    with raw.file.open("rb") as lines:
        if lines.read(len(codecs.BOM_UTF8)) == codecs.BOM_UTF8:
            raise StageError(
                f"{raw.path}: line 1 begins with a byte order mark; set {raw.form.place}.encoding to utf-8-sig"
            )
        lines.seek(0)
        for number, line in enumerate(lines, start=1):
            if line.isspace():
                continue
            text = _decoded(line, number, raw)
            try:
                value = json.loads(text, object_pairs_hook=_object, parse_constant=_no_constant)
            except (ValueError, RecursionError) as error:
                raise StageError(f"{raw.path}: line {number} is not JSON: {one_line(error)}; {FIX}") from error
            if not isinstance(value, dict):
                raise StageError(
                    f'{raw.path}: line {number} is {value!r:.40}, not an object such as {{"age": 25}}; {FIX}'
                )
            rows += 1
    return rows


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"the key {next(name for name in names if names.count(name) > 1)!r} is there twice")
    return found


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is no JSON, write null for a missing number")


def _count(raw: Raw) -> int:
    try:
        return int(scan(raw, {}).select(pl.len()).collect().item())
    except pl.exceptions.PolarsError as error:
        raise malformed(raw.path, raw.kind, error) from error
