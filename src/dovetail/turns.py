"""Long work on the store, a few seconds at a time, so that others who write to it get their turn."""

from collections import deque
from collections.abc import Iterable, Iterator
from pathlib import Path
from time import monotonic, sleep
from typing import TypeVar

from dovetail.register import writing

_TURN, _PAUSE = 5.0, 0.2  # seconds; who waits for the lock looks every twentieth of one

Item = TypeVar("Item")


def turns(root: Path, items: Iterable[Item]) -> Iterator[Iterator[Item]]:
    """`items` in portions, each to be worked off under the lock of the repository at `root`.

    Raises:
        Busy: when another process holds the lock for five minutes.
    """
    left = deque(items)
    while left:
        with writing(root):
            yield _until(monotonic() + _TURN, left)
        if left:
            sleep(_PAUSE)


def _until(end: float, left: deque[Item]) -> Iterator[Item]:
    while left:
        yield left.popleft()
        if monotonic() > end:
            return
