"""What two sets of bytes of one path hold, and what changed from the one to the other: rows, columns, files."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dovetail.errors import DataUnavailable, MissingFile
from dovetail.repo.git_values import Commit
from dovetail.repo.workspace import Workspace
from dovetail.values.lineage import FileRef

if TYPE_CHECKING:
    from dovetail.values.tables import Table


@dataclass(frozen=True, slots=True)
class Kept:
    """A file or folder by its digest, and the commit whose git may keep it."""

    ref: FileRef
    commit: Commit | None


@dataclass(frozen=True, slots=True)
class _Opened:
    """What could be opened of one side; `why` says why nothing was."""

    table: "Table | None" = None
    files: dict[str, str] | None = None
    why: str | None = None


def compare_contents(workspace: Workspace, folder: Path, a: Kept | None, b: Kept | None) -> dict[str, Any]:
    """The sides of one entry of `data`, and what changed between them.

    Bytes are read from wherever they are kept; what is in no place, or is no table, has no rows, and `why` says so.
    """
    first, second = _open(workspace, folder, a), _open(workspace, folder, b)
    reasons = [why for why in (first.why, second.why) if why]
    rows = None
    shown_a, shown_b = _side(a, first), _side(b, second)
    try:
        if first.table and second.table:
            rows = _rows(first.table, second.table, shown_a, shown_b)
        for opened, shown in ((first, shown_a), (second, shown_b)):
            if opened.table and shown and shown["rows"] is None:
                shown["rows"] = opened.table.count()
    except MissingFile as error:
        reasons.append(error.message)
    return {
        "a": shown_a,
        "b": shown_b,
        "rows": rows,
        "columns": _columns(first.table, second.table) if first.table and second.table else None,
        "files": None if first.files is None or second.files is None else _files(first.files, second.files),
        "why": "; ".join(dict.fromkeys(reasons)) or None,
    }


def _open(workspace: Workspace, folder: Path, kept: Kept | None) -> _Opened:
    from dovetail.values.tables import is_table, open_table

    if kept is None:
        return _Opened()
    ref = kept.ref
    try:
        if ref.is_folder:
            return _Opened(
                files={inner.path.removeprefix(f"{ref.path}/"): inner.md5 for inner in workspace.listed(ref)}
            )
        if not is_table(ref.path):
            return _Opened(why=f"{ref.path} is no table by its name: .parquet, .csv, .tsv, .jsonl, .ndjson")
        return _Opened(table=open_table(workspace.locate(ref, kept.commit, folder), ref.path))
    except (DataUnavailable, MissingFile) as error:
        return _Opened(why=error.message)


def _side(kept: Kept | None, opened: _Opened) -> dict[str, Any] | None:
    if kept is None:
        return None
    columns = opened.table.columns if opened.table else None
    return {"md5": kept.ref.md5, "size": kept.ref.size, "rows": None, "columns": columns}


def _rows(a: "Table", b: "Table", shown_a: Any, shown_b: Any) -> dict[str, Any] | None:
    from dovetail.compare.table_diff import row_diff

    found = row_diff(a, b)
    if found is None:
        return None
    shown_a["rows"], shown_b["rows"] = found.a, found.b
    return {"added": found.added, "removed": found.removed, "changed": found.changed, "key": list(found.key)}


def _columns(a: "Table", b: "Table") -> dict[str, Any]:
    return {
        "added": [name for name in b.columns if name not in a.columns],
        "removed": [name for name in a.columns if name not in b.columns],
        "retyped": [
            {"name": name, "a": kind, "b": b.columns[name]}
            for name, kind in a.columns.items()
            if b.columns.get(name, kind) != kind
        ],
    }


def _files(a: dict[str, str], b: dict[str, str]) -> dict[str, list[str]]:
    return {
        "added": sorted(b.keys() - a.keys()),
        "removed": sorted(a.keys() - b.keys()),
        "changed": sorted(path for path in a.keys() & b.keys() if a[path] != b[path]),
    }
