"""The commits that hold a version's bytes, as many as a person reads: the newest, how many more, the first."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

_SHOWN = 3  # so many are all shown


def shortened(commits: Sequence[dict[str, Any]], line: Callable[[dict[str, Any]], str]) -> Iterator[str]:
    """A `line` for each commit, which come newest first; of many only for the newest and for the first of all."""
    if len(commits) <= _SHOWN:
        yield from map(line, commits)
        return
    yield line(commits[0])
    yield f"and {len(commits) - 2} commits between that hold the same bytes; all: --json"
    yield line(commits[-1])
