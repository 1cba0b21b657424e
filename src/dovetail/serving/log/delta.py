"""The prediction log as Delta Lake tables: atomic appends of any number of writers, for whatever else reads Delta.

`predictions.delta/v3` is the table of version 3's answers, `feedback.delta/labels` that of labels, in a folder or in a
bucket. A Delta table has one type for each column. Where rows come whose types are others, `v3-1` takes them: nothing
is cast or refused.
"""

import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dovetail.serving.log import object_store, packages, segments
from dovetail.serving.log.delta_compaction import tidy
from dovetail.serving.log.location import Place, S3Folder
from dovetail.serving.log.segments import Segment

if TYPE_CHECKING:
    import pyarrow as pa
    from obstore.store import ObjectStore

_SUFFIX = ".delta"
_TRIES = 10  # of an append, where others make the table, or change it, meanwhile
_MOST_TABLES = 100  # of one version: each is for rows of other types
_NAME = re.compile(r"(?P<group>v\d+|labels)(-\d+)?")
_MILLISECOND = timedelta(milliseconds=1)  # the statistics of Delta are cut off there


@dataclass(frozen=True, slots=True)
class LogFile:
    """A Parquet file of the log, and its rows where they are known without it: a path, or a name in `store`.

    `table` is the Delta table that it belongs to, None where it does to none.
    """

    path: Path | str
    store: "ObjectStore | None" = None
    rows: int | None = None
    table: Place | None = None

    def __str__(self) -> str:
        return str(self.path) if self.store is None else f"{self.table}/{self.path}"

    def open(self) -> Any:
        """What pyarrow takes for it.

        Raises:
            OSError: when S3 does not give it; FileNotFoundError where it is not there any more.
        """
        if self.store is None:
            return self.path
        return object_store.read(self.store, str(self.path))


class Tables:
    """The tables of one log for who writes to them. They stay open: to open one reads the list of all its files."""

    def __init__(self, place: Place) -> None:
        """Write below `place`; nothing is made before the first append."""
        self._place = place
        self._open: dict[str, Any] = {}

    def append(self, kind: str, group: str, table: "pa.Table", by: tuple[str, int]) -> None:
        """Add the rows to the table of their group, all at once, and once: `by` is the writer and its count of appends.

        Raises:
            MissingPackage: when deltalake is not installed.
            OSError: when they cannot be written now.
            ValueError: when there are too many tables of other types already.
        """
        import pyarrow as pa

        deltalake = packages.deltalake()
        # Delta has no type for nothing but nulls
        named = table.drop([field.name for field in table.schema if pa.types.is_null(field.type)])
        place = self._place / (kind + _SUFFIX)
        if isinstance(place, Path):
            place.mkdir(parents=True, exist_ok=True)
        # What is said to have failed may have been committed: the table itself knows the last append of each writer.
        mark = deltalake.CommitProperties(app_transactions=[deltalake.Transaction(*by)])
        hooks = deltalake.PostCommitHookProperties(create_checkpoint=False, cleanup_expired_logs=False)  # `tidy` does
        error: Exception = OSError()
        for _ in range(_TRIES):
            try:
                if (found := self._table_for(place, group, named.schema, by)) is not None:
                    deltalake.write_deltalake(
                        found, named, mode="append", schema_mode="merge", commit_properties=mark,
                        post_commithook_properties=hooks,
                        storage_options=object_store.delta_options(place) if isinstance(found, str) else None,
                    )  # fmt: skip
            except deltalake.exceptions.DeltaError as found_error:  # of several writers one was first
                error = found_error
                self._open.clear()
            except OSError:
                self._open.clear()
                raise
            else:
                return
        raise OSError(f"{group}: {object_store.error_text(error)}") from error

    def tidy(self, keep: timedelta | None, *, thoroughly: bool) -> None:
        """Make one file of many in each table, forget what is older than `keep`, and delete files that nobody needs.

        Any number may do so at once; `thoroughly` is for once an hour.

        Raises:
            OSError: when it cannot be done now for one of them; nothing is lost or doubled.
        """
        failed: list[Exception] = []
        for place in [place for kind in segments.KINDS for place, _ in _tables(self._place, kind)]:
            try:
                if (table := self._refreshed(place)) is not None:
                    tidy(table, place, keep, thoroughly=thoroughly)
            except Exception as error:  # noqa: BLE001  (raised when the others have been tidied)
                failed.append(error)
        if failed:
            raise OSError(object_store.error_text(failed[0])) from failed[0]
        if thoroughly:
            self._open.clear()  # what is open for long may lack what it would have to read on from

    def _table_for(self, place: Place, group: str, schema: "pa.Schema", by: tuple[str, int]) -> Any:
        """The first table of the group whose columns have these types, as far as it has them.

        Where none has, an address for a new one; None where one has what the writer appends already.
        """
        import pyarrow as pa

        for number in range(_MOST_TABLES):
            path = place / (f"{group}-{number}" if number else group)
            table = self._refreshed(path)
            if table is None:
                return object_store.address(path)
            if (table.transaction_version(by[0]) or 0) >= by[1]:
                return None
            there = pa.schema(table.schema().to_arrow())
            if all(
                field.name not in there.names or _is_one(there.field(field.name).type, field.type) for field in schema
            ):
                return table
        raise ValueError(f"{place / group} has {_MOST_TABLES} tables of other types")

    def _refreshed(self, place: Place) -> Any:
        """The table as it is now; None where there is none."""
        name = str(place)
        if name in self._open:
            self._open[name].update_incremental()
        else:  # deltalake's `is_deltatable` would hold Python's lock, and with it the server, until S3 answers
            with suppress(packages.deltalake().exceptions.TableNotFoundError):
                self._open[name] = _table(place)
        return self._open.get(name)


