"""Locks between processes on this machine, and long work that lets others have their turn."""

import os
import shlex
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from socket import gethostname
from time import monotonic, sleep
from typing import TypeVar

from filelock import FileLock, Timeout

from dovetail.errors import Busy
from dovetail.system.disk import refused

REPRO, RETRAIN = "repro", "dovetail-retrain"  # the locks of what runs stages, beside that of the store
_LOCK_SECONDS = 300
_TURN, _PAUSE = 5.0, 0.2  # seconds; who waits for the lock looks every twentieth of one

Item = TypeVar("Item")


@contextmanager
def write_lock(root: Path) -> Iterator[None]:
    """Hold the lock of whoever writes to the store of the repository at `root`: one at a time on this machine.

    Raises:
        Busy: when another process does not let go of it within five minutes.
    """
    with exclusive(root, "dovetail", _LOCK_SECONDS):
        yield


@contextmanager
def exclusive(root: Path, name: str, seconds: float, waiting: Callable[[str], None] | None = None) -> Iterator[None]:
    """Hold the lock `name` of the repository at `root`; a killed one's is released by the operating system.

    Where it is not free at once, `waiting` is told which process has it and since when.

    Raises:
        Busy: when another process does not let go of it within `seconds`.
        UserError, OutsideError: when there can be no such file.
    """
    path = root / ".dvc" / "tmp" / f"{name}.lock"
    lock, holder = FileLock(path), path.with_suffix(".holder")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if waiting:
            try:
                lock.acquire(timeout=0)
            except Timeout:
                waiting(holder.read_text(encoding="utf-8") if holder.is_file() else "another process")
        if not lock.is_locked:
            lock.acquire(timeout=seconds)
        if waiting:
            now = datetime.now().astimezone()
            holder.write_text(f"process {os.getpid()} on {gethostname()}, since {now:%H:%M:%S}", encoding="utf-8")
    except Timeout as error:
        since = f"has held {path} for {seconds} s" if seconds else f"holds {path}"
        raise Busy(f"another dovetail {since}", "run the same command again later") from error
    except OSError as error:
        raise refused(error, error.filename or str(path), f"ls -ld {shlex.quote(str(path.parent))}") from error
    try:
        yield
    finally:
        if waiting:
            holder.unlink(missing_ok=True)
        lock.release()


def take_turns(root: Path, items: Iterable[Item]) -> Iterator[Iterator[Item]]:
    """`items` in portions, each to be worked off under the lock of the repository at `root`.

    Raises:
        Busy: when another process holds the lock for five minutes.
    """
    left = deque(items)
    while left:
        with write_lock(root):
            yield _until(monotonic() + _TURN, left)
        if left:
            sleep(_PAUSE)


def _until(end: float, left: deque[Item]) -> Iterator[Item]:
    while left:
        yield left.popleft()
        if monotonic() > end:
            return
