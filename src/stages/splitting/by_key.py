"""Rows split by a hash of their key: part by part, by any number of processes, with the same bytes.

A row goes to the test part where its number is below the share that is asked for. So no row is moved when others are
added, and the share is met as nearly as a draw would meet it.
"""

import shutil
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow.parquet import write_table

from stages.common.errors import StageError, listed
from stages.common.models import WHOLE_ROW, Model
from stages.common.outputs import replacing, scratch_folder
from stages.common.params import PARAMS_FILE
from stages.modelling.shuffled import shuffled
from stages.modelling.table import read_arrow, schema_of
from stages.parts.row_hash import row_hash
from stages.parts.workers import open_workers
from stages.splitting.checks import (
    check_columns,
    numbered,
    refuse_missing_target,
    refuse_odd_classes,
    refuse_one_class,
)

_BUCKETS = 256  # of hashes; one is looked at at a time
_SHOWN = 1000  # hashes that come twice, whose keys are looked at


@dataclass(frozen=True)
class _Job:
    """What a worker needs to know besides the part.

    Attributes:
        place: of the model in params.yaml.
        model: its block.
        made_by: the stage that makes the parts.
        key: the columns that are hashed.
        kept: those that are written.
        scratch: where attempts are made, and each part's hashes noted, in their order.
    """

    place: str
    model: Model
    made_by: str
    key: list[str]
    kept: list[str]
    scratch: Path

    @property
    def is_unique(self) -> bool:
        """Whether two rows must not have one key."""
        return self.model.split.key != WHOLE_ROW


@dataclass(frozen=True)
class _Files:
    """A part of the cleaned rows, and the two that are made of it."""

    clean: Path
    train: Path
    test: Path


@dataclass(frozen=True)
class _Counts:
    """How many rows there are, and what their target is.

    Attributes:
        train: rows to learn from.
        test: rows to test on.
        without: rows that have no target.
        classes: rows by class; none where the target is a number.
    """

    train: int = 0
    test: int = 0
    without: int = 0
    classes: dict[Any, int] = field(default_factory=dict)

    def __add__(self, other: "_Counts") -> "_Counts":
        classes = dict(self.classes)
        for value, count in other.classes.items():
            classes[value] = classes.get(value, 0) + count
        return _Counts(self.train + other.train, self.test + other.test, self.without + other.without, classes)


def split_by_key(key: str, model: Model, clean: Path, train: Path, test: Path) -> None:
    """Write both parts of `clean`: files if it is one, else folders with a part for each of its parts.

    Raises:
        StageError: the data do not fit models.KEY.target or models.KEY.split, or two rows have one key.
        OutsideError: when a worker died.
    """
    made_by = f"clean@{model.data}"
    parts = sorted(clean.iterdir()) if clean.is_dir() else [clean]
    columns = schema_of(clean, made_by).names
    kept = check_columns(key, columns, model)
    with (
        replacing(train) as train_out,
        replacing(test) as test_out,
        scratch_folder(train) as scratch,
    ):
        files = [_Files(clean, train_out, test_out)]
        if clean.is_dir():
            train_out.mkdir()
            test_out.mkdir()
            files = [_Files(part, train_out / part.name, test_out / part.name) for part in parts]
        job = _Job(
            place=f"{PARAMS_FILE}: models.{key}.split",
            model=model,
            made_by=made_by,
            key=model.split.key_columns or columns,
            kept=kept,
            scratch=scratch,
        )
        counts = _Counts()
        with open_workers(__name__, scratch, len(files)) as workers:
            for one in workers.map(partial(_split_part, job), files):
                counts += one
        refuse_missing_target(clean, model, counts.without)
        refuse_odd_classes(clean, key, {value: counts.classes[value] for value in sorted(counts.classes)}, model)
        refuse_one_class(clean, list(counts.classes), model)
        if job.is_unique:
            _refuse_repeated(job, clean, parts)
        if not (counts.train and counts.test):
            empty = "test on" if counts.train else "learn from"
            raise StageError(
                f"{clean}: test_size {model.split.test_size} of {counts.train + counts.test} rows by the hash of "
                f"{listed(job.key)} leaves none to {empty}; change {job.place}.test_size, seed or key"
            )


