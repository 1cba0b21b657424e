"""`unique` in two steps: the values of each range are written down, then those that come twice are looked for.

In between they lie in buckets, by a hash of the value, and one bucket is held at a time.
"""

import tempfile
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path

import polars as pl

from stages.common.datasets import Dataset
from stages.common.errors import StageError
from stages.data.raw_file import by_name
from stages.parts.ranges import Range
from stages.parts.row_hash import row_hash
from stages.parts.workers import Workers
from stages.validation.validate import validate

_BUCKETS = 256
_GROUP = 8192  # rows: a bucket of a range of a million is half of it
_MOST = 5_000_000  # values that come twice, which every worker has to know


def unique_columns(dataset: Dataset) -> list[str]:
    """The columns of the schema that have to be unique."""
    return [name for name, column in dataset.schema_.columns.items() if column.unique]


def find_repeated(workers: Workers, key: str, dataset: Dataset, ranges: Iterable[Range], folder: Path) -> None:
    """Write the values of unique columns that come twice in the ranges to `folder`, to be read by `repeated_in`.

    Raises:
        StageError: on a bad part, a schema that does not go with it, or too many such values.
    """
    columns = unique_columns(dataset)
    names = {name: str(number) for number, name in enumerate(columns)}
    for number in names.values():
        (folder / number).mkdir(parents=True)
    for _ in workers.map(partial(_write_values, f"datasets.{key}", dataset, names, folder), ranges):
        pass
    for name, number in names.items():
        if not any((folder / number).iterdir()):  # the raw files have no such column, and need not
            pl.DataFrame({"value": []}).write_parquet(folder / f"{number}.parquet")
            continue
        values = pl.scan_parquet(folder / number, glob=False)
        found = [
            values.filter(pl.col("bucket") == bucket)
            .group_by("value")
            .len()
            .filter(pl.col("len") > 1)
            .select("value")
            .collect(engine="streaming")
            for bucket in range(_BUCKETS)
        ]
        twice = pl.concat(found)
        if twice.height > _MOST:
            raise StageError(
                f"datasets.{key}.schema.columns.{name}: unique: {twice.height} values come more than once, more than "
                f"the {_MOST} that can be told row by row; correct the parts, or leave unique out"
            )
        twice.write_parquet(folder / f"{number}.parquet")


def repeated_in(dataset: Dataset, folder: Path) -> Mapping[str, pl.Series]:
    """By column, what `find_repeated` has found."""
    return {
        name: pl.read_parquet(folder / f"{number}.parquet", glob=False)["value"]
        for number, name in enumerate(unique_columns(dataset))
    }


def _write_values(place: str, dataset: Dataset, names: Mapping[str, str], folder: Path, one: Range) -> None:
    try:
        with tempfile.TemporaryDirectory(dir=folder, prefix=".") as attempt, one.opened(Path(attempt)) as raw:
            typed = validate(dataset, place, raw, as_text=raw.is_text).typed
            for name, number in names.items():
                if name not in typed.collect_schema():
                    continue
                values = typed.select(by_name(name).alias("value")).drop_nulls().collect(engine="streaming")
                bucket = pl.Series("bucket", row_hash(values) % _BUCKETS).cast(pl.UInt16)
                rows = values.with_columns(bucket).sort("bucket")
                rows.write_parquet(Path(attempt, number), row_group_size=_GROUP)
                Path(attempt, number).replace(folder / number / one.name)
    except pl.exceptions.PolarsError as error:
        raise one.explained(StageError(f"{one.raw.path} is not readable: {' '.join(str(error).split())}")) from error
    except StageError as error:
        raise one.explained(error) from error
