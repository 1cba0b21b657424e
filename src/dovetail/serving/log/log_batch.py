"""What one flush of the log adds to one of its tables, made of the entries that wait."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import reduce
from typing import TYPE_CHECKING, cast

from dovetail.errors import DovetailError
from dovetail.serving.log import object_store, rows, segments
from dovetail.serving.log.rows import Labelled, Served

if TYPE_CHECKING:
    from itertools import count

    import pyarrow as pa

Entry = Served | Labelled


@dataclass(frozen=True, slots=True)
class Size:
    """How much waits."""

    rows: int = 0
    bytes: int = 0

    @classmethod
    def of(cls, entries: Iterable[Entry]) -> "Size":
        """That of entries."""
        return reduce(lambda size, entry: size.plus(Size(entry.rows, entry.bytes)), entries, cls())

    def plus(self, other: "Size") -> "Size":
        """Both."""
        return Size(self.rows + other.rows, self.bytes + other.bytes)

    def minus(self, other: "Size") -> "Size":
        """This without the other."""
        return Size(self.rows - other.rows, self.bytes - other.bytes)


@dataclass(frozen=True, slots=True)
class LogBatch:
    """What one flush adds to one group of a kind, and the number by which the log knows it."""

    kind: str
    group: str
    table: "pa.Table"
    number: int
    times: tuple[datetime, datetime]
    size: Size


def place_of(entry: Entry) -> tuple[str, str]:
    """The kind and the group of what it adds to."""
    if isinstance(entry, Served):
        return segments.PREDICTIONS, segments.version_group(entry.version)
    return segments.FEEDBACK, segments.LABELS


def batches_of(
    entries: Iterable[Entry], leave_out: frozenset[str], numbers: "count[int]"
) -> tuple[list[LogBatch], list[str], int]:
    """A batch for each group, what is wrong with the entries, and how many rows no batch has."""
    places: dict[tuple[str, str], list[Entry]] = {}
    for entry in entries:
        places.setdefault(place_of(entry), []).append(entry)
    made: list[LogBatch] = []
    problems, lost = [], 0
    for place, group in places.items():
        try:
            table, failed = _table(group, leave_out)
        except Exception as error:  # noqa: BLE001  (the one thread that writes must outlive whatever happens)
            failed = Size.of(group).rows
            problems.append(said(error))
        else:
            times = [segments.moment(entry.time) for entry in group]
            size = Size.of(group).minus(Size(failed))
            made.append(LogBatch(*place, table, next(numbers), (min(times), max(times)), size))
            if failed:
                problems.append(f"{failed} rows were not what they were said to be")
        lost += failed
    return made, problems, lost


def said(error: BaseException) -> str:
    """What is wrong, on one line."""
    if isinstance(error, DovetailError):
        return error.message
    return getattr(error, "strerror", None) or f"{type(error).__name__}: {object_store.error_text(error)}"


def _table(group: Sequence[Entry], leave_out: frozenset[str]) -> tuple["pa.Table", int]:
    """The table of entries of one kind, and how many rows could not be read."""
    if isinstance(group[0], Served):
        return rows.predictions(cast("Sequence[Served]", group), leave_out)
    return rows.feedback(cast("Sequence[Labelled]", group)), 0
