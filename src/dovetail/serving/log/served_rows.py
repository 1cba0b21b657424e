"""Reading the prediction log: the rows of a time window, of one version or of all, joined with their labels."""

import shlex
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from dovetail.errors import one_line
from dovetail.serving.log import delta, object_store, rows, segments
from dovetail.serving.log.delta import LogFile
from dovetail.serving.log.location import Place
from dovetail.serving.log.sampling import draw
from dovetail.serving.log.segments import Segment

if TYPE_CHECKING:
    import pyarrow as pa

LABEL = "label"
T = TypeVar("T")
_TRIES = 5  # a file that was listed may have been merged away before it is opened
_AT_ONCE = 500_000  # rows
_CLOCKS_APART = timedelta(days=1)  # of two servers, at most
_EARLY = datetime(1970, 1, 1, tzinfo=UTC)  # no row is older
_KEYS = ("request_id", "row")


class BrokenFile(OSError):
    """A file that is no Parquet file; `next_command` is what to do about it."""

    def __init__(self, file: LogFile, why: str) -> None:
        super().__init__(f"{file}: {why}")
        steps = [] if isinstance(self, FileNotFoundError) else ["delete the file that it names"]
        if file.table is not None:
            code = f"import deltalake; deltalake.DeltaTable({object_store.address(file.table)!r}).repair()"
            steps.append(f"python -c {shlex.quote(code)}")
        self.next_command = ", then: ".join(steps) or "the same command again"


class GoneFile(BrokenFile, FileNotFoundError):
    """A file that was merged into another after it was listed, or that somebody deleted."""


@dataclass(frozen=True, slots=True)
class Window:
    """Which rows: answered from `since` until before `until` (both with a time zone), and by which version."""

    since: datetime | None = None
    until: datetime | None = None
    version: int | None = None

    def may_hold(self, segment: Segment) -> bool:
        """Whether a file can have rows of the window, by its name."""
        return (
            (self.since is None or segment.end >= self.since)
            and (self.until is None or segment.start < self.until)
            and self.version in (None, segment.version)
        )

    def holds_all(self, segment: Segment) -> bool:
        """Whether every row of such a file is in the window, by the file's name."""
        return (self.since is None or segment.start >= self.since) and (self.until is None or segment.end < self.until)

    def of(self, table: "pa.Table") -> "pa.Table":
        """The table's rows that lie in the window."""
        import pyarrow.compute as pc

        kind = table.schema.field("time").type
        if self.since is not None:
            table = table.filter(pc.greater_equal(table["time"], _scalar(self.since, kind)))
        if self.until is not None:
            table = table.filter(pc.less(table["time"], _scalar(self.until, kind)))
        return table


def is_there(folder: Place) -> bool:
    """Whether anything was ever logged.

    Raises:
        OSError: when the bucket cannot be read.
    """
    return any(folder.iterdir()) if isinstance(folder, Path) and folder.is_dir() else delta.is_used(folder)


def read(
    folder: Place, *, since: datetime | None = None, until: datetime | None = None, version: int | None = None
) -> "pa.Table":
    """All that was answered in a window, with the `label` of each row, null where none came; a later one replaces it.

    Args:
        folder: `monitoring/<model>`, or where it is in a bucket.
        since: With its time zone.
        until: With its time zone.
        version: Only its answers.

    Raises:
        OSError: when a file cannot be read.
    """
    window = Window(since, until, version)
    table = _stable(lambda: _answers(folder, window, None))
    return _joined(table, _stable(lambda: _labels(folder, window)))


def sample(folder: Place, window: Window, columns: Sequence[str], most: int) -> "pa.Table":
    """These columns of the window's rows, those that there are; of more rows than `most` a random sample.

    The sample is the same each time that the same files are read.

    Raises:
        OSError: when a file cannot be read.
    """
    return _stable(lambda: _answers(folder, window, columns, most=most))


def labelled(folder: Place, window: Window, columns: Sequence[str] | None = None) -> "pa.Table":
    """These columns, or all, and the label of those of the window's rows for which one came.

    Raises:
        OSError: when a file cannot be read.
    """
    labels = _stable(lambda: _labels(folder, window))
    if not len(labels):  # nor is any answer to be read
        return _joined(_none(), labels)
    known = labels["request_id"].combine_chunks()
    joined = _joined(_stable(lambda: _answers(folder, window, columns, known=known)), labels)
    return joined.filter(joined[LABEL].is_valid())


def count(folder: Place, window: Window) -> int:
    """How many of the window's rows were answered.

    Raises:
        OSError: when a file cannot be read.
    """
    return _stable(lambda: sum(_length(file, segment, window) for file, segment in _files(folder, window)))


