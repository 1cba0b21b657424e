"""The columns of JSON lines, in one file or several parts: those of all rows.

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
from stages.data.raw_file import JSONL, SAMPLE, Raw, escaped, malformed


def with_columns(parts: list[Raw], named: AbstractSet[str]) -> list[Raw]:
    """The parts, those of JSON lines with the columns of all of them.

    Types are those of the first rows. Where these lack a column that the schema names or a later row has, or have no
    value of one, all rows say them.

    Raises:
        StageError: a part is no JSON lines.
    """
    if parts[0].kind != JSONL:
        return parts
    try:
        lines = _lines(parts)
        columns = _columns(BytesIO(b"".join(islice(lines, SAMPLE))), SAMPLE)
        if next(lines, None) is not None:
            every = reduce(_united, (_columns(part.file, None) for part in parts))
            if not columns.keys() >= every.keys() | named or any(
                _is_late(columns[name], every[name]) for name in columns
            ):
                columns = every
    except (pl.exceptions.PolarsError, OSError) as error:
        for part in parts:
            check(part)
        raise malformed(parts[0].path, JSONL, error) from error
    return [replace(part, columns=dict(columns)) for part in parts]


def _is_late(first: pl.DataType, every: pl.DataType) -> bool:
    """Whether rows beyond the first ones have a value where these have none, or more keys in an object."""
    return first != every and (first == pl.Null or first.is_nested())


def _columns(source: BytesIO | Path, rows: int | None) -> pl.Schema:
    place = escaped(source) if isinstance(source, Path) else source
    return pl.scan_ndjson(place, infer_schema_length=rows).collect_schema()


def _lines(parts: list[Raw]) -> Iterator[bytes]:
    for part in parts:
        with part.file.open("rb") as file:
            yield from (line if line.endswith(b"\n") else line + b"\n" for line in file if not line.isspace())


def _united(one: pl.Schema, other: pl.Schema) -> pl.Schema:
    """The columns of both, in the order in which Polars has them of rows of both: first those of the longer one."""
    first, second = (one, other) if len(one) > len(other) else (other, one)
    frames = [pl.DataFrame(schema=schema) for schema in (first, second)]
    return pl.concat(frames, how="diagonal_relaxed").schema
