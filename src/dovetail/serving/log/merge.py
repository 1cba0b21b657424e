"""Segments of the prediction log written, and many made one, so that a kill at any moment doubles and loses no row."""

from collections.abc import Iterable, Iterator
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dovetail.serving.log import rows, segments
from dovetail.serving.log.segments import Segment
from dovetail.system.whole_file import whole_file

if TYPE_CHECKING:
    import pyarrow as pa


def write(folder: Path, segment: Segment, table: "pa.Table") -> None:
    """Make the segment's file; it is there whole or not at all.

    Raises:
        OSError: when the disk is full, or the folder cannot be written.
    """
    with whole_file(folder / segment.name) as file:
        _write_all(file, [table], table.schema)


def merge(folder: Path, parts: Iterable[Segment]) -> None:
    """Make one file of neighbours, then delete them.

    Raises:
        OSError: when the disk is full, or the folder cannot be written; the parts are still there then.
    """
    import pyarrow.parquet as pq

    parts = list(parts)
    schema = rows.common_schema([pq.read_schema(folder / part.name) for part in parts])
    with whole_file(folder / segments.merged(parts).name) as file:
        _write_all(file, (table for part in parts for table in _read(folder / part.name)), schema)
    _delete(folder, parts)


def merge_writer(folder: Path, writer: str, *, before: datetime | None) -> None:
    """Merge what is to be merged of one writer, after deleting what a kill left behind.

    Args:
        folder: Of one model.
        writer: Nobody else may write or merge its files.
        before: The hour that is still written to; None when the writer has ended.

    Raises:
        OSError: when the disk is full, or the folder cannot be written.
    """
    import pyarrow as pa

    for kind in segments.KINDS:
        there = [segment for segment in segments.listed(folder / kind) if segment.writer == writer]
        _delete(folder / kind, segments.covered(there))
        for parts in segments.merges(segments.live(there), before=before):
            with suppress(pa.ArrowInvalid):  # one is broken: these stay as they are, and who reads it is told
                merge(folder / kind, parts)


def adopt(folder: Path, mine: str) -> None:
    """Merge what writers that have ended left in many files, whether they were closed or killed.

    Raises:
        OSError: when the disk is full, or the folder cannot be written.
    """
    from filelock import Timeout

    for writer in sorted(_unfinished(folder) - {mine}):
        lock = lock_of(folder, writer)
        try:
            with lock.acquire(timeout=0):
                merge_writer(folder, writer, before=None)
                for kind in segments.KINDS:
                    for remnant in (folder / kind).glob(f".*_{writer}_*"):
                        remnant.unlink(missing_ok=True)
                Path(lock.lock_file).unlink(missing_ok=True)
        except Timeout:  # it is alive
            continue


def forget(folder: Path, before: datetime) -> None:
    """Delete the files all of whose rows are older; whoever reads or merges one of them meanwhile looks again.

    Raises:
        OSError: when the folder cannot be written.
    """
    for kind in segments.KINDS:
        _delete(folder / kind, [segment for segment in segments.listed(folder / kind) if segment.end < before])


def lock_of(folder: Path, writer: str) -> Any:
    """What a writer holds as long as it lives."""
    from filelock import FileLock

    return FileLock(folder / f".{writer}.lock")


def _unfinished(folder: Path) -> set[str]:
    """The writers whose files are more than they need be."""
    found = {path.name[1:].removesuffix(".lock") for path in folder.glob(".*.lock")}
    for kind in segments.KINDS:
        there = segments.listed(folder / kind)
        found |= {segment.writer for segment in segments.covered(there)}
        by_writer: dict[str, list[Segment]] = {}
        for segment in segments.live(there):
            by_writer.setdefault(segment.writer, []).append(segment)
        found |= {writer for writer, its in by_writer.items() if segments.merges(its, before=None)}
    return found


def _write_all(file: Any, tables: Iterable["pa.Table"], schema: "pa.Schema") -> None:
    import pyarrow.parquet as pq

    with pq.ParquetWriter(file, schema, compression="zstd") as writer:
        for table in tables:
            writer.write_table(rows.conform(table, schema))


def _read(path: Path) -> Iterator["pa.Table"]:
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        for group in range(file.num_row_groups):
            yield file.read_row_group(group)


def _delete(folder: Path, parts: Iterable[Segment]) -> None:
    for part in parts:
        (folder / part.name).unlink(missing_ok=True)
