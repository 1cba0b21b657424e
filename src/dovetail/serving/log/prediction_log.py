"""What was served, remembered behind the answer: a bounded queue, one thread that writes, Parquet files."""

import secrets
import threading
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

from dovetail.serving.log import merge, rows, segments
from dovetail.serving.log.rows import Labelled, Served
from dovetail.serving.log.segments import Segment

__all__ = ["PredictionLog", "Served"]


class PredictionLog:
    """Rows that wait in memory, at most `max_rows` of them, until a thread writes them every `flush_seconds`.

    To be made in the process that serves: a thread does not survive a fork. Several processes may write to one folder.

    Attributes:
        dropped: Rows that were not written: the queue or the disk was full, or nobody could read them.
        problem: Why the last flush failed, None where it did not.
    """

    def __init__(
        self,
        folder: Path,
        *,
        leave_out: frozenset[str] = frozenset(),
        flush_seconds: float = 1.0,
        max_rows: int = 100_000,
    ) -> None:
        self.dropped = 0
        self.problem: str | None = None
        self._folder = folder
        self._leave_out = leave_out
        self._flush_seconds = flush_seconds
        self._max_rows = max_rows
        self._writer = secrets.token_hex(6)
        self._held: Any = None  # the lock that says that this writer lives
        self._count = 0  # segments written
        self._unmerged = 0
        self._hour: datetime | None = None
        self._queue: list[Served | Labelled] = []
        self._waiting = 0  # rows in the queue and in the flush under way
        self._guard = threading.Lock()  # held for a handful of operations, never while something is written
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._work, name="prediction-log", daemon=True)
        self._thread.start()

    def served(self, entry: Served) -> None:
        """Remember an answered request; dropped and counted where too many wait."""
        self._add(entry)

    def labelled(self, request_id: str, labels: Sequence[Any], time: float) -> bool:
        """Remember what was true for the rows of a request: `labels[i]` for row i, None where it is not known.

        Returns:
            Whether there was room for it.
        """
        return self._add(Labelled(request_id, labels, time))

    def close(self) -> None:
        """Write what waits, and end."""
        self._ending.set()
        self._thread.join()

    def _add(self, entry: Served | Labelled) -> bool:
        size = entry.rows
        with self._guard:
            if self._waiting + size > self._max_rows or self._ending.is_set():
                self.dropped += size
                return False
            self._waiting += size
            self._queue.append(entry)
            return True

    def _work(self) -> None:
        ending = False
        while not ending:
            ending = self._ending.wait(self._flush_seconds)
            with self._guard:
                entries, self._queue = self._queue, []
            lost = self._flush(entries) if entries else 0
            with self._guard:
                self.dropped += lost
                self._waiting -= sum(entry.rows for entry in entries)
            with suppress(Exception):  # nothing is lost: the parts are there until the next time, or the next writer
                self._tidy(ending=ending)

    def _flush(self, entries: Sequence[Served | Labelled]) -> int:
        """Write the entries, one file for each version and one for the labels; returns how many rows were lost."""
        answers: dict[int, list[Served]] = {}
        labels: list[Labelled] = []
        for entry in entries:
            if isinstance(entry, Served):
                answers.setdefault(entry.version, []).append(entry)
            else:
                labels.append(entry)
        problems, lost = [], 0
        groups: list[Sequence[Served] | Sequence[Labelled]] = [*answers.values(), labels]
        for group in groups:
            try:
                failed = self._write(group) if group else 0
            except Exception as error:  # noqa: BLE001  (the one thread that writes must outlive whatever happens)
                failed = sum(entry.rows for entry in group)
                problems.append(getattr(error, "strerror", None) or f"{type(error).__name__}: {error}")
            else:
                if failed:
                    problems.append(f"{failed} rows were not what they were said to be")
            lost += failed
        self.problem = problems[0] if problems else None
        return lost

    def _write(self, group: Sequence[Served] | Sequence[Labelled]) -> int:
        """One segment of entries of one kind; returns how many rows could not be read."""
        self._open()
        first = group[0]
        if isinstance(first, Served):
            kind, name = segments.PREDICTIONS, segments.version_group(first.version)
            table, lost = rows.predictions(cast("Sequence[Served]", group), self._leave_out)
        else:
            kind, name = segments.FEEDBACK, segments.LABELS
            table, lost = rows.feedback(cast("Sequence[Labelled]", group)), 0
        if len(table):
            times = [segments.moment(entry.time) for entry in group]
            self._count += 1
            segment = Segment(self._writer, name, self._count, self._count, min(times), max(times))
            merge.write(self._folder / kind, segment, table)
            self._unmerged += 1
        return lost

    def _open(self) -> None:
        """The folder, kept out of git, and the lock that keeps others from merging what is still written."""
        if self._held is not None and Path(self._held.lock_file).exists():
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        ignore = self._folder.parent / ".gitignore"
        if not ignore.exists():
            ignore.write_text("*\n", encoding="utf-8")
        self._held = merge.lock_of(self._folder, self._writer)
        self._held.acquire(timeout=0)

    def _tidy(self, *, ending: bool) -> None:
        """Merge what is to be merged: at the first flush and with each hour what others left, too."""
        if self._held is None:
            return
        hour = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
        has_turned, self._hour = hour != self._hour, hour
        if ending or has_turned or self._unmerged >= segments.MANY:
            self._unmerged = 0
            merge.merge_writer(self._folder, self._writer, before=None if ending else hour)
        if has_turned:
            merge.adopt(self._folder, self._writer)
        if ending:
            Path(self._held.lock_file).unlink(missing_ok=True)
            self._held.release()
