"""The columns of JSON lines that lie in several parts: those that one file of all their rows would have.

A key may be missing in any row, so that no range of rows says for itself which columns there are.
"""

from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from dataclasses import replace
from functools import reduce
from io import BytesIO
from itertools import islice
from pathlib import Path

import polars as pl

from stages.data.raw_check import check
from stages.data.raw_file import JSONL, SAMPLE, Raw, malformed


def with_columns(parts: list[Raw], named: AbstractSet[str]) -> list[Raw]:
    """The parts, those of JSON lines with the columns of all of them.

    Where the first rows lack a column that the schema names, all rows are looked at, as for a single file.

    Raises:
        StageError: a part is no JSON lines.
    """
    if parts[0].kind != JSONL:
        return parts
    try:
        columns = _columns(BytesIO(b"".join(islice(_lines(parts), SAMPLE))), SAMPLE)
        if not columns.keys() >= named:
            columns = reduce(_united, (_columns(part.file, None) for part in parts))
    except (pl.exceptions.PolarsError, OSError) as error:
        for part in parts:
            check(part)
        raise malformed(parts[0].path, JSONL, error) from error
    return [replace(part, columns=dict(columns)) for part in parts]


def _columns(source: BytesIO | Path, rows: int | None) -> pl.Schema:
    return pl.scan_ndjson(source, infer_schema_length=rows).collect_schema()


def _lines(parts: list[Raw]) -> Iterator[bytes]:
    for part in parts:
        with part.file.open("rb") as file:
            yield from (line if line.endswith(b"\n") else line + b"\n" for line in file if not line.isspace())


def _united(one: pl.Schema, other: pl.Schema) -> pl.Schema:
    """The columns of both, in the order in which Polars has them of rows of both: first those of the longer one."""
    first, second = (one, other) if len(one) > len(other) else (other, one)
    frames = [pl.DataFrame(schema=schema) for schema in (first, second)]
    return pl.concat(frames, how="diagonal_relaxed").schema
