"""A digest of what a table says: columns with their types, and rows in their order; not how they are written."""

import hashlib
import struct
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from dovetail.values.table_names import is_table
from dovetail.values.tables import Table, open_table

_BYTES = 16


def table_digest(file: Path, name: str) -> str | None:
    """The digest of the rows in `file`, which is called `name` where it belongs; None where that is no table.

    Compression, row groups, dictionaries and the program that wrote it do not count. Of CSV each value counts as it is
    written there.

    Raises:
        MissingFile: when it is not what its name's ending says.
    """
    return value_digest(open_table(file, name)) if is_table(name) else None


def value_digest(table: Table) -> str:
    """The digest of an opened table, as `table_digest` has it."""
    columns = [_Column() for _ in table.fields]
    rows = 0
    for batch in table.batches(list(table.fields)):
        rows += batch.num_rows
        for column, values in zip(columns, batch.columns, strict=True):
            column.add(values)
    whole = hashlib.blake2b(struct.pack("<qq", len(columns), rows), digest_size=_BYTES)
    for (named, kind), column in zip(table.fields.items(), columns, strict=True):
        for part in (named.encode(), str(kind).replace("large_", "").encode(), column.digest()):
            whole.update(struct.pack("<q", len(part)) + part)
    return whole.hexdigest()


class _Column:
    """The digest of a column that comes piece by piece, whatever the pieces are."""

    def __init__(self) -> None:
        self._present, self._lengths, self._values = (hashlib.blake2b(digest_size=_BYTES) for _ in range(3))

    def digest(self) -> bytes:
        """Of which values are there, how long those are that have a length, and of the values."""
        return self._present.digest() + self._lengths.digest() + self._values.digest()

    def add(self, values: Any) -> None:
        """Take the next piece, an Arrow array."""
        if pa.types.is_dictionary(values.type):
            values = values.dictionary_decode()
        self._present.update(pc.is_valid(values).cast(pa.uint8()).to_numpy(zero_copy_only=False))
        kind = values.type
        if _is_text(kind):
            filled = pc.fill_null(values.cast(pa.large_binary()), b"")
            self._lengths.update(pc.binary_length(filled).to_numpy(zero_copy_only=False))
            self._values.update(b"".join(filled.to_pylist()))
        elif _is_plain(kind):
            bits = values.cast(pa.uint8()) if pa.types.is_boolean(kind) else values.view(_bits(kind))
            self._values.update(pc.fill_null(bits, 0).to_numpy(zero_copy_only=False))
        else:  # lists, structures, decimals: as Python shows them
            shown = [repr(value).encode() for value in values.to_pylist()]
            self._lengths.update(struct.pack(f"<{len(shown)}q", *map(len, shown)))
            self._values.update(b"".join(shown))


def _is_text(kind: pa.DataType) -> bool:
    text = (pa.types.is_string, pa.types.is_binary, pa.types.is_large_string, pa.types.is_large_binary)
    return any(is_one(kind) for is_one in text)


def _is_plain(kind: pa.DataType) -> bool:
    plain = (pa.types.is_integer, pa.types.is_floating, pa.types.is_boolean, pa.types.is_temporal)
    return any(is_one(kind) for is_one in plain) and not pa.types.is_interval(kind)


def _bits(kind: pa.DataType) -> pa.DataType:
    """Whole numbers of the same width: the same bits are the same value, one of no number too."""
    return {8: pa.int8(), 16: pa.int16(), 32: pa.int32(), 64: pa.int64()}[kind.bit_width]
