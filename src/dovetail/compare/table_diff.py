"""How many rows were added, removed and changed from one table to another, in eight bytes a row.

Rows are compared by 64-bit hashes of their values in the columns that both tables have, in any order. That somewhere
two different rows are taken for the same has a chance of n² / 2⁶⁴: for ten million rows one in 180,000. Held in memory
are, for each side, the hashes of all rows and of the keys that are still possible; the tables themselves never are.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from dovetail.values.tables import Table

if TYPE_CHECKING:
    from numpy.typing import DTypeLike, NDArray

    Hashes = NDArray[np.uint64]

_ODD = np.uint64(0x9E3779B97F4A7C15)  # 2⁶⁴ / the golden ratio: spreads what is multiplied by it
_NULL = np.uint64(0xD1B54A32D192ED03)
_OTHER = pa.null()  # stands for "compare as text": no column of values has this type
_WIDEST_KEY = 2  # columns that together may tell rows apart


@dataclass(frozen=True, slots=True)
class RowDiff:
    """What happened to the rows.

    Attributes:
        a: how many rows there were.
        b: how many there are.
        key: the columns by which a row is found again; empty when there are none, and then a changed row is a removed
            one and an added one.
        changed: rows with the same key and another content; None without a key.
    """

    a: int
    b: int
    added: int
    removed: int
    changed: int | None
    key: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Scan:
    """One table read once: a hash for each row, and for each set of columns that tells all rows apart."""

    rows: "Hashes"
    keys: "dict[tuple[str, ...], Hashes]"


def row_diff(a: Table, b: Table) -> RowDiff | None:
    """Compare the rows of `a` and `b` by the columns that both have; None when there are none.

    A row's key is the column, else the two columns, that tell all rows apart on both sides, are no measures and have
    the most values in common.
    """
    places = {name: position for position, name in enumerate(b.columns)}
    shared = sorted((n for n in a.columns if n in places), key=lambda n: (list(a.columns).index(n) + places[n], n))
    if not shared:
        return None
    kinds = {name: _common(a.fields[name], b.fields[name]) for name in shared}
    possible = [n for n in shared if a.fields[n] == b.fields[n] and n not in a.measures | b.measures]
    for width in range(1, _WIDEST_KEY + 1):
        sets = list(combinations(possible, width))
        first, second = _scan(a, kinds, sets), _scan(b, kinds, sets)
        keyed = [_by_key(key, first, second) for key in sets if key in first.keys and key in second.keys]
        found = [diff for diff in keyed if diff.removed < len(first.rows)]
        if found:
            return min(found, key=lambda diff: diff.removed)
    return _as_multisets(first.rows, second.rows)


def _by_key(key: tuple[str, ...], a: _Scan, b: _Scan) -> RowDiff:
    _, in_a, in_b = np.intersect1d(a.keys[key], b.keys[key], assume_unique=True, return_indices=True)
    changed = int((a.rows[in_a] != b.rows[in_b]).sum())
    return _row_diff(a.rows, b.rows, len(in_a), changed, key)


def _as_multisets(a: "Hashes", b: "Hashes") -> RowDiff:
    rows_a, counts_a = np.unique(a, return_counts=True)
    rows_b, counts_b = np.unique(b, return_counts=True)
    _, in_a, in_b = np.intersect1d(rows_a, rows_b, assume_unique=True, return_indices=True)
    kept = int(np.minimum(counts_a[in_a], counts_b[in_b]).sum())
    return _row_diff(a, b, kept, None, ())


def _row_diff(a: "Hashes", b: "Hashes", kept: int, changed: int | None, key: tuple[str, ...]) -> RowDiff:
    return RowDiff(len(a), len(b), len(b) - kept, len(a) - kept, changed, key)


def _scan(table: Table, kinds: dict[str, pa.DataType], sets: Sequence[tuple[str, ...]]) -> _Scan:
    rows: list[Hashes] = []
    keys: dict[tuple[str, ...], list[Hashes]] = {key: [] for key in sets}
    for batch in table.batches(list(kinds)):
        values = {name: _hashes(batch.column(name), kind) for name, kind in kinds.items()}
        rows.append(_together(list(values.values())))
        for key in list(keys):  # most columns repeat themselves at once, and are not kept
            hashes = _together([values[name] for name in key])
            if _repeats(hashes):
                del keys[key]
            else:
                keys[key].append(hashes)
    whole = {key: _joined(pieces) for key, pieces in keys.items()}
    return _Scan(_joined(rows), {key: hashes for key, hashes in whole.items() if not _repeats(hashes)})


def _joined(pieces: "list[Hashes]") -> "Hashes":
    return np.concatenate(pieces) if pieces else np.empty(0, np.uint64)


def _repeats(hashes: "Hashes") -> bool:
    ordered = np.sort(hashes)  # NumPy's `unique` without counts builds a hash table: ten times slower here
    return bool((ordered[1:] == ordered[:-1]).any())


def _together(columns: "Sequence[Hashes]") -> "Hashes":
    """One hash for the values of several columns, in their order."""
    whole = np.zeros(len(columns[0]), np.uint64)
    for column in columns:
        whole = whole * _ODD + column  # wraps, as it should
    return whole


def _hashes(column: pa.Array, kind: pa.DataType) -> "Hashes":
    """A hash for each value, the same whatever else is in the piece, and in this process alone.

    Arrow's memory is read as it lies: whatever makes NumPy's or Python's values of Arrow's imports pandas first.
    """
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    values = _cast(column, kind)
    hashes = _hash_text(values) if _is_text(values.type) else _mixed(_numbers(values).view(np.uint64))
    return np.where(_missing(column), _NULL, hashes)


def _missing(column: pa.Array) -> "NDArray[np.bool_]":
    """Whether each value is none."""
    if pa.types.is_nested(column.type):
        return np.asarray(column.is_null())
    if pa.types.is_null(column.type) or (present := column.buffers()[0]) is None:
        return np.full(len(column), pa.types.is_null(column.type))
    bits = np.unpackbits(np.frombuffer(present, np.uint8), count=column.offset + len(column), bitorder="little")
    return np.equal(bits[column.offset :], 0)


def _stored(values: pa.Array, kind: "DTypeLike") -> "NDArray[Any]":
    """The values of one width as they lie in memory; where one is missing, anything."""
    content = values.buffers()[1]
    if content is None:
        return np.zeros(len(values), kind)
    return np.frombuffer(content, kind, values.offset + len(values))[values.offset :]


def _cast(column: pa.Array, kind: pa.DataType) -> pa.Array:
    """The column as numbers, times or text; what is none of these, as its text."""
    if _is_text(kind) or _is_number(kind) or pa.types.is_boolean(kind) or pa.types.is_temporal(kind):
        return column.cast(kind, safe=False)
    return pa.array([None if value is None else str(value) for value in column.to_pylist()], pa.string())


def _hash_text(values: pa.Array) -> "Hashes":
    encoded = values.dictionary_encode()
    if not len(encoded.dictionary):
        return np.zeros(len(values), np.uint64)
    words = np.fromiter(map(hash, encoded.dictionary.to_pylist()), np.int64, len(encoded.dictionary))
    places = np.where(_missing(encoded.indices), 0, _stored(encoded.indices, np.int32))
    hashes: Hashes = _mixed(words.view(np.uint64))[places]
    return hashes


def _mixed(bits: "Hashes") -> "Hashes":
    """The last step of SplitMix64: one bit changes half of the others. https://prng.di.unimi.it/splitmix64.c."""
    mixed = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(mixed ^ (mixed >> np.uint64(31)))


def _numbers(values: pa.Array) -> "NDArray[Any]":
    """What hashes by its bits: one zero, one NaN, integers of one width."""
    if pa.types.is_floating(values.type):
        floats = _stored(values.cast(pa.float64()), np.float64) + 0.0
        return np.where(np.isnan(floats), np.nan, floats)
    if pa.types.is_uint64(values.type):
        return _stored(values, np.uint64)
    if pa.types.is_boolean(values.type) or pa.types.is_date32(values.type) or pa.types.is_time32(values.type):
        values = values.cast(pa.int32())  # Arrow takes them to 64 bits by this step only
    return _stored(values.cast(pa.int64()), np.int64)


def _common(a: pa.DataType, b: pa.DataType) -> pa.DataType:
    """The type in which a column that was retyped can be compared."""
    if a == b:
        return a
    if _is_number(a) and _is_number(b):
        return pa.float64()
    if pa.types.is_timestamp(a) and pa.types.is_timestamp(b) and a.tz == b.tz:
        return pa.timestamp("us", a.tz)
    return _OTHER


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind))


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_binary(kind))
