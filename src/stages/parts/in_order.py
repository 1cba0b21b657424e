"""Work handed out to others, whose answers come in order."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from concurrent.futures import Future

T = TypeVar("T")
R = TypeVar("R")


def in_order(
    submit: Callable[[Callable[[T], R], T], "Future[R]"], work: Callable[[T], R], tasks: Iterable[T], at_once: int
) -> Iterator[R]:
    """The results of tasks in their order, with so many under way."""
    under_way: deque[Future[R]] = deque()
    try:
        for task in tasks:
            under_way.append(submit(work, task))
            if len(under_way) >= at_once:
                yield under_way.popleft().result()
        while under_way:
            yield under_way.popleft().result()
    finally:
        for future in under_way:
            future.cancel()
