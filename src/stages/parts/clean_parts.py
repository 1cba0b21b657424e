"""A raw folder cleaned range by range into folders of parts: the same bytes with any number of workers."""

import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl

from stages.common.datasets import Dataset
from stages.common.errors import StageError
from stages.common.outputs import scratch_folder
from stages.data.raw_file import Format, Raw
from stages.data.raw_open import scratch
from stages.parts.json_columns import with_columns
from stages.parts.ranges import Range, open_parts, ranges
from stages.parts.repeated import find_repeated, repeated_in, unique_columns
from stages.parts.row_by_row import refuse_beyond_rows
from stages.parts.workers import open_workers
from stages.rows.kernel import Counts, Job, clean_rows
from stages.rows.refusal import Rejected
from stages.rows.script import Script
from stages.validation.type_report import report_of


@dataclass(frozen=True)
class Folders:
    """What is read, and where what comes of it goes."""

    raw: Path
    clean: Path
    rejected: Path


@dataclass(frozen=True)
class _Task:
    """What a worker needs to know besides the range.

    Attributes:
        key: the dataset.
        dataset: its schema, and how it is cleaned.
        folders: where its part goes.
        scratch: where attempts at a range are made, and values lie that come twice in all of the data.
        has_repeated: whether there are columns in which none may.
        types: of the columns that the schema does not name, as the first range has them.
    """

    key: str
    dataset: Dataset
    folders: Folders
    scratch: Path
    has_repeated: bool = False
    types: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class _Cleaned:
    """What came of a range.

    Attributes:
        of: the part, as users know it.
        counts: of its rows.
        rejected: those that were.
        unnamed: the types of columns that the schema does not name.
        written: the types of what was written.
        report: of the first range, what the unnamed columns look like.
    """

    of: Path
    counts: Counts
    rejected: Rejected
    unnamed: dict[str, Any]
    written: dict[str, Any]
    report: dict[str, dict[str, str]] = field(default_factory=dict)


def clean_parts(
    key: str, dataset: Dataset, form: Format, folders: Folders
) -> tuple[Raw, Counts, Rejected, dict[str, dict[str, str]]]:
    """Clean the raw folder; of each range one part is written, and they are numbered in their order.

    Returns:
        The raw folder, the counts of all rows, those rejected, and what the columns look like that the schema does
        not name.

    Raises:
        StageError: on a bad part, schema or script, or a script that goes by more than the single row.
        OutsideError: when a worker died.
    """
    rows = dataset.clean.part_rows or 0
    for folder in (folders.clean, folders.rejected):
        folder.mkdir()
    place = scratch(folders.clean)
    with (
        scratch_folder(place / folders.raw.name) as known,
        open_parts(folders.raw, form, place) as opened,
        open_workers(__name__, known) as workers,
    ):
        parts = with_columns(opened, dataset.schema_.columns.keys())
        task = _Task(key, dataset, folders, known)
        if unique_columns(dataset):
            task = replace(task, has_repeated=True)
            find_repeated(workers, key, dataset, ranges(parts, rows), known)
        todo = ranges(parts, rows)
        first = _clean_range(task, next(todo), is_first=True)
        counts, columns = first.counts, dict(first.rejected.column_of)
        for other in workers.map(partial(_clean_range, replace(task, types=first.unnamed)), todo):
            _refuse_other_columns(key, first, other)
            counts += other.counts
            columns |= other.rejected.column_of
    rejected = replace(first.rejected, path=folders.rejected, column_of=columns)
    return replace(parts[0], path=folders.raw), counts, rejected, first.report


def _clean_range(task: _Task, one: Range, *, is_first: bool = False) -> _Cleaned:
    """Clean the rows of a range, in whatever process; the first is looked at more closely."""
    script, dataset = Script(task.key), task.dataset
    repeated = repeated_in(dataset, task.scratch) if task.has_repeated else {}
    # An attempt of its own: another one may be made where this one dies.
    with tempfile.TemporaryDirectory(dir=task.scratch, prefix=".") as attempt:
        clean, rejected = Path(attempt, "clean.parquet"), Path(attempt, "rejected.parquet")
        try:
            with one.opened(Path(attempt), task.types) as raw:
                validated, counts = clean_rows(Job(task.key, dataset, raw, clean, rejected, repeated), script)
                unnamed = validated.unnamed(dataset.schema_)
                if is_first:
                    refuse_beyond_rows(script, dataset, validated.good)
                report = report_of(raw, unnamed) if is_first else {}
        except StageError as error:
            raise one.explained(error) from error
        written = dict(pl.scan_parquet(clean, glob=False).collect_schema())
        shutil.move(clean, task.folders.clean / one.name)
        shutil.move(rejected, task.folders.rejected / one.name)
    return _Cleaned(one.raw.path, counts, Rejected.of(rejected, validated), unnamed, written, report)


def _refuse_other_columns(key: str, first: _Cleaned, other: _Cleaned) -> None:
    for name, dtype in other.unnamed.items():
        if (known := first.unnamed.get(name)) != dtype:
            raise StageError(
                f"{other.of}: column {name!r} is {dtype}; in the first rows of {first.of.name} it is {known}; "
                f"name it in datasets.{key}.schema, or correct the file"
            )
    if other.written != first.written:
        name = next(name for name in (*other.written, *first.written)
                    if other.written.get(name) != first.written.get(name))  # fmt: skip
        raise StageError(
            f"{other.of}: what src/stages/cleaning/{key}.py makes of it has {other.written.get(name)} as column "
            f"{name!r}, not {first.written.get(name)} as before; let it give the same columns whatever the rows hold"
        )