def files(folder: Place, kind: str) -> Iterator[tuple[LogFile, Segment]]:
    """Each Parquet file that holds rows of a kind now, and what a segment's name says: the version, and from when on.

    Raises:
        MissingPackage: when there are tables, and deltalake is not installed.
        OSError: when a table cannot be read.
    """
    import pyarrow as pa

    for place, group in _tables(folder, kind):
        deltalake = packages.deltalake()
        try:
            table = _table(place)
            entries = sorted(pa.table(table.get_add_actions(flatten=True)).to_pylist(), key=itemgetter("path"))
        except deltalake.exceptions.TableNotFoundError:  # it is being made
            continue
        except deltalake.exceptions.DeltaError as error:
            raise OSError(f"{place}: {object_store.error_text(error)}") from error
        store = object_store.opened(place) if isinstance(place, S3Folder) else None
        for number, entry in enumerate(entries):
            start, end = (entry.get(f"{side}.time") for side in ("min", "max"))
            start, end = (
                start or datetime.min.replace(tzinfo=UTC),
                end or datetime.max.replace(tzinfo=UTC) - _MILLISECOND,
            )
            segment = Segment(str(place), group, number, number, start, end + _MILLISECOND)
            path = place / entry["path"] if isinstance(place, Path) else entry["path"]
            yield LogFile(path, store, entry.get("num_records"), place), segment


def is_used(folder: Place) -> bool:
    """Whether there are tables.

    Raises:
        OSError: when the bucket cannot be read.
    """
    return any(_tables(folder, kind) for kind in segments.KINDS)


def _table(place: Place) -> Any:
    options = object_store.delta_options(place)
    return packages.deltalake().DeltaTable(object_store.address(place), storage_options=options)


def _tables(folder: Place, kind: str) -> list[tuple[Place, str]]:
    place = folder / (kind + _SUFFIX)
    named = [(name, _NAME.fullmatch(name)) for name in sorted(_names(place))]
    return [(place / name, found["group"]) for name, found in named if found]


def _names(place: Place) -> list[str]:
    if isinstance(place, S3Folder):
        return object_store.folders(place)
    return [path.name for path in place.iterdir() if (path / "_delta_log").is_dir()] if place.is_dir() else []


def _is_one(there: Any, given: Any) -> bool:
    """Whether two types are one for Delta, which does not tell how text and lists are laid out."""
    import pyarrow as pa

    if pa.types.is_list(there) and pa.types.is_list(given):
        return _is_one(there.value_type, given.value_type)
    plain = {pa.large_string(): pa.string(), pa.string_view(): pa.string()}
    return bool(plain.get(there, there) == plain.get(given, given))