def _answers(
    folder: Place, window: Window, columns: Sequence[str] | None, *, most: int | None = None, known: Any = None
) -> "pa.Table":
    import pyarrow.compute as pc

    found = list(_files(folder, window))
    wanted = None if columns is None else {"time", *columns, *(() if known is None else _KEYS)}
    tables: Iterator[pa.Table] = (
        table if window.holds_all(segment) else window.of(table)
        for file, segment in found
        for table in _groups(file, wanted)
    )
    if most is not None:  # of the window's rows, not of those of the files that it touches
        tables = draw(tables, sum(_length(file, segment, window) for file, segment in found), most)
    if known is not None:
        tables = (table.filter(pc.is_in(table["request_id"], known)) for table in tables)
    return rows.union(list(tables)) if found else _none()


def _labels(folder: Place, answered: Window) -> "pa.Table":
    """The last label of each row that has one; none is older than what it is about, but by another server's clock."""
    since = answered.since if answered.since is None or answered.since < _EARLY else answered.since - _CLOCKS_APART
    window = Window(since)
    tables = [
        window.of(table) for file, _ in _files(folder, window, segments.FEEDBACK) for table in _groups(file, None)
    ]
    if not tables:
        return rows.feedback([])
    ordered = rows.union(tables).sort_by("time")
    last = ordered.group_by(list(_KEYS), use_threads=False).aggregate([(LABEL, "last")])
    return last.rename_columns([*_KEYS, LABEL])


def _joined(table: "pa.Table", labels: "pa.Table") -> "pa.Table":
    keys = _numbered(table.select(list(_KEYS)), "place")
    found = _numbered(labels.select(list(_KEYS)), "found")  # a label of any type: Arrow joins no nulls and no lists
    joined = keys.join(found, list(_KEYS), join_type="left outer").sort_by("place")
    return table.append_column(LABEL, labels[LABEL].take(joined["found"]))


def _numbered(table: "pa.Table", name: str) -> "pa.Table":
    import pyarrow as pa

    return table.append_column(name, pa.array(range(len(table)), pa.int64()))


def _files(folder: Place, window: Window, kind: str = segments.PREDICTIONS) -> Iterator[tuple[LogFile, Segment]]:
    """The files of a kind that can have rows of the window: plain ones, and those of Delta tables."""
    for file, segment in (*_plain(folder, kind), *delta.files(folder, kind)):
        if window.may_hold(segment):
            yield file, segment


def _plain(folder: Place, kind: str) -> Iterator[tuple[LogFile, Segment]]:
    if isinstance(folder, Path):
        for one in segments.live(segments.listed(folder / kind)):
            yield LogFile(folder / kind / one.name), one


def _groups(found: LogFile, columns: Collection[str] | None) -> Iterator["pa.Table"]:
    """The file, some row groups at a time, so that a big one is never in memory whole."""
    import pyarrow.parquet as pq

    content = found.open()  # of S3 it names the file itself
    with _readable(found), pq.ParquetFile(content) as file:
        there = file.schema_arrow.names
        wanted = None if columns is None else [name for name in there if name in columns]
        groups, size = [], 0
        for group in range(file.num_row_groups):
            groups.append(group)
            size += file.metadata.row_group(group).num_rows
            if size >= _AT_ONCE or group == file.num_row_groups - 1:
                yield file.read_row_groups(groups, columns=wanted)
                groups, size = [], 0


def _rows(file: LogFile) -> int:
    import pyarrow.parquet as pq

    if file.rows is not None:
        return file.rows
    content = file.open()
    with _readable(file):
        return int(pq.read_metadata(content).num_rows)


@contextmanager
def _readable(file: LogFile) -> Iterator[None]:
    """Let what is wrong with a file name it.

    Raises:
        BrokenFile: when it is no Parquet file, or GoneFile, when it is not there any more.
        OSError: when it cannot be read.
    """
    import pyarrow as pa

    try:
        yield
    except FileNotFoundError as error:
        raise GoneFile(file, "it is not there") from error
    except (pa.ArrowException, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise OSError(f"{file}: {one_line(error)}") from error
        raise BrokenFile(file, one_line(error)) from error  # pyarrow's own say no number


def _length(file: LogFile, segment: Segment, window: Window) -> int:
    """How many of the file's rows are in the window; the file is read only where it spans an end of the window."""
    if window.holds_all(segment):
        return _rows(file)
    return sum(len(window.of(table)) for table in _groups(file, ("time",)))


def _stable(read_files: Callable[[], T]) -> T:
    """The result of reading; where a file was merged into another meanwhile, of reading again."""
    for _ in range(_TRIES - 1):
        try:
            return read_files()
        except FileNotFoundError:
            continue
    return read_files()


def _none() -> "pa.Table":
    """An empty table with the columns that every answer has."""
    import pyarrow as pa

    columns = {"request_id": pa.string(), "row": pa.int32(), "time": pa.timestamp("us", "UTC"), "version": pa.int32()}
    return pa.schema([*columns.items(), ("method", pa.string()), ("prediction", pa.null())]).empty_table()


def _scalar(time: datetime, kind: Any) -> Any:
    import pyarrow as pa

    return pa.scalar(time, kind)
