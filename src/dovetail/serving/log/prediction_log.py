"""What was served, remembered behind the answer: a bounded queue, one thread that writes to a folder or to S3."""

import logging
import os
import secrets
import tempfile
import threading
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import reduce
from itertools import count
from pathlib import Path
from typing import Any

from dovetail.errors import DovetailError
from dovetail.serving.log import delta, merge, object_store, segments
from dovetail.serving.log.location import Place, S3Folder
from dovetail.serving.log.log_batch import Entry, LogBatch, Size, batches_of, place_of, said
from dovetail.serving.log.rows import Labelled, Served
from dovetail.serving.log.segments import Segment

__all__ = ["PredictionLog", "Served"]

_log = logging.getLogger(__name__)
_PROBE_BYTES = 1 << 16
_CLOSE_SECONDS = 25  # for what waits to go to S3: who ends a server kills it after half a minute


class PredictionLog:
    """Rows that wait in memory, at most `max_rows` and `max_bytes` of them, until a thread writes them.

    To be made in the process that serves: a thread does not survive a fork. Several processes may write to one place.
    What S3 does not take is held and tried again; what a folder does not take is lost, and counted.

    Attributes:
        dropped: Rows that were not written: the queue or the disk was full, or nobody could read them.
        problem: Why the last flush failed, None where it did not.
    """

    def __init__(  # noqa: PLR0913  (settings of a server, all with names)
        self,
        place: Place,
        *,
        leave_out: frozenset[str] = frozenset(),
        flush_seconds: float = 1.0,
        max_rows: int = 100_000,
        max_bytes: int = 64 << 20,
        keep: timedelta | None = None,
        as_delta: bool = False,
    ) -> None:
        """Write Parquet files or Delta tables, to S3 always these; delete there what is older than `keep`.

        `max_bytes` are those of the requests and answers as they came and went; in memory they take some times as much.
        """
        self.dropped = 0
        self.problem: str | None = None
        self._place = place
        self._leave_out = leave_out
        self._keep = keep
        self._tables = delta.Tables(place) if as_delta or isinstance(place, S3Folder) else None
        self._flush_seconds = flush_seconds
        self._most = Size(max_rows, max_bytes)
        self._writer = secrets.token_hex(6)
        self._held: Any = None  # the lock that says that this writer lives
        self._is_open = False
        self._is_hindered = False  # the last flush could not write
        self._numbers = count(1)  # of batches
        self._unmerged = 0
        self._hour: datetime | None = None
        self._queue: list[Entry] = []
        self._unwritten: list[LogBatch] = []  # S3 did not take them; until it does, what is for the same tables waits
        self._waiting = Size()  # in the queue and in the flush under way
        self._guard = threading.Lock()  # held for a handful of operations, never while something is written
        self._ending = threading.Event()
        self._until = 0.0  # when to wait for S3 no more, of time.monotonic
        self._thread = threading.Thread(target=self._work, name="prediction-log", daemon=True)
        self._thread.start()

    def served(self, entry: Served) -> None:
        """Remember an answered request; dropped and counted where too many wait."""
        self._add(entry)

    def labelled(self, request_id: str, labels: Sequence[Any], time: float, body_bytes: int = 0) -> bool:
        """Remember what was true for the rows of a request: `labels[i]` for row i, None where it is not known.

        Returns:
            Whether there was room for it.
        """
        return self._add(Labelled(request_id, labels, time, body_bytes))

    def end(self) -> None:
        """Take no more, and write what waits; `close` waits for it."""
        if not self._ending.is_set():
            self._until = time.monotonic() + _CLOSE_SECONDS
            self._ending.set()

    def close(self) -> None:
        """Write what waits, and end; what S3 does not take within half a minute is lost, and said."""
        self.end()
        self._thread.join(max(0.0, self._until - time.monotonic()) if isinstance(self._place, S3Folder) else None)
        with self._guard:
            self.dropped += self._waiting.rows  # none where the thread has ended
        if self.dropped:
            why = self.problem or "more came at once than could be written"
            _log.warning("the prediction log %s lacks %s rows: %s", self._place, self.dropped, why)

    def _add(self, entry: Entry) -> bool:
        size = Size(entry.rows, entry.bytes)
        with self._guard:
            waiting = self._waiting.plus(size)
            if self._ending.is_set() or waiting.rows > self._most.rows or waiting.bytes > self._most.bytes:
                self.dropped += size.rows
                return False
            self._waiting = waiting
            self._queue.append(entry)
            return True

    def _work(self) -> None:
        ending = False
        while not ending:
            ending = self._ending.wait(self._flush_seconds)
            was_well = self.problem is None
            self._flush()
            if (self.problem is None) != was_well and isinstance(self._place, S3Folder):
                _log.warning("the prediction log %s %s", self._place, self.problem or "is written to again")
            with suppress(BaseException):  # nothing is lost: the parts wait for the next time, or the next writer
                self._tidy(ending=ending)

    def _flush(self) -> None:
        """Write what S3 did not take the last time, then what waits: one batch a version, and one of labels.

        What is for a table that S3 does not take waits on behind what is tried again; other tables get theirs.
        """
        again, self._unwritten = self._unwritten, []
        problems, lost = self._write_all(again)
        entries = self._take()
        if not again and not entries:
            self._see_whether_it_is_well_again()
            return
        batches, unread, lost_unread = batches_of(entries, self._leave_out, self._numbers)
        unwritten, lost_unwritten = self._write_all(batches)
        problems += unwritten + unread
        self._is_hindered = len(problems) > len(unread)
        self.problem = problems[0] if problems else None
        taken = _total(again).plus(Size.of(entries))
        with self._guard:
            self.dropped += lost + lost_unread + lost_unwritten
            self._waiting = self._waiting.minus(taken).plus(_total(self._unwritten))

    def _write_all(self, batches: Iterable[LogBatch]) -> tuple[list[str], int]:
        """Write batches, or keep them for the next time; returns what is wrong, and how many rows are lost."""
        problems, lost = [], 0
        for batch in batches:
            try:
                self._write(batch)
            except BaseException as error:  # noqa: BLE001  (deltalake's panics, too: the one thread that writes lives on)
                problems.append(said(error))
                if isinstance(self._place, S3Folder) and isinstance(error, OSError | DovetailError):
                    self._unwritten.append(batch)  # the table knows its number: to write it again doubles nothing
                else:
                    lost += batch.size.rows
        return problems, lost

    def _take(self) -> list[Entry]:
        """What waits for tables for which nothing is tried again."""
        with self._guard:
            entries, self._queue = self._queue, []
        held = {(batch.kind, batch.group) for batch in self._unwritten}
        if not held:
            return entries
        with self._guard:
            self._queue[:0] = [entry for entry in entries if place_of(entry) in held]
        return [entry for entry in entries if place_of(entry) not in held]

    def _see_whether_it_is_well_again(self) -> None:
        """Forget what was wrong with a folder that can be written to by now, though nothing waits to be."""
        if self._is_hindered and isinstance(self._place, Path):
            with suppress(OSError):
                self._open()
                with tempfile.TemporaryFile(dir=self._place) as probe:
                    probe.write(bytes(_PROBE_BYTES))
                    os.fsync(probe.fileno())
                self.problem, self._is_hindered = None, False

    def _write(self, batch: LogBatch) -> None:
        if not len(batch.table):
            return
        self._open()
        self._unmerged += 1
        if self._tables:
            self._tables.append(batch.kind, batch.group, batch.table, (self._writer, batch.number))
        elif isinstance(self._place, Path):
            segment = Segment(self._writer, batch.group, batch.number, batch.number, *batch.times)
            merge.write(self._place / batch.kind, segment, batch.table)

    def _open(self) -> None:
        """The folder, kept out of git, and the lock that keeps others from merging what is still written."""
        if isinstance(self._place, S3Folder):
            if not self._is_open:
                object_store.check(self._place)
        elif self._held is None or not Path(self._held.lock_file).exists():
            self._place.mkdir(parents=True, exist_ok=True)
            ignore = self._place.parent / ".gitignore"
            if not ignore.exists():
                ignore.write_text("*\n", encoding="utf-8")
            self._held = merge.lock_of(self._place, self._writer)
            self._held.acquire(timeout=0)
        self._is_open = True

    def _tidy(self, *, ending: bool) -> None:
        """Merge what is to be merged: at the first flush and with each hour what others left, too."""
        if not self._is_open or (ending and self._unwritten):
            return
        hour = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
        has_turned, self._hour = hour != self._hour, hour
        is_due = ending or has_turned or self._unmerged >= segments.MANY
        if is_due:
            self._unmerged = 0
        try:
            if isinstance(self._place, Path):
                self._tidy_files(self._place, hour, is_due=is_due, has_turned=has_turned, ending=ending)
        finally:
            if is_due and (self._tables or (has_turned and delta.is_used(self._place))):
                (self._tables or delta.Tables(self._place)).tidy(self._keep, thoroughly=has_turned or ending)

    def _tidy_files(self, folder: Path, hour: datetime, *, is_due: bool, has_turned: bool, ending: bool) -> None:
        if has_turned and self._keep is not None:
            merge.forget(folder, datetime.now(UTC) - self._keep)  # first: it gives the space that all else takes
        if is_due:
            merge.merge_writer(folder, self._writer, before=None if ending else hour)
        if has_turned:
            merge.adopt(folder, self._writer)
        if ending:
            Path(self._held.lock_file).unlink(missing_ok=True)
            self._held.release()


def _total(batches: Iterable[LogBatch]) -> Size:
    return reduce(Size.plus, (batch.size for batch in batches), Size())
