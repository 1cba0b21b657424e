"""The rows of an Excel or OpenDocument file, as cleaning takes them: one sheet, names in its first row."""

from collections.abc import Iterable
from math import isfinite
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from dovetail.values.reading import USUAL, Reading


def read_sheet(file: Path, how: Reading = USUAL) -> pa.Table:
    """The sheet that `how` names, or the only one with content; what stands for a missing value is none.

    Raises:
        ValueError: when there is no such sheet, several have content and none is named, or nothing here reads Excel.
    """
    try:
        import fastexcel
    except ImportError as error:
        raise ValueError("fastexcel, which reads it, is not installed: python -m pip install fastexcel") from error
    try:
        book = fastexcel.read_excel(file)
        filled = [name for name in book.sheet_names if book.load_sheet(name, header_row=None, n_rows=1).width]
        table = _with_all_digits(book, _chosen(filled, how.sheet))
    except fastexcel.FastExcelError as error:
        raise ValueError(str(error)) from error
    columns = [_without(column, how.null_values) for column in table.columns]
    return pa.table(dict(zip(table.column_names, columns, strict=True)))


def _chosen(filled: list[str], asked: str | None) -> str:
    if asked is None and len(filled) != 1:
        raise ValueError(f"{len(filled)} sheets have content{': ' if filled else ''}{', '.join(filled)}")
    if asked is not None and asked not in filled:
        raise ValueError(f"it has no sheet {asked!r} with content, but {', '.join(filled) or 'none'}")
    return filled[0] if asked is None else asked


def _with_all_digits(book: Any, sheet: str) -> pa.Table:
    """The sheet with all digits of numbers in columns of text: beside a word the reader writes nine of them."""

    def loaded(**more: Any) -> pa.Table:
        batch = book.load_sheet(sheet, schema_sample_rows=None, skip_whitespace_tail_rows=True, **more).to_arrow()
        return pa.Table.from_batches([batch])

    table = loaded()
    texts = {field.name: table[field.name].to_pylist() for field in table.schema if _is_text(field.type)}
    shown = {name: read for name, values in texts.items() if any(map(isfinite, filter(None, read := _floats(values))))}
    if not shown:
        return table
    exact = loaded(dtypes=dict.fromkeys(shown, "float"))
    for name, read in shown.items():
        values = [
            text if number is None or true is None or number == true else repr(true)
            for text, number, true in zip(texts[name], read, exact[name].to_pylist(), strict=True)
        ]
        table = table.set_column(
            table.column_names.index(name), name, pa.chunked_array([pa.array(values, pa.string())])
        )
    return table


def _floats(texts: Iterable[str | None]) -> list[float | None]:
    def parsed(text: str | None) -> float | None:
        try:
            return None if text is None else float(text)
        except ValueError:
            return None

    return [parsed(text) for text in texts]


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _without(column: pa.ChunkedArray, words: tuple[str, ...]) -> pa.ChunkedArray:
    if not _is_text(column.type):
        return column
    return pc.if_else(pc.is_in(column, pa.array(words, column.type)), pa.scalar(None, column.type), column)
