"""Delta tables tidied by any number of writers at once: many files made one, old ones forgotten, each row there once.

deltalake lets a second one commit what it made of files that a first one has replaced meanwhile, and each of their rows
is there twice then (1.6.6). So the commit is made here, as Delta's protocol has it: its file is written only where
there is none of its number, and before each try the files to be replaced must all be there still.
https://github.com/delta-io/delta/blob/master/PROTOCOL.md
"""

import json
import tempfile
import uuid
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from itertools import groupby
from typing import TYPE_CHECKING, Any

from dovetail.serving.log import object_store, packages, rows
from dovetail.serving.log.location import Place

if TYPE_CHECKING:
    from obstore.store import ObjectStore

_TRIES = 20  # of a commit, where others commit meanwhile
_READERS_HOURS = 1  # that a file which was merged into another is kept for who reads it
_WRITERS_HOURS = 24  # that a file which no commit names is kept for who may be about to make one
_CLOCK = "_dovetail_clock"  # an object of a table whose time of writing tells what the time is there
_LARGE, _SMALL = 32 << 20, 1 << 20  # bytes: files are not merged beyond the one, and always up to the other
_FORGETTING, _MERGING = "DELETE", "OPTIMIZE"  # operations, as Delta names them
# Of a table; one with others is left to who made it so. A column of times without a zone sets the last one.
_KNOWN_FEATURES = frozenset({"appendOnly", "invariants", "timestampNtz"})
_LAST_WRITER_WITHOUT_FEATURES = 2  # version of the protocol


def tidy(table: Any, place: Place, keep: timedelta | None, *, thoroughly: bool) -> None:
    """Merge small files of a day, forget those whose every row is older than `keep`, write a checkpoint.

    Args:
        table: deltalake's, in its newest state.
        place: Where it is.
        keep: None: nothing is forgotten.
        thoroughly: Also delete old commits, and files that were replaced an hour ago, or never committed for a day.

    Raises:
        OSError: when it cannot be done now.
    """
    obstore = packages.obstore()
    import deltalake.exceptions

    store = object_store.opened(place)
    try:
        if not _is_plain(table):
            return
        if keep is not None or thoroughly:
            now = _now(store)
            if keep is not None and (old := _older(_entries(table), now - keep)):
                _commit(table, store, old, None)
            if thoroughly:  # before what takes space
                _vacuum(table, now)
        for many in _to_merge(_entries(table)):
            _merge(table, store, many)
        table.create_checkpoint()
        if thoroughly:
            table.cleanup_metadata()
    except (deltalake.exceptions.DeltaError, obstore.exceptions.BaseError) as error:
        raise OSError(f"{place} cannot be tidied: {object_store.error_text(error)}") from error


def _vacuum(table: Any, now: datetime) -> None:
    """Delete the files that nobody needs; deltalake goes by this machine's clock, which may be wrong."""
    table.vacuum(_READERS_HOURS, dry_run=False, enforce_retention_duration=False)
    if datetime.now(UTC) - now < timedelta(hours=_READERS_HOURS):
        table.vacuum(_WRITERS_HOURS, dry_run=False, enforce_retention_duration=False, full=True)


def _is_plain(table: Any) -> bool:
    """Whether a commit that adds and removes files needs to know no more of the table."""
    protocol = table.protocol()
    features = frozenset(protocol.writer_features or ()) | frozenset(protocol.reader_features or ())
    is_old = protocol.min_writer_version <= _LAST_WRITER_WITHOUT_FEATURES
    configuration = table.metadata().configuration
    return (is_old or features <= _KNOWN_FEATURES) and configuration.get("delta.appendOnly") != "true"


def _entries(table: Any) -> list[dict[str, Any]]:
    """The files of the table: `path`, `size_bytes`, `num_records`, `min.time`, `max.time`."""
    import pyarrow as pa

    return [entry for entry in pa.table(table.get_add_actions(flatten=True)).to_pylist() if "://" not in entry["path"]]


def _older(entries: Sequence[dict[str, Any]], before: datetime) -> list[dict[str, Any]]:
    return [entry for entry in entries if entry.get("max.time") and entry["max.time"] < before]


