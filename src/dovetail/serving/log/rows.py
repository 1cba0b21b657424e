"""Answered requests and their labels as tables, and tables of different columns as one."""

import json
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any

from dovetail.serving.log.segments import moment
from dovetail.serving.protocol.answers import plain

if TYPE_CHECKING:
    import pyarrow as pa

INPUT = "input."  # before the name of an input column
PREDICTION = "prediction"
_LEAST_BYTES = 8  # that a value takes in memory, however small its text or its Parquet is
_AT_ONCE = 200  # requests that are parsed before other threads get their turn
_BREATH_SECONDS = 0.001


@dataclass(frozen=True, slots=True)
class Served:
    """One answered request: `columns` are its inputs, lists of one length; `answer` the JSON list that was sent."""

    request_id: str
    time: float
    version: int
    method: str
    columns: Mapping[str, list[Any]]
    answer: bytes
    body_bytes: int = 0

    @property
    def rows(self) -> int:
        """How many rows it asked for; one where the columns do not say."""
        return len(next(iter(self.columns.values()), " "))

    @property
    def bytes(self) -> int:
        """How much waits with it, about: what came and what was sent."""
        return max(self.body_bytes, _LEAST_BYTES * self.rows * len(self.columns)) + len(self.answer)


@dataclass(frozen=True, slots=True)
class Labelled:
    """What was true for the rows of a request; None where it is not known."""

    request_id: str
    labels: Sequence[Any]
    time: float
    body_bytes: int = 0

    @property
    def rows(self) -> int:
        """For how many rows it came."""
        return len(self.labels)

    @property
    def bytes(self) -> int:
        """How much waits with it, about."""
        return max(self.body_bytes, _LEAST_BYTES * len(self.labels))


def predictions(entries: Sequence[Served], leave_out: frozenset[str]) -> tuple["pa.Table", int]:
    """All that was answered, and how many rows no table could be made of; other threads get their turn meanwhile."""
    tables, lost = [], 0
    for start in range(0, len(entries), _AT_ONCE):
        for alike in _alike(entries[start : start + _AT_ONCE]):
            made, failed = _tables(alike, leave_out)
            tables += made
            lost += failed
        time.sleep(_BREATH_SECONDS)
    return union(tables), lost


def feedback(entries: Iterable[Labelled]) -> "pa.Table":
    """One row for each label that is known."""
    import pyarrow as pa

    known = [
        (entry.request_id, row, moment(entry.time), label)
        for entry in entries
        for row, label in enumerate(entry.labels)
        if label is not None
    ]
    request_ids, rows, times, labels = zip(*known, strict=True) if known else ((), (), (), ())
    return pa.table(
        {
            "request_id": pa.array(request_ids, pa.string()),
            "row": pa.array(rows, pa.int32()),
            "time": pa.array(times, pa.timestamp("us", "UTC")),
            "label": array(labels),
        }
    )


def union(tables: Sequence["pa.Table"]) -> "pa.Table":
    """One table under all their columns: numbers widen, what has no common type becomes text."""
    import pyarrow as pa

    schema = common_schema([table.schema for table in tables])
    return pa.concat_tables([conform(table, schema) for table in tables]) if tables else schema.empty_table()


def common_schema(schemas: Sequence["pa.Schema"]) -> "pa.Schema":
    """The columns of all of them, each of the narrowest type that holds it."""
    import pyarrow as pa

    types: dict[str, Any] = {}
    for schema in schemas:
        for field in schema:
            kind = _unnamed(field)
            types[field.name] = _common(types.get(field.name, kind), kind)
    return pa.schema(list(types.items()))


def conform(table: "pa.Table", schema: "pa.Schema") -> "pa.Table":
    """The table under the schema's columns; those that it does not have are null."""
    import pyarrow as pa

    return pa.table(
        [
            _cast(_without_name(table, field), field.type)
            if field.name in table.column_names
            else pa.nulls(len(table), field.type)
            for field in schema
        ],
        schema=schema,
    )


