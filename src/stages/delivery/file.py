"""A CSV or Parquet file, replaced in one step, with a note beside it that says what it holds."""

import hashlib
import json
import shutil
from dataclasses import replace
from pathlib import Path

import polars as pl

from stages.common.errors import OutsideError, StageError
from stages.common.outputs import replacing, write_json
from stages.common.params import PARAMS_FILE
from stages.delivery.content import Content

_GROUP = 65_536  # rows of a Parquet file that is put together of parts


def to_file(path: Path, content: Content) -> None:
    """Write the file, unless it is there as this delivery left it.

    Raises:
        StageError: CSV has no form for a column.
        OutsideError: it cannot be written.
    """
    is_bare = path.suffix == ".csv" and _has_blank_lines(content.file)
    if is_bare:  # an earlier Dovetail delivered these rows otherwise
        content = replace(content, digest=hashlib.sha256(f"{content.digest} quoted".encode()).hexdigest())
    note = path.with_name(f"{path.name}.delivery.json")
    if _has(path, note, content):
        return
    try:
        note.unlink(missing_ok=True)  # first: a note must never stand beside other rows than it says
        with replacing(path) as temporary:
            with temporary.open("wb") as file:  # open: a sink of a name may make the file after it failed
                if path.suffix == ".csv":
                    rows = pl.scan_parquet(content.file, glob=False)
                    rows.sink_csv(file, quote_style="always" if is_bare else "necessary")
                elif content.file.is_dir():
                    pl.scan_parquet(content.file, glob=False).sink_parquet(file, row_group_size=_GROUP)
                else:
                    with content.file.open("rb") as source:
                        shutil.copyfileobj(source, file)
            written = _sha256(temporary)
        write_json(note, content.note | {"sha256": written})
    except pl.exceptions.PolarsError as error:
        why = " ".join(str(error).split())[:300]
        raise StageError(f"{PARAMS_FILE}: {content.place}.path = {path}: {why}; deliver it as Parquet") from error
    except OSError as error:
        raise OutsideError(f"{PARAMS_FILE}: {content.place}.path = {path}: {error}; make it writable") from error


def _has_blank_lines(file: Path) -> bool:
    """Whether a row of its only column is missing: many readers of CSV take a blank line for no row at all."""
    rows = pl.scan_parquet(file, glob=False)
    return len(rows.collect_schema()) == 1 and bool(rows.select(pl.all().has_nulls()).collect().item())


def _has(path: Path, note: Path, content: Content) -> bool:
    try:
        noted = json.loads(note.read_text(encoding="utf-8"))
        return (noted["digest"], noted["sha256"]) == (content.digest, _sha256(path))
    except (OSError, ValueError, KeyError, TypeError):  # no file, no note, or none of ours: deliver
        return False


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
