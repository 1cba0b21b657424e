"""Ingest one source file: a copy, byte for byte, of a file that is known to be readable."""

import shutil
from pathlib import Path

from stages.common.outputs import replacing
from stages.common.params import Params
from stages.data.raw_check import check, format_of
from stages.data.raw_open import opened, part_files, scratch


def run(key: str, params: Params, *, source: Path, raw: Path) -> None:  # noqa: ARG001  (every stage is called alike)
    """Copy `source`, a file or a folder, to `raw`.

    Raises:
        StageError: if it is missing, malformed, ragged or without rows; with the line where one is known.
    """
    form, place = format_of(params, raw), scratch(raw)
    is_typed = not source.is_dir() or any(source.rglob("*.parquet"))
    for part in [source] if is_typed else part_files(source):
        with opened(part, form, place) as readable:
            check(readable)
    with replacing(raw) as file:
        (shutil.copytree if source.is_dir() else shutil.copyfile)(source, file)
