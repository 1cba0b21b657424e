"""The Parquet files of a folder as one table; what `key=value` in their paths says is a column, as for the cleaning."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from urllib.parse import unquote

import pyarrow as pa

from dovetail.values.tables import Table, open_table


def is_partitioned(names: Sequence[str]) -> bool:
    """Whether the files of a folder, by their paths in it, are Parquet and nothing else."""
    return bool(names) and all(PurePosixPath(name).suffix == ".parquet" for name in names)


def partition(name: str) -> dict[str, str]:
    """The columns that the folders of a path state: `year=2026/a.parquet` has a `year`."""
    pairs = (part.partition("=") for part in PurePosixPath(name).parts[:-1] if "=" in part)
    return {key: unquote(value) for key, _, value in pairs}


def open_folder(files: Mapping[str, Path], shown: str) -> Table:
    """The rows of all `files`, which stand by their paths in the folder `shown`, in the order of these.

    Raises:
        ValueError: when two have not the same columns.
        MissingFile: when one is no Parquet.
    """
    inner = {name: open_table(files[name], f"{shown}/{name}") for name in sorted(files)}
    (first, table), *others = inner.items()
    keys = list(partition(first))
    for name, other in others:
        if other.fields != table.fields or list(partition(name)) != keys:
            raise ValueError(f"{shown}: {name} has other columns than {first}, rows are not compared")
    stated = [key for key in keys if key not in table.fields]

    def batches(columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        stored = [name for name in columns if name in table.fields] or list(table.fields)[:1]
        for name, one in inner.items():
            values = partition(name)
            for piece in one.batches(stored):
                yield pa.record_batch(
                    {
                        column: pa.array([values[column]] * piece.num_rows, pa.string())
                        if column in stated
                        else piece.column(column)
                        for column in columns
                    }
                )

    return Table(
        columns=table.columns | dict.fromkeys(stated, "string"),
        fields=table.fields | dict.fromkeys(stated, pa.string()),
        measures=table.measures,
        batches=batches,
    )
