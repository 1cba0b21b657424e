"""A body of Parquet, read in pieces: what a file of a few bytes would unpack to is counted before it does."""

from datetime import datetime
from io import BytesIO
from typing import Any

from dovetail.serving.protocol.body_limits import check_names, check_rows, check_text, check_values
from dovetail.serving.protocol.refused import Refused
from dovetail.serving.protocol.signature import Column, Signature

_PIECE = 1 << 20  # bytes that are unpacked at a time
_PIECE_ROWS = 4_096


def read_parquet(body: bytes, signature: Signature, most_rows: int) -> dict[str, list[Any]]:
    """The columns that the model takes.

    Raises:
        Refused: when it is not Parquet, has a column of another type, or unpacks to too much.
    """
    import pyarrow as pa

    try:
        return _read(body, signature, most_rows)
    except (MemoryError, pa.ArrowMemoryError):
        raise
    except (pa.ArrowException, OSError, ValueError, KeyError, TypeError, OverflowError) as error:
        said = " ".join(str(error).split())
        raise Refused(400, f"the body is not Parquet: {said[:120]}", expected="a Parquet file") from None


def _read(body: bytes, signature: Signature, most_rows: int) -> dict[str, list[Any]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    file = pq.ParquetFile(BytesIO(body))
    check_rows(file.metadata.num_rows, most_rows)
    schema = file.schema_arrow
    check_names(schema.names, signature.names)
    wanted = {column.name: column for column in signature.columns or ()}
    names = [name for name in dict.fromkeys(schema.names) if signature.columns is None or name in wanted]
    check_values(file.metadata.num_rows * len(names))
    for name in names:
        check_type(name, schema.field(name).type, wanted.get(name))
    declared = _declared_bytes(file, set(names))
    check_text(declared)
    most = max(1, min(_PIECE_ROWS, file.metadata.num_rows * _PIECE // max(declared, 1)))
    # Text that repeats stays packed until its length is known.
    texts = [name for name in names if _is_text(schema.field(name).type) and _is_packable(schema.field(name).type)]
    columns: dict[str, list[Any]] = {name: [] for name in names}
    size = 0
    packed = pq.ParquetFile(BytesIO(body), read_dictionary=texts, pre_buffer=False)
    for piece in packed.iter_batches(batch_size=most, columns=names, use_threads=False):
        for name in names:
            values = piece.column(name)
            if pa.types.is_string_view(values.type):
                values = values.cast(pa.large_string())
            if _is_text(values.type):
                size += _text_bytes(values)
                check_text(size)
            columns[name] += plain_values(values)
    return columns


def _declared_bytes(file: Any, names: set[str]) -> int:
    """Bytes that the file says its columns unpack to; a lie costs the process that reads it, nothing else."""
    groups = (file.metadata.row_group(number) for number in range(file.metadata.num_row_groups))
    columns = (group.column(place) for group in groups for place in range(group.num_columns))
    return sum(column.total_uncompressed_size for column in columns if column.path_in_schema in names)


def check_type(name: str, found: Any, column: Column | None) -> None:
    """Refuse a column that cannot hold what the model takes: nested values, text for numbers.

    Raises:
        Refused: when it cannot.
    """
    from pyarrow import types

    inner = found.value_type if types.is_dictionary(found) else found
    is_text = _is_text(found)
    is_number = types.is_integer(inner) or types.is_floating(inner) or types.is_decimal(inner)
    is_time = types.is_timestamp(inner) or types.is_date(inner)
    is_plain = is_text or is_number or is_time or types.is_boolean(inner) or types.is_null(inner)
    if column is None:
        fits = is_plain
    else:
        by_type = {"string": is_text, "boolean": types.is_boolean(inner), "datetime": is_time or is_text}
        fits = by_type.get(column.type, is_number or (column.boolean and types.is_boolean(inner)))
        fits = fits or types.is_null(inner)
    if not fits:
        expected = column.expected if column else "plain values"
        raise Refused(
            422,
            f"column {name[:80]!r}, row 0: expected {expected}, got {str(found)[:80]}",
            field=name[:80],
            expected=expected,
            got=str(found)[:80],
        )


def _text_bytes(values: Any) -> int:
    """Bytes of text that a column holds, without unpacking it."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if not isinstance(values, pa.DictionaryArray):
        return int(pc.sum(pc.binary_length(values).cast("int64")).as_py() or 0)
    lengths = pc.take(pc.binary_length(values.dictionary), values.indices)
    return int(pc.sum(lengths.cast("int64")).as_py() or 0)


def plain_values(values: Any) -> list[Any]:
    """Python values, None where one is missing; a text that repeats is one object."""
    import pyarrow as pa

    if isinstance(values, pa.DictionaryArray):
        known = plain_values(values.dictionary)
        return [None if place is None else known[place] for place in values.indices.to_pylist()]
    if pa.types.is_date(values.type):
        return [None if day is None else datetime(day.year, day.month, day.day) for day in values.to_pylist()]  # noqa: DTZ001  (MLflow's have no zone)
    if pa.types.is_timestamp(values.type):
        values = values.cast(pa.timestamp("us", values.type.tz), safe=False)
    elif pa.types.is_decimal(values.type) or pa.types.is_float16(values.type):
        values = values.cast(pa.float64())
    return list(values.to_pylist())


def _is_text(found: Any) -> bool:
    from pyarrow import types

    if types.is_dictionary(found):
        return _is_text(found.value_type)
    return bool(types.is_string(found) or types.is_large_string(found) or types.is_string_view(found))


def _is_packable(found: Any) -> bool:
    from pyarrow import types

    return bool(types.is_string(found) or types.is_large_string(found))