def _split_part(job: _Job, files: _Files) -> _Counts:
    how, target = job.model.split, job.model.target
    table = read_arrow(files.clean, job.made_by, [*dict.fromkeys((*job.kept, *job.key))])
    keys = _keys(job, files.clean, table)
    hashes = row_hash(keys)
    is_test = shuffled(hashes, how.seed) < np.uint64(min(int(how.test_size * 2**64), 2**64 - 1))
    rows = table.select(job.kept).replace_schema_metadata(None)
    with tempfile.TemporaryDirectory(dir=job.scratch) as attempt:  # another may be made where this one dies
        noted, train, test = (Path(attempt, name) for name in ("hashes.npy", "train", "test"))
        np.save(noted, np.sort(hashes))
        write_table(rows.filter(pa.array(~is_test)), train)
        write_table(rows.filter(pa.array(is_test)), test)
        noted.replace(job.scratch / f"{files.clean.name}.npy")
        shutil.move(train, files.train)
        shutil.move(test, files.test)
    column = rows.column(target)
    n_test, missing = int(is_test.sum()), int(pc.sum(column.is_null(nan_is_null=True)).as_py() or 0)
    return _Counts(len(is_test) - n_test, n_test, missing, _by_class(files.clean, target, column))


def _keys(job: _Job, path: Path, table: Any) -> pl.DataFrame:
    for name in job.key:
        if pa.types.is_nested(kind := table.column(name).type) or pa.types.is_binary(kind):
            raise StageError(f"{job.place}.key: column {name!r} is {kind} in {path}; take another, or leave it out")
    keys = pl.DataFrame(pl.from_arrow(table.select(job.key)))
    if job.is_unique:
        for column in keys:
            missing = column.null_count() + (int(column.is_nan().sum()) if column.dtype.is_float() else 0)
            if missing:
                raise StageError(
                    f"{job.place}.key = {column.name!r} is missing in {missing} rows of {path}; drop them in the "
                    "cleaning script"
                )
    return keys


def _by_class(path: Path, name: str, target: Any) -> dict[Any, int]:
    kind, types = target.type, pa.types
    if types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind):
        return {}
    coded = numbered(path, f"the target {name!r}", target.drop_null())
    counts = np.bincount(np.asarray(coded.indices), minlength=len(coded.dictionary))
    return dict(zip(coded.dictionary.to_pylist(), counts.tolist(), strict=True))


def _refuse_repeated(job: _Job, clean: Path, parts: Sequence[Path]) -> None:
    """Refuse a key that two rows have: it tells nobody which row is meant, and a row may be there twice."""
    found = [np.load(job.scratch / f"{part.name}.npy", mmap_mode="r") for part in parts]
    for bucket in range(_BUCKETS):
        values = np.sort(np.concatenate([_between(one, bucket << 56, (bucket + 1 << 56) - 1) for one in found]))
        twice = np.unique(values[1:][values[1:] == values[:-1]])
        if len(twice) and (told := _first_repeated(job, parts, found, twice[:_SHOWN])):
            raise StageError(
                f"{job.place}.key = {listed(job.key)} does not tell rows apart in {clean}: {told}; name what does, "
                "drop repeated rows before, or write key: '*' for the whole row, or group where rows belong together"
            )


def _between(hashes: Any, first: int, last: int) -> Any:
    return hashes[np.searchsorted(hashes, np.uint64(first)) : np.searchsorted(hashes, np.uint64(last), "right")]


def _first_repeated(job: _Job, parts: Sequence[Path], found: Iterable[Any], twice: Any) -> str:
    """The first key that comes twice, in words; none where two keys have one hash."""
    rows = []
    for part, hashes in zip(parts, found, strict=True):
        if not np.isin(hashes, twice).any():
            continue
        keys = pl.DataFrame(pl.from_arrow(read_arrow(part, job.made_by, job.key)))
        same = np.isin(row_hash(keys), twice)
        rows.append(keys.filter(same).with_columns(pl.lit(part.name).alias("")))
    rows_of = pl.concat(rows).group_by(job.key, maintain_order=True).agg(pl.col("").alias(""))
    for *values, names in rows_of.rows():
        if len(names) > 1:
            return f"{listed(map(repr, values))} comes {len(names)} times, in {listed(dict.fromkeys(names))}"
    return ""