def array(values: Any) -> "pa.Array":
    """Values of any kind as one Arrow array; as text where they have no common type."""
    import pyarrow as pa

    try:
        return pa.array(values)
    except (pa.ArrowException, OverflowError, TypeError, ValueError):
        return pa.array([None if value is None else str(value) for value in values], pa.string())


def _unnamed(field: "pa.Field") -> Any:
    """The type of a column; of predictions that were logged as `{"0": 1.5}`, as once they were, that of 1.5."""
    import pyarrow as pa

    is_named = field.name == PREDICTION and pa.types.is_struct(field.type) and field.type.num_fields == 1
    return field.type.field(0).type if is_named else field.type


def _without_name(table: "pa.Table", wanted: "pa.Field") -> Any:
    import pyarrow.compute as pc

    field = table.schema.field(wanted.name)
    is_plain = field.type == wanted.type or _unnamed(field) == field.type
    return table[wanted.name] if is_plain else pc.struct_field(table[wanted.name], [0])


def _common(one: Any, other: Any) -> Any:
    import pyarrow as pa

    if one == other:
        return one
    try:
        found = pa.unify_schemas([pa.schema([("x", one)]), pa.schema([("x", other)])], promote_options="permissive")
    except pa.ArrowException:
        return pa.string()
    return found.field("x").type


def _cast(column: Any, kind: Any) -> Any:
    import pyarrow as pa

    if column.type == kind:
        return column
    try:
        return column.cast(kind)
    except pa.ArrowException:
        texts = [None if value is None else str(value) for value in column.to_pylist()]
        return pa.chunked_array([pa.array(texts, pa.string())])


def _alike(entries: Sequence[Served]) -> Iterator[list[Served]]:
    """Neighbours that were asked the same question of the same columns."""
    return (list(group) for _, group in groupby(entries, key=lambda entry: (entry.method, tuple(entry.columns))))


def _tables(alike: list[Served], leave_out: frozenset[str]) -> tuple[list["pa.Table"], int]:
    """One table of requests that are alike; where that fails, one by one, and the rows of those that fail are lost."""
    try:
        return [_table(alike, leave_out)], 0
    except Exception:  # noqa: BLE001  (whatever one of them holds must cost nobody else's rows)
        if len(alike) == 1:
            return [], alike[0].rows
    parts = [_tables([entry], leave_out) for entry in alike]
    return [table for tables, _ in parts for table in tables], sum(lost for _, lost in parts)


def _table(alike: list[Served], leave_out: frozenset[str]) -> "pa.Table":
    import numpy as np
    import pyarrow as pa

    answers = [json.loads(entry.answer) for entry in alike]
    sizes = [len(answer) for answer in answers]
    first = alike[0]
    given = plain([value for answer in answers for value in answer], first.method)
    is_prediction = first.method == "predict"
    times = np.array([round(entry.time * 1_000_000) for entry in alike], dtype=np.int64)
    request_ids = pa.array([entry.request_id for entry in alike])
    columns = {
        "request_id": request_ids.take(pa.array(np.repeat(np.arange(len(alike)), sizes))),
        "row": pa.array([row for size in sizes for row in range(size)], pa.int32()),
        "time": pa.array(np.repeat(times, sizes), pa.timestamp("us", "UTC")),
        "version": pa.array([first.version] * len(given), pa.int32()),
        "method": pa.array([first.method] * len(given), pa.string()),
        **{
            INPUT + name: array([value for entry in alike for value in entry.columns[name]])
            for name in first.columns
            if name not in leave_out
        },
        PREDICTION: array(given) if is_prediction else pa.nulls(len(given)),
        "probabilities": pa.nulls(len(given), pa.list_(pa.float64())) if is_prediction
        else pa.array(given, pa.list_(pa.float64())),
    }  # fmt: skip
    return pa.table(columns)
