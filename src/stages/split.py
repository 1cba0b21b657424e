"""Stage `split`: the cleaned rows of a model's dataset → rows to learn from and rows to test on."""

from collections.abc import Sequence
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow.parquet import write_table
from sklearn.model_selection import train_test_split

from stages.common.errors import StageError
from stages.common.missing_words import is_missing_word
from stages.common.models import Model
from stages.common.outputs import replacing
from stages.common.params import PARAMS_FILE, Params, block
from stages.modelling.table import read_arrow

Rows = np.ndarray[Any, np.dtype[np.intp]]


def run(key: str, params: Params, *, clean: Path, train: Path, test: Path) -> None:
    """Write the two parts of `clean` as Parquet.

    Raises:
        StageError: the data do not fit models.KEY.target or models.KEY.split.
    """
    model = block("models", params.models, key)
    table = read_arrow(clean, f"clean@{model.data}")
    place = f"{PARAMS_FILE}: models.{key}"
    _check_columns(place, table.column_names, model)
    codes, classes = _classes(clean, table.column(model.target), model)
    counts = np.bincount(codes, minlength=len(classes))
    _refuse_missing_words(clean, place, classes, counts[: len(classes)], model)
    _check_sizes(clean, place, counts, classes, model)
    how = model.split
    parts = train_test_split(
        np.arange(len(codes)), test_size=how.test_size, random_state=how.seed, stratify=codes if how.stratify else None
    )
    table = table.drop_columns(list(dict.fromkeys(how.drop))).replace_schema_metadata(None)
    with replacing(train) as first, replacing(test) as second:
        for part, path in zip(parts, (first, second), strict=True):
            write_table(table.take(pa.array(part)), path)


def _check_columns(place: str, columns: Sequence[str], model: Model) -> None:
    names, target, drop = ", ".join(columns), model.target, model.split.drop
    if target not in columns:
        raise StageError(f"{place}.target = {target!r} is not in the data {model.data!r}; its columns: {names}")
    if unknown := [name for name in drop if name not in columns]:
        raise StageError(f"{place}.split.drop = {unknown[0]!r} is not in the data {model.data!r}; its columns: {names}")
    if target in drop:
        raise StageError(f"{place}.split.drop = {target!r} is the target; keep it")
    if not set(columns) - {target, *drop}:
        raise StageError(f"{place}.split.drop = {drop} leaves no column to learn from; columns: {names}")


def _classes(path: Path, target: Any, model: Model) -> tuple[Rows, list[Any]]:
    """The class number of each row, and the classes in order; none for a number that is not stratified.

    Raises:
        StageError: rows without a target.
    """
    if missing := pc.sum(target.is_null(nan_is_null=True)).as_py():
        raise StageError(f"{path}: {missing} rows have no {model.target!r}; drop them in the cleaning script")
    kind, types = target.type, pa.types
    number = types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind)
    if number and not model.split.stratify:
        return np.zeros(len(target), np.intp), []
    plain = target.cast(kind.value_type) if types.is_dictionary(kind) else target
    coded = plain.combine_chunks().dictionary_encode()
    seen = coded.dictionary.to_pylist()
    classes = sorted(seen)
    rank = {value: number for number, value in enumerate(classes)}
    numbers: Any = np.from_dlpack(coded.indices)
    return np.array([rank[value] for value in seen], np.intp).take(numbers), classes


def _refuse_missing_words(path: Path, place: str, classes: list[Any], counts: Rows, model: Model) -> None:
    for word, count in zip(classes, counts, strict=True):
        if isinstance(word, str) and is_missing_word(word):
            raise StageError(
                f"{path}: {count} rows have {word!r} as their {model.target!r} ({place}.target), which is a word for a "
                f"missing value; add it to datasets.{model.data}.clean.null_values and drop these rows, or, if it is a "
                "class, give it another name in the cleaning script"
            )


def _check_sizes(path: Path, place: str, counts: Rows, classes: list[Any], model: Model) -> None:
    """Refuse what cannot be split, with scikit-learn's own conditions."""
    rows, split = int(counts.sum()), model.split
    n_test = ceil(split.test_size * rows)
    if rows - n_test < 1:
        raise StageError(f"{path} has {rows} rows; a split with test_size {split.test_size} leaves none to learn from")
    if len(classes) == 1:
        raise StageError(
            f"{path}: the target {model.target!r} has one class, {classes[0]!r}; there is nothing to learn"
        )
    if not split.stratify:
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
