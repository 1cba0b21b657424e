"""The rows of an Excel or OpenDocument file, as cleaning takes them: one sheet, names in its first row."""

from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from dovetail.values.reading import USUAL, Reading

SHEETS = (".xlsx", ".xls", ".xlsb", ".ods")


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
        batch = book.load_sheet(
            _chosen(filled, how.sheet), schema_sample_rows=None, skip_whitespace_tail_rows=True
        ).to_arrow()
    except fastexcel.FastExcelError as error:
        raise ValueError(str(error)) from error
    table = pa.Table.from_batches([batch])
    columns = [_without(column, how.null_values) for column in table.columns]
    return pa.table(dict(zip(table.column_names, columns, strict=True)))


def _chosen(filled: list[str], asked: str | None) -> str:
    if asked is None and len(filled) != 1:
        raise ValueError(f"{len(filled)} sheets have content{': ' if filled else ''}{', '.join(filled)}")
    if asked is not None and asked not in filled:
        raise ValueError(f"it has no sheet {asked!r} with content, but {', '.join(filled) or 'none'}")
    return filled[0] if asked is None else asked


def _without(column: pa.ChunkedArray, words: tuple[str, ...]) -> pa.ChunkedArray:
    if not (pa.types.is_string(column.type) or pa.types.is_large_string(column.type)):
        return column
    return pc.if_else(pc.is_in(column, pa.array(words, column.type)), pa.scalar(None, column.type), column)