def _to_merge(entries: Sequence[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """Which files to make one of each: of one day, and none with others that are much smaller than it is itself.

    Of a day, so that one is as old as its name says when it is to be forgotten; by size, so that a row is written
    anew a handful of times, not with each sixty appends.
    """
    found = []
    dated = sorted((entry for entry in entries if entry.get("min.time")), key=lambda entry: entry["min.time"].date())
    for _, of_day in groupby(dated, key=lambda entry: entry["min.time"].date()):
        many: list[dict[str, Any]] = []
        size = 0
        for entry in sorted(of_day, key=lambda entry: (entry["size_bytes"], entry["path"])):
            if entry["size_bytes"] > max(_SMALL, 2 * size) or size + entry["size_bytes"] > _LARGE:
                break
            many.append(entry)
            size += entry["size_bytes"]
        if len(many) > 1:
            found.append(many)
    return found


def _merge(table: Any, store: "ObjectStore", many: Sequence[dict[str, Any]]) -> None:
    """Write one file of many, and commit it in their place; where others were first, it is deleted again."""
    import pyarrow.parquet as pq

    obstore = packages.obstore()
    many = sorted(many, key=lambda entry: (entry["min.time"], entry["path"]))
    name = f"part-00000-{uuid.uuid4()}-c000.zstd.parquet"

    def opened(entry: dict[str, Any]) -> Any:
        return pq.ParquetFile(object_store.read(store, entry["path"]))

    try:
        schema = rows.common_schema([opened(entry).schema_arrow for entry in many])
    except FileNotFoundError:  # merged and deleted by others
        return
    with tempfile.TemporaryFile() as file:
        with pq.ParquetWriter(file, schema, compression="zstd") as writer:
            for entry in many:
                source = opened(entry)
                for group in range(source.num_row_groups):
                    writer.write_table(rows.conform(source.read_row_group(group), schema))
        size, _ = file.tell(), file.seek(0)
        obstore.put(store, name, file)
    added = {
        "path": name,
        "partitionValues": {},
        "size": size,
        "modificationTime": _milliseconds(),
        "dataChange": False,
        "stats": json.dumps(
            {
                "numRecords": sum(entry["num_records"] for entry in many),
                "minValues": {"time": _stamp(min(entry["min.time"] for entry in many))},
                "maxValues": {"time": _stamp(max(entry["max.time"] for entry in many))},
                "nullCount": {"time": 0},
            }
        ),
    }
    if not _commit(table, store, many, added):
        with suppress(obstore.exceptions.BaseError):
            obstore.delete(store, name)


def _commit(table: Any, store: "ObjectStore", gone: Sequence[dict[str, Any]], added: dict[str, Any] | None) -> bool:
    """Replace files by one, or by none. Returns whether it was done: not where one of them is not there any more."""
    obstore = packages.obstore()
    paths = {entry["path"] for entry in gone}
    actions: list[dict[str, Any]] = [
        {
            "commitInfo": {
                "timestamp": _milliseconds(),
                "operation": _MERGING if added else _FORGETTING,
                "operationParameters": {},
            }
        },
        *({"add": each} for each in (added,) if each),
        *(
            {
                "remove": {
                    "path": entry["path"],
                    "deletionTimestamp": _milliseconds(),
                    "dataChange": added is None,
                    "extendedFileMetadata": True,
                    "partitionValues": {},
                    "size": entry["size_bytes"],
                }
            }
            for entry in gone
        ),
    ]
    content = "\n".join(json.dumps(action) for action in actions).encode()
    for _ in range(_TRIES):
        table.update_incremental()
        there = {entry["path"] for entry in _entries(table)}
        if added and added["path"] in there:  # it was done, though S3 did not say so
            return True
        if not paths <= there:
            return False
        with suppress(obstore.exceptions.AlreadyExistsError):
            obstore.put(store, f"_delta_log/{table.version() + 1:020}.json", content, mode="create")
    raise OSError("others commit all the time")  # what was written is left to `_vacuum`: the last may have succeeded


def _now(store: "ObjectStore") -> datetime:
    """What the time is by the clock of where the table lies: one for all, however wrong that of a server is."""
    obstore = packages.obstore()
    obstore.put(store, _CLOCK, b"")
    there: datetime = obstore.head(store, _CLOCK)["last_modified"]
    return min(there, datetime.now(UTC))


def _milliseconds() -> int:
    return round(datetime.now(UTC).timestamp() * 1000)


def _stamp(time: datetime) -> str:
    """A time as the statistics of Delta have it: cut off at the millisecond, as those that it is made of are."""
    return time.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
