"""Parquet as the estimators see it: the same file gives the same columns and dtypes to `train` and to `evaluate`.

Numbers become float64, int64 or bool (float64 where one is missing), text and categories pandas' `str`, dates
datetime64.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow.parquet import ParquetFile

from stages.common.errors import StageError, listed
from stages.modelling.sample import draw

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

_GROUPS = b"group_sizes"  # in the metadata of a part
NUMERIC = "ifb"  # numpy's kinds that every estimator takes
_NAMES = {"f": "float64", "i": "int64", "b": "bool", "M": "datetime"}


def read_arrow(path: Path, made_by: str, columns: list[str] | None = None) -> Any:
    """Read a Parquet file, or a folder of parts, as a pyarrow.Table; `made_by` is the stage that makes it.

    Where `columns` names some, these alone are read.

    Raises:
        StageError: the file is missing or is not Parquet.
    """
    if path.is_dir():
        return pa.concat_tables(read_arrow(part, made_by, columns) for part in parts_of(path, made_by))
    with _opened(path, made_by) as file:
        return file.read(columns)


def parts_of(path: Path, made_by: str) -> list[Path]:
    """The files of a folder of parts, in their order; of a file, itself.

    Raises:
        StageError: the folder is empty.
    """
    if not path.is_dir():
        return [path]
    if parts := sorted(path.iterdir()):
        return parts
    raise StageError(f"{path} is empty; make it again: dvc repro -f {made_by}")


def schema_of(path: Path, made_by: str) -> Any:
    """The pyarrow.Schema of a Parquet file, or of a folder of parts.

    Raises:
        StageError: as `read_arrow`.
    """
    with _opened(parts_of(path, made_by)[0], made_by) as file:
        return file.schema_arrow


def rows_of(part: Path, made_by: str) -> int:
    """How many rows a Parquet file has.

    Raises:
        StageError: as `read_arrow`.
    """
    with _opened(part, made_by) as file:
        return int(file.metadata.num_rows)


@contextmanager
def _opened(path: Path, made_by: str) -> Iterator[Any]:
    try:
        with ParquetFile(path) as file:
            yield file
    except FileNotFoundError as error:
        raise StageError(f"{path} is missing; make it: dvc repro {made_by}") from error
    except (pa.ArrowException, OSError) as error:
        raise StageError(
            f"{path} is not a Parquet file ({_line(error)}); make it again: dvc repro -f {made_by}"
        ) from error


def with_groups(table: Any, groups: Any) -> Any:
    """A table sorted by its rows' groups, in the order in which they begin, with the size of each in its metadata.

    Their names are no feature.
    """
    coded = groups.combine_chunks().dictionary_encode().indices.cast(pa.int64())
    order = pc.array_sort_indices(coded)
    sizes = pc.value_counts(coded.take(order)).field("counts").to_pylist()
    return table.take(order).replace_schema_metadata({_GROUPS: json.dumps(sizes)})


def groups_of(path: Path, made_by: str, sample: int | None = None) -> "np.ndarray[Any, Any] | None":
    """The number of each row's group or time, of the rows that `read` takes; None where rows are not kept together."""
    import numpy as np

    sizes = (schema_of(path, made_by).metadata or {}).get(_GROUPS)
    if sizes is None:
        return None
    groups = np.repeat(np.arange(len(json.loads(sizes))), json.loads(sizes))
    return groups if sample is None else groups[_places(path, made_by, sample)[0]]


def read(
    path: Path, target: str, made_by: str, columns: list[str] | None = None, sample: int | None = None
) -> "tuple[pd.DataFrame, np.ndarray[Any, Any]]":
    """Read one part of the data: features (rows, columns) and target (rows; text as objects).

    Args:
        path: a file, or a folder of parts.
        target: the column to predict.
        made_by: the stage that makes it.
        columns: those that are read; default: all.
        sample: so many rows, drawn as `draw` does; default: all.

    Raises:
        StageError: no such file or target, a missing target, infinity, or a column that no estimator takes.
    """
    table = read_arrow(path, made_by, columns) if sample is None else _drawn(path, made_by, sample)
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


def _places(path: Path, made_by: str, sample: int) -> list[Any]:
    return draw([rows_of(part, made_by) for part in parts_of(path, made_by)], sample)


def _drawn(path: Path, made_by: str, sample: int) -> Any:
    parts = zip(parts_of(path, made_by), _places(path, made_by, sample), strict=True)
    return pa.concat_tables([read_arrow(part, made_by).take(pa.array(rows)) for part, rows in parts])


def _refuse_infinity(path: Path, name: str, column: "pd.Series[Any]") -> None:
    import numpy as np

    if column.dtype.kind != "f" or not (infinite := np.isinf(column.to_numpy())).any():
        return
    raise StageError(
        f"{path}: column {name!r} is infinite in {infinite.sum()} rows, first in row {infinite.argmax() + 1}; "
        "make it missing, or a finite number, in the cleaning script"
    )


def booleans(made_by: str, *paths: Path) -> set[str]:
    """The columns that hold true and false in one of the parts, also where estimators get them as 1.0, 0.0 and NaN."""
    fields = (field for path in paths for field in schema_of(path, made_by))
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
