"""A random sample of rows that are read table by table: never are all of them in memory at once."""

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyarrow as pa

_SEED = 0  # the same rows are drawn each time


def draw(tables: Iterable["pa.Table"], rows: int, most: int) -> Iterator["pa.Table"]:
    """The rows drawn of each table: `most` of the `rows` of all tables, without replacement; all if they are fewer."""
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
