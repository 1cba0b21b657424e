"""Stage `split`: the cleaned rows of a model's dataset → rows to learn from and rows to test on."""

import sys
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow.parquet import write_table
from sklearn.model_selection import GroupShuffleSplit, train_test_split

from stages.common.errors import StageError
from stages.common.models import Model
from stages.common.outputs import replacing
from stages.common.params import PARAMS_FILE, Params, block
from stages.modelling.table import read_arrow, with_groups
from stages.splitting.checks import (
    check_columns,
    numbered,
    refuse_missing,
    refuse_missing_target,
    refuse_odd_classes,
    refuse_one_class,
)

_FEW = 20  # whole numbers up to which `stratify: auto` takes them for classes
Rows = np.ndarray[Any, np.dtype[np.intp]]


def run(key: str, params: Params, *, clean: Path, train: Path, test: Path) -> None:
    """Write the two parts of `clean` as Parquet.

    Raises:
        StageError: the data do not fit models.KEY.target or models.KEY.split.
    """
    model = block("models", params.models, key)
    if model.split.key is not None:
        from stages.splitting.by_key import split_by_key

        split_by_key(key, model, clean, train, test)
        return
    if clean.is_dir():
        print(
            f"split@{key}: reads all parts into memory; models.{key}.split.key splits them one by one", file=sys.stderr
        )
    table = read_arrow(clean, f"clean@{model.data}")
    place = f"{PARAMS_FILE}: models.{key}"
    kept = check_columns(key, table.column_names, model)
    codes, classes = _classes(clean, table.column(model.target), model)
    counts = np.bincount(codes, minlength=len(classes))
    refuse_odd_classes(clean, key, dict(zip(classes, counts.tolist(), strict=False)), model)
    _check_sizes(clean, place, counts, classes, model)
    how = model.split
    if how.time is not None:
        parts = _by_time(clean, place, table.column(how.time), model)
    elif how.group is not None:
        parts = _by_group(clean, place, table.column(how.group), model)
    else:
        stratify = how.stratify is True or (how.stratify == "auto" and _can_be_stratified(counts, classes, model))
        parts = train_test_split(
            np.arange(len(codes)),
            test_size=how.test_size,
            random_state=how.seed,
            stratify=codes if stratify else None,
        )
    together = how.group if how.group is not None else how.time  # rows that folds keep together, too
    groups = table.column(together) if together is not None else None
    if how.time is not None and pc.count_distinct(groups).as_py() == len(table):
        groups = None
    table = table.select(kept).replace_schema_metadata(None)
    with replacing(train) as first, replacing(test) as second:
        for part, path in zip(parts, (first, second), strict=True):
            rows = table.take(pa.array(part))
            write_table(rows if groups is None else with_groups(rows, groups.take(pa.array(part))), path)


def _by_time(path: Path, place: str, column: Any, model: Model) -> tuple[Rows, Rows]:
    """The rows in the order of time, cut so that those of one time stand in one part."""
    kind, types = column.type, pa.types
    where = f"{place}.split.time = {model.split.time!r}"
    if not (types.is_temporal(kind) or types.is_integer(kind) or types.is_floating(kind)):
        raise StageError(f"{where} is {kind} in {path}; make it a date, datetime or number by the schema")
    refuse_missing(path, where, column)
    order = np.asarray(pc.array_sort_indices(column.combine_chunks()), dtype=np.intp)
    value = column.combine_chunks().dictionary_encode().indices
    moment = np.asarray(value).take(order)
    starts = np.flatnonzero(moment[1:] != moment[:-1]) + 1  # where a new time begins
    if not len(starts):
        raise StageError(f"{where} is the same in all {len(order)} rows of {path}; split by another column")
    wanted = len(order) - ceil(model.split.test_size * len(order))
    before = starts[starts <= wanted]
    cut = before[-1] if len(before) else starts[0]
    return order[:cut], order[cut:]


def _by_group(path: Path, place: str, column: Any, model: Model) -> tuple[Rows, Rows]:
    where = f"{place}.split.group = {model.split.group!r}"
    refuse_missing(path, where, column)
    coded = numbered(path, where, column)
    if len(coded.dictionary) < 2:  # noqa: PLR2004  one for each part
        raise StageError(f"{where} is the same in all {len(column)} rows of {path}; split by another column")
    split = GroupShuffleSplit(1, test_size=model.split.test_size, random_state=model.split.seed)
    groups: Any = np.asarray(coded.indices)
    try:
        return next(split.split(np.zeros(len(groups)), groups=groups))  # type: ignore[no-any-return]
    except ValueError as error:
        raise StageError(f"{where}: {len(coded.dictionary)} groups cannot be split: {error}") from error


def _can_be_stratified(counts: Rows, classes: list[Any], model: Model) -> bool:
    rows = int(counts.sum())
    test = ceil(model.split.test_size * rows)
    return 1 < len(classes) <= min(test, rows - test) and int(counts.min()) > 1


def _classes(path: Path, target: Any, model: Model) -> tuple[Rows, list[Any]]:
    """The class number of each row, and the classes in order; none for a number that is not stratified.

    Raises:
        StageError: rows without a target.
    """
    refuse_missing_target(path, model, pc.sum(target.is_null(nan_is_null=True)).as_py())
    kind, types = target.type, pa.types
    number = types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind)
    few = types.is_integer(kind) and len(pc.unique(target)) <= _FEW
    if number and not (model.split.stratify is True or (model.split.stratify == "auto" and few)):
        return np.zeros(len(target), np.intp), []
    coded = numbered(path, f"the target {model.target!r}", target)
    seen = coded.dictionary.to_pylist()
    classes = sorted(seen)
    rank = {value: number for number, value in enumerate(classes)}
    numbers: Any = np.from_dlpack(coded.indices)
    return np.array([rank[value] for value in seen], np.intp).take(numbers), classes


def _check_sizes(path: Path, place: str, counts: Rows, classes: list[Any], model: Model) -> None:
    """Refuse what cannot be split, with scikit-learn's own conditions."""
    rows, split = int(counts.sum()), model.split
    n_test = ceil(split.test_size * rows)
    if rows - n_test < 1:
        raise StageError(f"{path} has {rows} rows; a split with test_size {split.test_size} leaves none to learn from")
    refuse_one_class(path, classes, model)
    if split.stratify is not True:
        return
    if lone := [value for value, count in zip(classes, counts, strict=True) if count == 1]:
        raise StageError(
            f"{path}: class {lone[0]!r} of {model.target!r} has one row, too few for a stratified split "
            f"({len(lone)} such classes of {len(classes)}); drop it, or set {place}.split.stratify to false"
        )
    if min(n_test, rows - n_test) < len(classes):
        raise StageError(
            f"{path}: {rows - n_test} train and {n_test} test rows are fewer than the {len(classes)} classes of "
            f"{model.target!r}; change {place}.split.test_size = {split.test_size} or set stratify to false"
        )
