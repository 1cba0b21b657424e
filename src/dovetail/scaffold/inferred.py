"""What the columns of a data file hold, as a schema that a person corrects: types, and what looks like another one."""

import csv
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dovetail.errors import UserError, one_line
from dovetail.scaffold import text_file
from dovetail.scaffold.inferred_column import FEW, InferredColumn, Values, dtype_of, from_text, inferred_column
from dovetail.scaffold.text_file import PROMISED
from dovetail.scaffold.typed_file import ARROW, read_typed
from dovetail.values.reading import Reading
from dovetail.values.table_names import SHEETS, format_of

SUFFIXES = (*PROMISED, ".csv.gz", ".tsv.gz", ".parquet", ".jsonl", ".jsonl.gz", *ARROW, *SHEETS)
_MANY_ROWS = 20_000  # beyond them histograms instead of a forest
_AGAIN = "dovetail new PROJECT --data FILE --target COLUMN"
_BY_HAND = "correct it, or write params.yaml by hand"


@dataclass(frozen=True, slots=True)
class InferredData:
    """A data file.

    Attributes:
        reading: How it is written, where its name does not say so.
        missing: The share of rows that will be rejected: the target is missing, or a number is none.
        classes: Whether the target is one of few values rather than an amount.
    """

    rows: int
    columns: tuple[InferredColumn, ...]
    reading: Reading
    missing: float
    classes: bool

    @property
    def estimator(self) -> str:
        """The import path of an estimator that is good without being tuned."""
        kind = "HistGradientBoosting" if self.rows > _MANY_ROWS else "RandomForest"
        return f"sklearn.ensemble.{kind}{'Classifier' if self.classes else 'Regressor'}"


def infer(file: Path, target: str | None = None) -> InferredData:
    """Read the file; without a target what its columns are, and no more.

    Raises:
        UserError: when it cannot be read, has no such column, or nothing can be learned of it.
    """
    try:
        columns, reading = _read(file, target)
    except (OSError, ValueError, EOFError, zlib.error, csv.Error) as error:
        raise UserError(f"{file} cannot be read as a table: {one_line(str(error))}", _BY_HAND) from error
    names = list(columns)
    if target is not None and target not in names:
        near = next((name for name in names if name.strip().casefold() == target.strip().casefold()), None)
        hint = f"; it has {near!r}" if near else ""
        raise UserError(f"{file} has no column {target!r}{hint}; it has: {', '.join(names)}", _AGAIN)
    rows = len(next(iter(columns.values())).typed) if columns else 0
    if target is not None:
        _check_target(file, target, columns[target].typed)
    elif not rows:
        raise UserError(f"{file} has no rows", "add rows, then run the same command again")
    _refuse_second_header(file, columns)
    numbers = [column for column in columns.values() if dtype_of(column.typed.dropna()) in ("int64", "float64")]
    rejected = {row for column in numbers for row, _ in column.odd}
    if target is not None:
        gone = columns[target].typed.isna()
        rejected |= {int(row) + 1 for row in gone.index[gone]}
    return InferredData(
        rows=rows,
        columns=tuple(inferred_column(name, values, name == target) for name, values in columns.items()),
        reading=reading,
        missing=len(rejected) / rows if rows else 0.0,
        classes=target is not None and _are_classes(columns[target].typed.dropna()),
    )


def _are_classes(values: Any) -> bool:
    kind = dtype_of(values)
    return kind in ("str", "bool") or (kind == "int64" and bool(values.nunique() <= FEW))


def _check_target(file: Path, target: str, values: Any) -> None:
    present = values.dropna()
    why = ""
    if values.empty:
        why = "it has no rows"
    elif present.empty:
        why = f"{target!r} has no value in any row"
    elif dtype_of(present) in ("", "date", "datetime"):
        why = f"{target!r} holds {dtype_of(present) or present.dtype}, neither numbers nor classes"
    elif (present == present.iloc[0]).all():
        why = f"{target!r} is '{present.iloc[0]}' in each row"
    elif dtype_of(present) == "str" and len(present) > FEW and present.is_unique:
        why = f"{target!r} is text, and another one in each row"
    if why:
        raise UserError(f"nothing can be learned from {file}: {why}", _AGAIN)


def _refuse_second_header(file: Path, columns: dict[str, Values]) -> None:
    """Units or numbers of columns below their names would make text of every column of numbers."""
    first = [column.odd[0][1] for column in columns.values() if [row for row, _ in column.odd] == [1]]
    if len(first) > 1:
        what = f"line 2 of {file} looks like a second header: {', '.join(map(repr, first[:3]))}"
        raise UserError(what, "remove that line, then run the same command again")


def suffix_of(file: Path) -> str:
    """The ending of a file's name that says how it is written, that of compression included."""
    return format_of(file.name) + (".gz" if file.name.lower().endswith(".gz") else "")


def _read(file: Path, target: str | None) -> tuple[dict[str, Values], Reading]:
    """The columns by name, and how the file is written."""
    if suffix_of(file) not in SUFFIXES:
        raise ValueError(f"its name ends in none of {', '.join(SUFFIXES)}")
    kind = format_of(file.name)
    if kind not in PROMISED:
        return read_typed(file, kind, target)
    text = text_file.read_text(file)
    return {
        str(name): from_text(text.cells[name], text.reading, text.infinite[str(name)], text.missing[str(name)])
        for name in text.cells
    }, text.reading
