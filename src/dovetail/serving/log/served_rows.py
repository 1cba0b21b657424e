"""Reading the prediction log: the rows of a time window, of one version or of all, joined with their labels."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from dovetail.serving.log import rows, segments
from dovetail.serving.log.sampling import draw
from dovetail.serving.log.segments import Segment

if TYPE_CHECKING:
    import pyarrow as pa

LABEL = "label"
T = TypeVar("T")
_TRIES = 5  # a file that was listed may have been merged away before it is opened
_AT_ONCE = 500_000  # rows
_KEYS = ("request_id", "row")


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

    def of(self, table: "pa.Table") -> "pa.Table":
        """The table's rows that lie in the window."""
        import pyarrow.compute as pc

        kind = table.schema.field("time").type
        if self.since is not None:
            table = table.filter(pc.greater_equal(table["time"], _scalar(self.since, kind)))
        if self.until is not None:
            table = table.filter(pc.less(table["time"], _scalar(self.until, kind)))
        return table


def read(
    folder: Path, *, since: datetime | None = None, until: datetime | None = None, version: int | None = None
) -> "pa.Table":
    """All that was answered in a window, with the `label` of each row, null where none came; a later one replaces it.

    Args:
        folder: `monitoring/<model>`.
        since: With its time zone.
        until: With its time zone.
        version: Only its answers.

    Raises:
        OSError: when a file cannot be read.
    """
    window = Window(since, until, version)
    table = _stable(lambda: _answers(folder, window, None))
    return _joined(table, _stable(lambda: _labels(folder, window)))


def sample(folder: Path, window: Window, columns: Sequence[str], most: int) -> "pa.Table":
    """These columns of the window's rows, those that there are; of more rows than `most` a random sample.

    The sample is the same each time that the same files are read.

    Raises:
        OSError: when a file cannot be read.
    """
    return _stable(lambda: _answers(folder, window, columns, most=most))


def labelled(folder: Path, window: Window, columns: Sequence[str]) -> "pa.Table":
    """These columns and the label of those of the window's rows for which one came.

    Raises:
        OSError: when a file cannot be read.
    """
    labels = _stable(lambda: _labels(folder, window))
    known = labels["request_id"].combine_chunks()
    joined = _joined(_stable(lambda: _answers(folder, window, columns, known=known)), labels)
    return joined.filter(joined[LABEL].is_valid())


def count(folder: Path, window: Window) -> int:
    """How many of the window's rows were answered.

    Raises:
        OSError: when a file cannot be read.
    """
    return _stable(lambda: sum(_length(path, segment, window) for path, segment in _files(folder, window)))


def _answers(
    folder: Path, window: Window, columns: Sequence[str] | None, *, most: int | None = None, known: Any = None
) -> "pa.Table":
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    found = [path for path, _ in _files(folder, window)]
    tables: Iterator[pa.Table] = (table for path in found for table in _groups(path, columns))
    if most is not None:
        tables = draw(tables, sum(pq.read_metadata(path).num_rows for path in found), most)
    if known is not None:
        tables = (table.filter(pc.is_in(table["request_id"], known)) for table in tables)
    return rows.union([window.of(table) for table in tables]) if found else _none()


def _labels(folder: Path, answered: Window) -> "pa.Table":
    """The last label of each row that has one; none is older than what it is about."""
    window = Window(answered.since)
    tables = [
        window.of(table)
        for segment in segments.live(segments.listed(folder / segments.FEEDBACK))
        if window.may_hold(segment)
        for table in _groups(folder / segments.FEEDBACK / segment.name, None)
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


def _files(folder: Path, window: Window) -> Iterator[tuple[Path, Segment]]:
    for segment in segments.live(segments.listed(folder / segments.PREDICTIONS)):
        if window.may_hold(segment):
            yield folder / segments.PREDICTIONS / segment.name, segment


def _groups(path: Path, columns: Sequence[str] | None) -> Iterator["pa.Table"]:
    """The file, some row groups at a time, so that a big one is never in memory whole."""
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        there = file.schema_arrow.names
        wanted = None if columns is None else [name for name in there if name in {*_KEYS, "time", *columns}]
        groups, size = [], 0
        for group in range(file.num_row_groups):
            groups.append(group)
            size += file.metadata.row_group(group).num_rows
            if size >= _AT_ONCE or group == file.num_row_groups - 1:
                yield file.read_row_groups(groups, columns=wanted)
                groups, size = [], 0


def _length(path: Path, segment: Segment, window: Window) -> int:
    """How many of the file's rows are in the window; the file is read only where it spans an end of the window."""
    import pyarrow.parquet as pq

    is_inside = (window.since is None or segment.start >= window.since) and (
        window.until is None or segment.end < window.until
    )
    if is_inside:
        return int(pq.read_metadata(path).num_rows)
    return sum(len(window.of(table)) for table in _groups(path, ()))


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
