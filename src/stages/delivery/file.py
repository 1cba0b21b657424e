"""A CSV or Parquet file, replaced in one step, with a note beside it that says what it holds."""

import json
import shutil
from pathlib import Path

import polars as pl

from stages.common.errors import OutsideError, StageError
from stages.common.outputs import replacing, write_json
from stages.common.params import PARAMS_FILE
from stages.delivery.content import Content

_GROUP = 65_536  # rows of a Parquet file that is put together of parts


def to_file(path: Path, content: Content) -> None:
    """Write the file, unless it has these rows already.

    Raises:
        StageError: CSV has no form for a column.
        OutsideError: it cannot be written.
    """
    note = path.with_name(f"{path.name}.delivery.json")
    if path.is_file() and _digest(note) == content.digest:
        return
    try:
        note.unlink(missing_ok=True)  # first: a note must never stand beside other rows than it says
        with replacing(path) as file:
            if path.suffix == ".csv":
                pl.scan_parquet(content.file).sink_csv(file)
            elif content.file.is_dir():
                pl.scan_parquet(content.file).sink_parquet(file, row_group_size=_GROUP)
            else:
                shutil.copyfile(content.file, file)
        write_json(note, content.note)
    except pl.exceptions.PolarsError as error:
        raise StageError(f"{PARAMS_FILE}: {content.place}.path = {path}: {error}; deliver it as Parquet") from error
    except OSError as error:
        raise OutsideError(f"{PARAMS_FILE}: {content.place}.path = {path}: {error}; make it writable") from error


def _digest(note: Path) -> str | None:
    try:
        return str(json.loads(note.read_text(encoding="utf-8"))["digest"])
    except (OSError, ValueError, KeyError, TypeError):  # no note, or none of ours: deliver
        return None
