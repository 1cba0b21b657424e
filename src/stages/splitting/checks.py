"""What `split` refuses, whichever way rows are split: columns that are not there, rows without a value, odd classes."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from stages.common.errors import StageError, listed
from stages.common.missing_words import is_missing_word
from stages.common.models import Model
from stages.common.params import PARAMS_FILE


def check_columns(key: str, columns: Sequence[str], model: Model) -> list[str]:
    """The columns that are written to both parts, in the order of the data.

    Raises:
        StageError: models.KEY names a column that is not there, or leaves none to learn from.
    """
    place, how, target = f"{PARAMS_FILE}: models.{key}", model.split, model.target
    names = listed(columns)

    def refuse_unknown(setting: str, named: Sequence[str]) -> None:
        if unknown := [name for name in named if name not in columns]:
            where = f"{place}.{setting} = {unknown[0]!r}"
            raise StageError(f"{where} is not in the data {model.data!r}; its columns: {names}")

    refuse_unknown("target", [target])
    refuse_unknown("split.drop", how.drop)
    if target in how.drop:
        raise StageError(f"{place}.split.drop = {target!r} is the target; keep it")
    by = {"time": how.time, "group": how.group, "key": how.key_columns}
    for setting, named in by.items():
        of = [] if named is None else [named] if isinstance(named, str) else named
        refuse_unknown(f"split.{setting}", of)
        if target in of:
            raise StageError(f"{place}.split.{setting} = {target!r} is the target; split by another column")
    refuse_unknown("split.columns", how.columns or [])
    left_out = {*how.drop, *([how.group] if how.group is not None else [])}
    asked = set(columns) - set(how.key_columns) if how.columns is None else set(how.columns)
    kept = [name for name in columns if name == target or (name in asked and name not in left_out)]
    if kept == [target]:
        setting = f"columns = {how.columns}" if how.columns else f"drop = {how.drop}"
        raise StageError(f"{place}.split.{setting} leaves no column to learn from; columns: {names}")
    return kept


def numbered(path: Path, where: str, column: Any) -> Any:
    """The column as a dictionary and the number of each value in it, missing ones without one.

    Raises:
        StageError: its values are none that can be told apart: lists, objects.
    """
    kind = column.type
    if pa.types.is_dictionary(kind):
        column = column.cast(kind := kind.value_type)
    if pa.types.is_string_view(kind):  # of which Arrow knows little more than how they lie there
        column = column.cast(pa.large_string())
    try:
        return column.combine_chunks().dictionary_encode()
    except pa.ArrowNotImplementedError as error:
        raise StageError(
            f"{where} is {kind} in {path}; make it a number, text or date in the cleaning script"
        ) from error


def refuse_missing(path: Path, where: str, column: Any) -> None:
    """Refuse a column with rows that have no value."""
    if missing := pc.sum(column.is_null(nan_is_null=True)).as_py():
        raise StageError(f"{where} is missing in {missing} rows of {path}; drop them in the cleaning script")


def refuse_missing_target(path: Path, model: Model, missing: int) -> None:
    """Refuse data in which so many rows have no target."""
    if missing:
        raise StageError(f"{path}: {missing} rows have no {model.target!r}; drop them in the cleaning script")


def refuse_odd_classes(path: Path, key: str, counts: dict[Any, int], model: Model) -> None:
    """Refuse classes, each with its rows, that are words for a missing value, differ by blanks, or are one alone."""
    place = f"{PARAMS_FILE}: models.{key}"
    for word, count in counts.items():
        if isinstance(word, str) and is_missing_word(word):
            raise StageError(
                f"{path}: {count} rows have {word!r} as their {model.target!r} ({place}.target), which is a word for a "
                f"missing value; add it to datasets.{model.data}.clean.null_values and drop these rows or, where the "
                "data is neither CSV nor Excel, drop them in the cleaning script; a class gets another name there"
            )
    stripped: dict[str, str] = {}
    for name in (name for name in counts if isinstance(name, str)):
        if (other := stripped.setdefault(name.strip(), name)) != name:
            raise StageError(
                f"{path}: {other!r} and {name!r}, classes of {model.target!r} ({place}.target), differ by blanks "
                f"alone; in src/stages/cleaning/{model.data}.py: return "
                f"frame.with_columns(nw.col({model.target!r}).str.strip_chars())"
            )


def refuse_one_class(path: Path, classes: Sequence[Any], model: Model) -> None:
    """Refuse a target that is the same in all rows."""
    if len(classes) == 1:
        raise StageError(
            f"{path}: the target {model.target!r} has one class, {classes[0]!r}; there is nothing to learn"
        )
