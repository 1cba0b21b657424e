"""Correct the paths in a SQLite store whose folder was moved: MLflow keeps absolute ones, and cannot change them."""

import re
import sqlite3
from contextlib import closing
from pathlib import Path

# Where MLflow 3 keeps the place of artifacts: experiments give it to their runs, runs and models to their files.
_COLUMNS = {
    "experiments": ("artifact_location",),
    "runs": ("artifact_uri",),
    "logged_models": ("artifact_location",),
    "model_versions": ("storage_location", "source"),
}


def relocate(store: Path, root: Path) -> list[str]:
    """Point what was below another folder's `mlruns`, and is now below `root`'s, to its new place.

    Returns the folders that the store named, none when it was not moved. All paths change together or not at all.
    """
    if not store.is_file():
        return []
    with closing(sqlite3.connect(store)) as connection, connection:
        named = {place for (place,) in connection.execute("select artifact_location from experiments") if place}
        gone = sorted({old for place in named if (old := _old_root(place, root))})
        for old in gone:
            for table, columns in _COLUMNS.items():
                for column in columns:
                    _replace(connection, table, column, f"file://{old}/", f"{root.as_uri()}/")
                    _replace(connection, table, column, f"{old}/", f"{root}/")
    return gone


def _old_root(place: str, root: Path) -> str | None:
    """The folder that held `mlruns` when `place` was written, if that folder is gone and its content is here."""
    match = re.fullmatch(r"(?:file://)?(/.*?)/mlruns/(.*)", place)
    if match and match[1] != str(root) and not Path(match[1], "mlruns").exists() and (root / "mlruns").exists():
        return match[1]
    return None


def _replace(connection: sqlite3.Connection, table: str, column: str, old: str, new: str) -> None:
    question = f"update {table} set {column} = ? || substr({column}, ?) where substr({column}, 1, ?) = ?"  # noqa: S608  (names from the table above)
    connection.execute(question, (new, len(old) + 1, len(old), old))
