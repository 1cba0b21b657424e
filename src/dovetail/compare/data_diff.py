"""What two contents of one path hold, and what changed from the one to the other: rows, columns, files."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dovetail.errors import DataUnavailable, MissingFile
from dovetail.repo.git_values import Commit
from dovetail.repo.workspace import Workspace
from dovetail.values.lineage import FileRef, Lineage
from dovetail.values.reading import USUAL, Reading, reading_of
from dovetail.values.table_names import is_sheet, is_table

if TYPE_CHECKING:
    from dovetail.compare.table_diff import RowDiff
    from dovetail.values.tables import Table


@dataclass(frozen=True, slots=True)
class DataFile:
    """A file or folder by its digest, the commit whose git may keep it, and how its data set reads it."""

    ref: FileRef
    commit: Commit | None
    how: Reading = USUAL


def data_file(ref: FileRef | None, commit: Commit | None, lineage: Lineage) -> DataFile | None:
    """The file at `ref`, read as the stage of `lineage` that takes it does; None: there is none."""
    return DataFile(ref, commit, reading_of(ref.path, lineage.stages)) if ref else None


@dataclass(frozen=True, slots=True)
class ColumnChanges:
    """Columns that were added, removed, and retyped: name, type before, type after."""

    added: tuple[str, ...]
    removed: tuple[str, ...]
    retyped: tuple[tuple[str, str, str], ...]

    def as_json(self) -> dict[str, Any]:
        """`columns` in the answer of `dovetail diff --json`."""
        return {
            "added": list(self.added),
            "removed": list(self.removed),
            "retyped": [{"name": name, "a": before, "b": after} for name, before, after in self.retyped],
        }


@dataclass(frozen=True, slots=True)
class FileChanges:
    """Files of a folder that were added, removed and changed."""

    added: list[str]
    removed: list[str]
    changed: list[str]


@dataclass(frozen=True, slots=True)
class Contents:
    """What could be read of two contents.

    Attributes:
        a_rows, b_rows: How many rows each has; None where it is no table or cannot be read.
        a_columns, b_columns: The type of each column; None likewise.
        rows: What happened to the rows; None where they cannot be compared.
        why: Why something could not be read.
        same_value: Of tables with the same rows: whether they come in the same order with the same types, so that
            nothing but the way of writing differs; else None.
    """

    a_rows: int | None
    b_rows: int | None
    a_columns: dict[str, str] | None
    b_columns: dict[str, str] | None
    rows: "RowDiff | None"
    columns: ColumnChanges | None
    files: FileChanges | None
    why: str | None
    same_value: bool | None = None

    def as_json(self) -> dict[str, Any]:
        """What changed, in the answer of `dovetail diff --json`."""
        rows = self.rows
        return {
            "rows": rows
            and {"added": rows.added, "removed": rows.removed, "changed": rows.changed, "key": list(rows.key)},
            "columns": self.columns and self.columns.as_json(),
            "files": self.files and asdict(self.files),
            "why": self.why,
            "same_value": self.same_value,
        }


@dataclass(frozen=True, slots=True)
class _Opened:
    """What could be opened of one content; `why` says why nothing was, `digest` is that of the table's value."""

    table: "Table | None" = None
    digest: Callable[[], str | None] = lambda: None
    files: dict[str, str] | None = None
    why: str | None = None

    @property
    def columns(self) -> dict[str, str] | None:
        return self.table.columns if self.table else None


def compare_contents(workspace: Workspace, folder: Path, a: DataFile | None, b: DataFile | None) -> Contents:
    """What two contents of one path hold, and what changed; None: the path is not there.

    Bytes are read from wherever they are kept; what is kept nowhere, or is no table, has no rows, and `why` says so.
    """
    first, second = _open(workspace, folder, a), _open(workspace, folder, b)
    reasons = [why for why in (first.why, second.why) if why]
    rows = same_value = None
    counts: list[int | None] = [None, None]
    try:
        if first.table and second.table and (rows := _rows(first.table, second.table)):
            counts = [rows.a, rows.b]
            if not (rows.added or rows.removed or rows.changed):
                same_value = first.digest() == second.digest()
        for position, opened in enumerate((first, second)):
            if opened.table and counts[position] is None:
                counts[position] = opened.table.count()
    except MissingFile as error:
        reasons.append(error.message)
    return Contents(
        a_rows=counts[0],
        b_rows=counts[1],
        a_columns=first.columns,
        b_columns=second.columns,
        rows=rows,
        columns=_columns(first.table, second.table) if first.table and second.table else None,
        files=None if first.files is None or second.files is None else _files(first.files, second.files),
        why="; ".join(dict.fromkeys(reasons)) or None,
        same_value=same_value,
    )


def _open(workspace: Workspace, folder: Path, file: DataFile | None) -> _Opened:
    if file is None:
        return _Opened()
    from dovetail.values.tables import open_table

    ref = file.ref
    try:
        if ref.is_folder:
            return _open_folder(workspace, folder, file)
        if not (is_table(ref.path) or is_sheet(ref.path)):
            kinds = ".parquet, .arrow, .feather, .csv, .tsv, .jsonl, .ndjson, .xlsx, .xls, .xlsb, .ods"
            return _Opened(why=f"{ref.path} is not a table by its name: {kinds}")
        place = workspace.storage.locate(ref, file.commit, folder)
        table = open_table(place, ref.path, file.how)
        return _Opened(table, partial(_digest, table))
    except (DataUnavailable, MissingFile) as error:
        return _Opened(why=error.message)


def _open_folder(workspace: Workspace, folder: Path, file: DataFile) -> _Opened:
    """The files of a folder; where all are Parquet, their rows too, as long as they have the same columns."""
    from dovetail.values.partitions import is_partitioned, open_folder

    inner = {ref.path.removeprefix(f"{file.ref.path}/"): ref for ref in workspace.storage.files(file.ref)}
    listing = {name: ref.md5 for name, ref in inner.items()}
    if not is_partitioned(list(inner)):
        return _Opened(files=listing)
    try:
        places = {name: workspace.storage.locate(ref, file.commit, folder) for name, ref in inner.items()}
        table = open_folder(places, file.ref.path)
    except (DataUnavailable, MissingFile) as error:
        return _Opened(files=listing, why=error.message)
    except ValueError as error:
        return _Opened(files=listing, why=str(error))
    return _Opened(table, partial(_digest, table), listing)


def _digest(table: "Table") -> str:
    from dovetail.values.table_value import value_digest

    return value_digest(table)


def _rows(a: "Table", b: "Table") -> "RowDiff | None":
    from dovetail.compare.table_diff import row_diff

    return row_diff(a, b)


def _columns(a: "Table", b: "Table") -> ColumnChanges:
    return ColumnChanges(
        added=tuple(name for name in b.columns if name not in a.columns),
        removed=tuple(name for name in a.columns if name not in b.columns),
        retyped=tuple(
            (name, kind, b.columns[name]) for name, kind in a.columns.items() if b.columns.get(name, kind) != kind
        ),
    )


def _files(a: dict[str, str], b: dict[str, str]) -> FileChanges:
    return FileChanges(
        added=sorted(b.keys() - a.keys()),
        removed=sorted(a.keys() - b.keys()),
        changed=sorted(path for path in a.keys() & b.keys() if a[path] != b[path]),
    )
