"""A sheet of an Excel or OpenDocument file as Parquet, so that it is read as other tables are."""

from pathlib import Path
from typing import Any

import polars as pl
import polars.selectors as cs

from stages.common.errors import StageError, listed
from stages.data.raw_file import FIX, Format, malformed


def to_parquet(path: Path, form: Format, copy: Path, shown: Path) -> None:
    """Write the sheet that `form` names, or the only one with content, to `copy`.

    Raises:
        StageError: no such file, sheet or table; several sheets and none named; a header that is none; a blank row.
    """
    import fastexcel

    try:
        book = fastexcel.read_excel(path)
        name = _sheet(book, form, shown)
        header = book.load_sheet(name, header_row=None, n_rows=1, dtypes="string").to_polars()
        names = list(header.row(0)) if header.height else []
        _check_header(names, shown, name)
        frame = book.load_sheet(name, schema_sample_rows=None, skip_whitespace_tail_rows=True).to_polars()
        frame = _with_all_digits(book, name, frame)
    except fastexcel.FastExcelError as error:
        raise malformed(shown, path.suffix[1:] or "Excel", error) from error
    _refuse_blank_rows(frame, shown, name)
    text = cs.string()
    frame.with_columns(pl.when(~text.is_in(form.null_values)).then(text).name.keep()).write_parquet(copy)


def _with_all_digits(book: Any, sheet: str, frame: pl.DataFrame) -> pl.DataFrame:
    """The rows with all digits of numbers in columns of text: beside a word the reader writes nine of them."""
    texts = {name: column for name, column in frame.to_dict().items() if column.dtype == pl.String}
    read = {name: text.cast(pl.Float64, strict=False) for name, text in texts.items()}
    shown = {name: values for name, values in read.items() if values.is_finite().any()}
    if not shown:
        return frame
    numbers = dict.fromkeys(shown, "float")
    exact = book.load_sheet(sheet, schema_sample_rows=None, skip_whitespace_tail_rows=True, dtypes=numbers).to_polars()
    return frame.with_columns(
        frame[name].zip_with((exact[name] == values).fill_null(value=True), exact[name].cast(pl.String))
        for name, values in shown.items()
    )


def _sheet(book: Any, form: Format, shown: Path) -> str:
    names = book.sheet_names
    if form.sheet is not None:
        if form.sheet not in names:
            raise StageError(f"{shown} has no sheet {form.sheet!r}; correct {form.place}.sheet: {listed(names)}")
        return form.sheet
    filled = [name for name in names if book.load_sheet(name, header_row=None, n_rows=1).width]
    if len(filled) == 1:
        return str(filled[0])
    if filled:
        raise StageError(f"{shown} has several sheets: {listed(filled)}; set {form.place}.sheet to one of them")
    raise StageError(f"{shown} is empty; {FIX}")


def _check_header(names: list[str | None], shown: Path, sheet: str) -> None:
    if not names:
        raise StageError(f"{shown}, sheet {sheet!r} is empty; {FIX}")
    where = f"{shown}, sheet {sheet!r}, first row"
    if None in names or "" in names:
        number = next(n for n, name in enumerate(names, start=1) if not name)
        raise StageError(f"{where}: column {number} has no name; name it, and let the table begin in the first row")
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise StageError(f"{where}: two columns are named {twice!r}; rename one")


def _refuse_blank_rows(frame: pl.DataFrame, shown: Path, sheet: str) -> None:
    blank = frame.select(pl.all_horizontal(pl.all().is_null())).to_series()
    if blank.any():
        raise StageError(
            f"{shown}, sheet {sheet!r}: row {(blank.arg_max() or 0) + 2} is blank; "
            "remove it, and what does not belong to the table"
        )
