"""Parquet as the estimators see it: the same file gives the same columns and dtypes to `train` and to `evaluate`.

Numbers become float64, int64 or bool (float64 where one is missing), text and categories pandas' `str`, dates
datetime64.
"""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow.parquet import ParquetFile, read_schema

from stages.common.errors import StageError, listed

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

_GROUPS = b"group_sizes"  # in the metadata of a part
NUMERIC = "ifb"  # numpy's kinds that every estimator takes
_NAMES = {"f": "float64", "i": "int64", "b": "bool", "M": "datetime"}


def read_arrow(path: Path, made_by: str) -> Any:
    """Read a Parquet file as a pyarrow.Table; `made_by` is the stage to run when it is missing.

    Raises:
        StageError: the file is missing or is not Parquet.
    """
    try:
        with ParquetFile(path) as file:
            return file.read()
    except FileNotFoundError as error:
        raise StageError(f"{path} is missing; make it: dvc repro {made_by}") from error
    except (pa.ArrowException, OSError) as error:
        raise StageError(
            f"{path} is not a Parquet file ({_line(error)}); make it again: dvc repro -f {made_by}"
        ) from error


def with_groups(table: Any, groups: Any) -> Any:
    """A table sorted by its rows' groups, with the size of each in its metadata: the groups' names are no feature."""
    coded = groups.combine_chunks().dictionary_encode().indices.cast(pa.int64())
    order = pc.array_sort_indices(coded)
    sizes = pc.value_counts(coded.take(order)).field("counts").to_pylist()
    return table.take(order).replace_schema_metadata({_GROUPS: json.dumps(sizes)})


def groups_of(path: Path) -> "np.ndarray[Any, Any] | None":
    """The number of each row's group; None where the rows are in no groups."""
    import numpy as np

    sizes = (read_schema(path).metadata or {}).get(_GROUPS)
    return None if sizes is None else np.repeat(np.arange(len(json.loads(sizes))), json.loads(sizes))


def read(path: Path, target: str, made_by: str) -> "tuple[pd.DataFrame, np.ndarray[Any, Any]]":
    """Read one part of the data: features (rows, columns) and target (rows; text as objects).

    Raises:
        StageError: no such file or target, a missing target, infinity, or a column that no estimator takes.
    """
    table = read_arrow(path, made_by)
    if target not in table.column_names:
        raise StageError(f"{path}: no target column {target!r}; there are: {listed(table.column_names)}")
    columns = [_plain(path, name, table.column(name)) for name in table.column_names]
    frame = pa.table(columns, names=table.column_names).to_pandas(date_as_object=False)
    labels = frame.pop(target)
    if labels.isna().any():
        raise StageError(f"{path}: {labels.isna().sum()} rows have no {target!r}; drop them in the cleaning script")
    for name in (*frame.columns, target):
        _refuse_infinity(path, name, labels if name == target else frame[name])
    return frame, labels.to_numpy()


def _refuse_infinity(path: Path, name: str, column: "pd.Series[Any]") -> None:
    import numpy as np

    if column.dtype.kind != "f" or not (infinite := np.isinf(column.to_numpy())).any():
        return
    raise StageError(
        f"{path}: column {name!r} is infinite in {infinite.sum()} rows, first in row {infinite.argmax() + 1}; "
        "make it missing, or a finite number, in the cleaning script"
    )


def booleans(*paths: Path) -> set[str]:
    """The columns that hold true and false in one of the parts, also where estimators get them as 1.0, 0.0 and NaN."""
    fields = (field for path in paths for field in read_schema(path))
    return {field.name for field in fields if pa.types.is_boolean(field.type)}


def dtype_name(dtype: Any) -> str:
    """`float64`, `int64`, `bool`, `datetime` or `str`."""
    return _NAMES.get(dtype.kind, "str")


def _plain(path: Path, name: str, column: Any) -> Any:
    """The column as float64, int64, bool, large_string or timestamp."""
    kind, types = column.type, pa.types
    if types.is_dictionary(kind):
        kind = kind.value_type
        column = column.cast(kind)
    if types.is_integer(kind) or types.is_boolean(kind):
        plain = pa.float64() if column.null_count else pa.bool_() if types.is_boolean(kind) else pa.int64()
    elif types.is_floating(kind) or types.is_decimal(kind) or types.is_null(kind):
        plain = pa.float64()
    elif types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind):
        plain = pa.large_string()
    elif types.is_date(kind) or types.is_timestamp(kind):
        plain = pa.timestamp("us")
    else:
        raise StageError(f"{path}: column {name!r} is {kind}; make it a number, text or date in the cleaning script")
    try:
        return column.cast(plain)
    except pa.ArrowInvalid as error:
        raise StageError(f"{path}: column {name!r} ({kind}) does not fit {plain}: {_line(error)}") from error


def _line(error: Exception) -> str:
    return " ".join(str(error).split())
