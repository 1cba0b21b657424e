"""A random sample of rows that come table by table, so that they are never in memory all at once."""

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyarrow as pa

_SEED = 0  # the same rows are drawn each time


def draw(tables: Iterable["pa.Table"], rows: int, most: int) -> Iterator["pa.Table"]:
    """Of each table what was drawn of it: `most` of the `rows` of all, without replacement; all if they are fewer."""
    import numpy as np
    import pyarrow as pa

    if rows <= most:
        yield from tables
        return
    chosen = np.sort(np.random.default_rng(_SEED).choice(rows, most, replace=False, shuffle=False))
    offset = 0
    for table in tables:
        first, last = np.searchsorted(chosen, [offset, offset + len(table)])
        yield table.take(pa.array(chosen[first:last] - offset))
        offset += len(table)
