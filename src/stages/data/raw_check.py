"""Whether a raw file is readable as its format: all of it is read once, in constant memory."""

import json
from pathlib import Path

import polars as pl

from stages.common.errors import StageError
from stages.common.params import Params
from stages.data.raw_file import FIX, Format, malformed, one_line, require


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
        raise StageError(f"{shown} is empty; {FIX}")
    rows = {".csv": _check_csv, ".jsonl": _check_jsonl, ".parquet": _check_parquet}[shown.suffix](path, form, shown)
    if rows == 0:
        raise StageError(f"{shown} has no rows; {FIX}")


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
            f"{shown} is not a CSV file separated by {form.separator!r}: {one_line(error)}; {FIX}"
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
