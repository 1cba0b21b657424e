"""Rows of Arrow as a version takes them, by the rules of a request's body; most columns make no Python objects."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from dovetail.serving.protocol.parquet_body import check_type, plain_values
from dovetail.serving.protocol.signature import Column, Signature

if TYPE_CHECKING:
    import pyarrow as pa

_NUMBERS = ("double", "float")
_WHOLE = {"long": "int64", "integer": "int32"}


def check_schema(schema: "pa.Schema", signature: Signature) -> None:
    """Refuse what lacks a column that the model takes, or has it in a type that cannot hold it.

    Raises:
        Refused: naming the columns that are missing, or the one of another type.
    """
    signature.check_names(schema.names)
    for column in signature.columns or ():
        if column.name in schema.names:
            check_type(column.name, schema.field(column.name).type, column)


def model_columns(batch: "pa.RecordBatch", signature: Signature, first: int) -> Mapping[str, Any]:
    """The columns that the model takes, as arrays or lists; `first` is the number of the first row.

    Raises:
        Refused: naming the column and the row of a value that it does not take.
    """
    if signature.columns is None:
        return {name: plain_values(batch.column(name)) for name in batch.schema.names}
    there = set(batch.schema.names)
    return {
        column.name: _values(batch.column(column.name), column, first)
        for column in signature.columns
        if column.name in there
    }


def _values(values: "pa.Array", column: Column, first: int) -> Any:
    import pyarrow as pa

    kind = values.type
    is_whole = pa.types.is_integer(kind)
    if column.type in _NUMBERS and (is_whole or pa.types.is_floating(kind)):
        # In one step, missing ones as NaN; what a list of Python's numbers becomes as well.
        return values.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
    if column.type in _WHOLE and is_whole and values.null_count == 0:
        try:
            return values.cast(_WHOLE[column.type]).to_numpy()
        except pa.ArrowInvalid:  # a number that it does not hold; the check below says which
            pass
    return column.check(plain_values(values), first)
