"""A worker's processes that hold a model: one for each run and thread, until the run ends or asks for them no more."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from time import monotonic

from dovetail.serving.batch.scorers import Scorers

_IDLE_SECONDS = 60  # of a run that was killed and cannot say that it is over


@dataclass(slots=True)
class _Kept:
    """Scorers, and since when nobody uses them; None while somebody does."""

    scorers: Scorers
    idle_since: float | None = None


class KeptScorers:
    """The scorers of all runs that this worker works for."""

    def __init__(self, idle_seconds: float = _IDLE_SECONDS) -> None:
        """End those that were not asked for so long."""
        self._idle_seconds = idle_seconds
        self._kept: dict[tuple[str, int], _Kept] = {}
        self._guard = threading.Lock()
        self._watch: threading.Timer | None = None

    @contextmanager
    def borrowed(self, run: str, start: Callable[[], Scorers]) -> Iterator[Callable[[], Scorers]]:
        """What gives this thread's scorers for the run, started where there are none; at the end they are idle."""
        key = (run, threading.get_ident())

        def scorers() -> Scorers:
            with self._guard:
                if kept := self._kept.get(key):
                    kept.idle_since = None
                    return kept.scorers
            started = start()
            with self._guard:
                self._kept[key] = _Kept(started)
            return started

        try:
            yield scorers
        finally:
            with self._guard:
                if kept := self._kept.get(key):
                    kept.idle_since = monotonic()
                    self._watch_idle()

    def end(self, run: str) -> None:
        """End those of the run."""
        self._end(lambda key, _: key[0] == run)

    def _end(self, is_over: Callable[[tuple[str, int], _Kept], bool]) -> None:
        with self._guard:
            ended = [key for key, kept in self._kept.items() if is_over(key, kept)]
            closed = [self._kept.pop(key) for key in ended]
        for kept in closed:
            kept.scorers.close()

    def _watch_idle(self) -> None:
        """Look after the idle ones when they may have been so for long; with the guard held."""
        if self._watch is None:
            self._watch = threading.Timer(self._idle_seconds / 4, self._end_idle)
            self._watch.daemon = True
            self._watch.start()

    def _end_idle(self) -> None:
        before = monotonic() - self._idle_seconds
        self._end(lambda _, kept: kept.idle_since is not None and kept.idle_since <= before)
        with self._guard:
            self._watch = None
            if self._kept:
                self._watch_idle()
