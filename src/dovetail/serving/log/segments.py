"""The files of the prediction log by name alone: what each holds, which others it covers, which to merge.

A file covers the segments `first` to `last` of its writer and group. Because the name says so, a merged file and the
parts that it was made of may lie side by side, as after a kill, without a row being read twice.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import groupby
from pathlib import Path

PREDICTIONS = "predictions"
FEEDBACK = "feedback"
KINDS = (PREDICTIONS, FEEDBACK)
LABELS = "labels"  # the group of every file of feedback
MANY = 60  # segments of a writer that are merged before the hour turns

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_STAMP = "%Y%m%dT%H%M%S%fZ"
_NAME = re.compile(
    r"(?P<start>\d{8}T\d{12}Z)_(?P<end>\d{8}T\d{12}Z)_(?P<group>v\d+|labels)"
    r"_(?P<writer>[0-9a-f]+)_(?P<first>\d+)-(?P<last>\d+)\.parquet"
)


@dataclass(frozen=True, slots=True, order=True)
class Segment:
    """One file: the rows from `start` to `end` that `writer` wrote as its segments `first` to `last` of the group."""

    writer: str
    group: str  # "v3": answers of version 3
    first: int
    last: int
    start: datetime
    end: datetime

    @property
    def name(self) -> str:
        """The file's name; `parse` is its inverse."""
        start, end = (time.astimezone(UTC).strftime(_STAMP) for time in (self.start, self.end))
        return f"{start}_{end}_{self.group}_{self.writer}_{self.first:08}-{self.last:08}.parquet"

    @property
    def version(self) -> int | None:
        """The version whose answers it holds; None for labels."""
        return int(self.group[1:]) if self.group.startswith("v") else None

    @property
    def is_merged(self) -> bool:
        """Whether it was made of several."""
        return self.last > self.first

    @property
    def hour(self) -> datetime:
        """The hour in which it begins."""
        return self.start.replace(minute=0, second=0, microsecond=0)

    def covers(self, other: "Segment") -> bool:
        """Whether every row of `other` is in this file, too."""
        return (
            self != other
            and (self.writer, self.group) == (other.writer, other.group)
            and self.first <= other.first
            and other.last <= self.last
        )


def version_group(version: int) -> str:
    """The group of a version's answers: its own files, so that one column has one type in them."""
    return f"v{version}"


def moment(seconds: float) -> datetime:
    """Seconds since the epoch as UTC, exact to the microsecond."""
    return _EPOCH + timedelta(microseconds=round(seconds * 1_000_000))


def parse(name: str) -> Segment | None:
    """What a file's name says; None for a file of another kind."""
    found = _NAME.fullmatch(name)
    if found is None:
        return None
    start, end = (datetime.strptime(found[key], _STAMP).replace(tzinfo=UTC) for key in ("start", "end"))
    return Segment(found["writer"], found["group"], int(found["first"]), int(found["last"]), start, end)


def listed(folder: Path) -> list[Segment]:
    """Every file of a folder, covered ones too, in order; none if there is no folder."""
    names = _names(folder)
    while names != (again := _names(folder)):  # a listing may miss both a merged file and a part deleted meanwhile
        names = again
    return sorted(segment for segment in map(parse, names) if segment)


def _names(folder: Path) -> set[str]:
    try:
        return {path.name for path in folder.iterdir() if not path.name.startswith(".")}
    except FileNotFoundError:
        return set()


def covered(segments: Sequence[Segment]) -> list[Segment]:
    """Those whose rows another file has, too."""
    merged = [segment for segment in segments if segment.is_merged]
    by_group = {
        key: list(group) for key, group in groupby(sorted(merged), key=lambda segment: (segment.writer, segment.group))
    }
    return [
        segment
        for segment in segments
        if any(other.covers(segment) for other in by_group.get((segment.writer, segment.group), ()))
    ]


def live(segments: Sequence[Segment]) -> list[Segment]:
    """Those that together hold every row once."""
    hidden = set(covered(segments))
    return [segment for segment in segments if segment not in hidden]


def merges(segments: Iterable[Segment], *, before: datetime | None) -> list[list[Segment]]:
    """Which files of one writer to make one file of each: hours that ended `before` whole, of the current one its many.

    Without `before`, as for a writer that has ended, every hour is whole. Only neighbours are merged, so that a merged
    file covers nothing that it was not made of, not even when a clock was set back.
    """
    found = []
    for (_, hour), run in groupby(sorted(segments), key=lambda segment: (segment.group, segment.hour)):
        parts = list(run)
        if before is None or hour < before:
            found.append(parts)
            continue
        small = [list(group) for is_merged, group in groupby(parts, key=lambda part: part.is_merged) if not is_merged]
        found += [group for group in small if len(group) >= MANY]
    return [parts for parts in found if len(parts) > 1]


def merged(parts: Sequence[Segment]) -> Segment:
    """The file that neighbours become."""
    return Segment(
        parts[0].writer,
        parts[0].group,
        parts[0].first,
        parts[-1].last,
        min(part.start for part in parts),
        max(part.end for part in parts),
    )
