"""A file whose values have types already, as its columns: Parquet, Arrow, JSON lines, a sheet."""

import gzip
import json
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dovetail.scaffold.inferred_column import Values, from_text
from dovetail.scaffold.text_file import NULLS, is_infinite, said_of_missing, words_beside_numbers
from dovetail.values.reading import USUAL, Reading
from dovetail.values.table_names import SHEETS

if TYPE_CHECKING:
    import pyarrow as pa

ARROW = (".arrow", ".feather")
_FIRST_DAY, _LAST_DAY = ((day - date(1970, 1, 1)).days for day in (date.min, date.max))


def read_typed(file: Path, kind: str, target: str | None) -> tuple[dict[str, Values], Reading]:
    """The columns by name, and how the file is written; `kind` is its name's ending without that of compression.

    Raises:
        OSError, ValueError: it is no such file, or two of its columns have one name.
    """
    import pyarrow as pa

    try:
        if kind in SHEETS:
            return _sheet(file, target)
        return (_json_lines(file) if kind == ".jsonl" else _of_arrow(_arrow_table(file, kind))), USUAL
    except pa.ArrowException as error:  # not each of them is a ValueError
        raise ValueError(str(error)) from error


def _arrow_table(file: Path, kind: str) -> "pa.Table":
    """As the stages read it: what pandas would make its index is a column."""
    import pyarrow as pa
    import pyarrow.ipc
    import pyarrow.parquet

    if kind not in ARROW:
        return pa.parquet.ParquetFile(file).read()
    with pa.ipc.open_file(file) as content:
        return content.read_all()


def _of_arrow(table: "pa.Table") -> dict[str, Values]:
    names = table.column_names
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise ValueError(f"two columns are named {twice!r}; rename one")
    return {name: Values(_series(table.column(name))) for name in names}


def _series(column: "pa.ChunkedArray") -> Any:
    """In pandas' types that tell all of params.yaml apart: it has decimals and dates as Python's own objects."""
    import pandas as pd
    import pyarrow as pa
    import pyarrow.compute

    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    if pa.types.is_date(kind):
        days = column.cast(kind).cast(pa.date32())
        span = pa.compute.min_max(days.cast(pa.int32())).as_py().values()
        if any(day is not None and not _FIRST_DAY <= day <= _LAST_DAY for day in span):
            raise ValueError("a date is out of range: it has a year beyond 1 to 9999")
        return days.to_pandas(types_mapper=pd.ArrowDtype)
    if pa.types.is_decimal(kind) or pa.types.is_uint64(kind):
        column = _number(column.cast(kind))
    elif pa.types.is_null(kind):
        return column.cast(pa.float64()).to_pandas()
    return column.to_pandas().convert_dtypes()


def _number(column: "pa.ChunkedArray") -> "pa.ChunkedArray":
    """Whole numbers where none has a place for a fraction, as databases write decimals, or more bits than int64 has."""
    import pyarrow as pa

    if getattr(column.type, "scale", 0) <= 0:
        try:
            return column.cast(pa.int64())
        except pa.ArrowInvalid:  # beyond 64 bits
            pass
    return column.cast(pa.float64(), safe=False)


def _json_lines(file: Path) -> dict[str, Values]:
    """JSON says of each value whether it is text or a number, so that nothing is guessed."""
    import pandas as pd

    content = file.read_bytes()
    lines = (gzip.decompress(content) if file.name.lower().endswith(".gz") else content).splitlines()
    table = pd.DataFrame([_object(number, line) for number, line in enumerate(lines, start=1) if line.strip()])
    return {str(name): Values(table[name].convert_dtypes()) for name in table}


def _object(number: int, line: bytes) -> dict[str, Any]:
    """A line's object, as the stages want each.

    Raises:
        ValueError: the line is something else.
    """
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"line {number} is no JSON: {getattr(error, 'msg', error)}") from error
    if not isinstance(value, dict):
        raise ValueError(f'line {number} is {value!r:.40}, no object such as {{"age": 25}}')  # noqa: TRY004  (no type of ours)
    return value


def _sheet(file: Path, target: str | None) -> tuple[dict[str, Values], Reading]:
    """The sheet with the target, or the only one with content.

    A column with a word among its numbers is text to Excel's readers, so that text is looked at as that of CSV is.
    """
    import fastexcel
    import pyarrow as pa

    try:
        book = fastexcel.read_excel(file)
        filled = [name for name in book.sheet_names if book.load_sheet(name, header_row=None, n_rows=1).width]
        having = [
            name for name in filled if target in [column.name for column in book.load_sheet(name).available_columns()]
        ]
        if len(having) != 1 and len(filled) != 1:
            raise ValueError(f"it has several sheets, of which {len(having)} have that column: {', '.join(filled)}")
        name = (having if len(having) == 1 else filled)[0]
        batch = book.load_sheet(name, schema_sample_rows=None, skip_whitespace_tail_rows=True).to_arrow()
    except fastexcel.FastExcelError as error:
        raise ValueError(str(error)) from error
    table = pa.Table.from_batches([batch])
    columns = _of_arrow(table)
    kinds = {field.name: field.type for field in table.schema}
    texts = {
        name: table.column(name).to_pandas().astype(object)
        for name, kind in kinds.items()
        if pa.types.is_string(kind) or pa.types.is_large_string(kind)
    }
    nulls = {word for text in texts.values() for word in text.dropna().unique() if word in NULLS}
    nulls |= {word for text in texts.values() for word in words_beside_numbers(text.dropna(), USUAL)}
    found = Reading(sheet=name if len(filled) > 1 else None)
    if nulls - {""}:
        found = replace(found, null_values=tuple(sorted(nulls | {""})))
    for name, text in texts.items():
        missing = text.isin(nulls | {""})
        infinite = int(text[missing].map(is_infinite).sum())
        columns[name] = from_text(
            text.where(~missing & text.notna(), None), USUAL, infinite, said_of_missing(text, nulls)
        )
    return columns, found
