"""Correct the paths in a SQLite store whose folder was moved or copied: MLflow keeps absolute ones, for ever."""

import re
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

# Where MLflow 3 keeps the place of artifacts: experiments give it to their runs, runs and models to their files.
_COLUMNS = {
    "experiments": ("artifact_location",),
    "runs": ("artifact_uri",),
    "logged_models": ("artifact_location",),
    "model_versions": ("storage_location", "source"),
}
# MLflow makes its Default experiment with the current folder, wherever the store is: without runs it says nothing.
_PLACES = """
    select artifact_location from experiments where experiment_id != 0
    or exists (select 1 from runs where runs.experiment_id = experiments.experiment_id)
"""


@dataclass(frozen=True, slots=True)
class FormerRoot:
    """A folder that the store names in place of its own: it was moved from there, or copied while that stayed."""

    path: str
    is_copied: bool


def relocate(store: Path, root: Path) -> list[str]:
    """Point what was below another folder's `mlruns`, and is now below `root`'s, to its new place.

    Returns the folders that the store named, none when it was not moved. All paths change together or not at all.
    """
    former = former_roots(store, root)
    if not former or not (root / "mlruns").exists():
        return []
    with closing(sqlite3.connect(store)) as connection, connection:
        for old in (one.path for one in former):
            for table, columns in _COLUMNS.items():
                for column in columns:
                    _replace(connection, table, column, f"file://{old}/", f"{root.as_uri()}/")
                    _replace(connection, table, column, f"{old}/", f"{root}/")
    return [one.path for one in former]


def former_roots(store: Path, root: Path) -> list[FormerRoot]:
    """The folders that a store below `root` names in place of it.

    One that is there and has no store of its own is none of them: it may track in this one.
    """
    if not store.is_file() or not store.resolve().is_relative_to(root.resolve()):
        return []
    with closing(sqlite3.connect(store)) as connection:
        named = [place for (place,) in connection.execute(_PLACES) if place]
    matches = (re.fullmatch(r"(?:file://)?(/.*?)/mlruns/.*", place) for place in named)
    roots = sorted({match[1] for match in matches if match} - {str(root)})
    own = store.resolve().relative_to(root.resolve())
    # A script that runs in a subfolder gives its experiment that folder's mlruns, and no such folder is made.
    outside = [(old, folder) for old in roots if not (folder := Path(unquote(old))).is_relative_to(root)]
    elsewhere = [(old, folder) for old, folder in outside if not _is_same(folder, root)]
    return [one for old, folder in elsewhere if (one := _former(folder, old, store, own))]


def _is_same(folder: Path, root: Path) -> bool:
    """Whether both are one folder: links lead there by other names."""
    return folder == root or (folder.exists() and folder.samefile(root))


def _former(folder: Path, written: str, store: Path, own: Path) -> FormerRoot | None:
    if not (folder / "mlruns").exists():
        return FormerRoot(written, is_copied=False)
    theirs = folder / own
    return FormerRoot(written, is_copied=True) if theirs.is_file() and not theirs.samefile(store) else None


def _replace(connection: sqlite3.Connection, table: str, column: str, old: str, new: str) -> None:
    question = f"update {table} set {column} = ? || substr({column}, ?) where substr({column}, 1, ?) = ?"  # noqa: S608  (names from the table above)
    connection.execute(question, (new, len(old) + 1, len(old), old))
