"""Rows drawn from data of any size: the same each time, each as likely, without all of them at once."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from stages.modelling.shuffled import shuffled

_PART = 40  # bits below a part's number, for a row's number in it


def draw(counts: Sequence[int], rows: int) -> list[Any]:
    """By part, the numbers of the rows that are drawn, in their order; all where there are no more than asked for.

    A row's place is hashed, and the lowest hashes are drawn. A row's values would not do: of equal rows all or none
    would be drawn.

    Args:
        counts: of rows, by part.
        rows: how many are drawn.
    """
    if sum(counts) <= rows:
        return [np.arange(count) for count in counts]
    lowest = np.empty(0, np.uint64)
    for part, count in enumerate(counts):
        lowest = np.concatenate([lowest, _hashes(part, count)])
        if len(lowest) > rows:
            lowest = np.partition(lowest, rows - 1)[:rows]
    highest = lowest.max()
    return [np.flatnonzero(_hashes(part, count) <= highest) for part, count in enumerate(counts)]


def _hashes(part: int, count: int) -> Any:
    return shuffled(np.arange(count, dtype=np.uint64) + np.uint64(part << _PART), 0)
