"""Rows of the train part apart: folds, or one part to score on, each split off as the test part is."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from stages.common.models import WHOLE_ROW, Split

if TYPE_CHECKING:
    import pandas as pd

Rows = np.ndarray[Any, Any]


def folds(
    how: Split, features: "pd.DataFrame", target: Any, groups: Any, *, is_class: bool
) -> Iterator[tuple[Any, Any]]:
    """The rows that each fold learns from, and those that it holds out.

    Args:
        how: a model's split.
        features: by row.
        target: by row.
        groups: the number of each row's group, where the split is by group, or of its time, where it is by time.
        is_class: whether the target's values are classes, whose shares each fold keeps where there are enough rows.

    Raises:
        ValueError: there are too few rows, groups or times.
    """
    from sklearn import model_selection as ways

    rows, number = np.zeros(len(target)), int(how.folds or 2)
    if how.time is not None:
        return _in_time(groups, [held[0] for _, held in ways.TimeSeriesSplit(number).split(rows)], len(rows))
    if groups is not None:
        return iter(ways.GroupKFold(number).split(rows, groups=groups))
    again = {"n_splits": number, "n_repeats": how.repeats, "random_state": how.seed}
    of, first = _distinct(how, features, target)
    target = target[first]
    if is_class and np.unique(target, return_counts=True)[1].min() >= number:
        parts = ways.RepeatedStratifiedKFold(**again).split(first, target)
    else:
        parts = ways.RepeatedKFold(**again).split(first)
    return (_all_of(of, known, held) for known, held in parts)


def inner_part(how: Split, features: "pd.DataFrame", target: Any, groups: Any, *, is_class: bool) -> tuple[Any, Any]:
    """The rows to learn from and those to score on, of which there are as many as `test_size` asks for.

    Raises:
        ValueError: there are too few rows, groups or times.
    """
    from sklearn import model_selection as ways

    if how.time is not None:
        cut = max(1, len(target) - int(np.ceil(how.test_size * len(target))))
        return next(_in_time(groups, [cut], len(target)))
    if groups is not None:
        one = ways.GroupShuffleSplit(1, test_size=how.test_size, random_state=how.seed)
        return next(one.split(target, groups=groups))  # type: ignore[no-any-return]
    of, first = _distinct(how, features, target)
    target = target[first]
    counts = np.unique(target, return_counts=True)[1]
    fits = counts.min() > 1 and len(counts) <= min(how.test_size, 1 - how.test_size) * len(first)
    parts = ways.train_test_split(
        np.arange(len(first)),
        test_size=how.test_size,
        random_state=how.seed,
        stratify=target if is_class and fits else None,
    )
    return _all_of(of, parts[0], parts[1])


def _in_time(moments: Any, cuts: list[Any], rows: int) -> Iterator[tuple[Rows, Rows]]:
    """The rows before each cut and those up to the next one; a cut goes to where a moment begins, as that of `split`.

    Where that would leave nothing between two of them, the later one goes to the next moment.
    """
    every = np.arange(rows)
    begins = every[1:] if moments is None else np.flatnonzero(moments[1:] != moments[:-1]) + 1
    if len(begins) < len(cuts):
        raise ValueError(f"{len(begins) + 1} different times are too few for {len(cuts) + 1} parts, one after another")
    place, moved = -1, []
    for number, cut in enumerate(cuts):
        last = len(begins) - len(cuts) + number  # so that each cut after it has a moment
        place = min(max(int(np.searchsorted(begins, cut, "right")) - 1, place + 1), last)
        moved.append(int(begins[place]))
    return iter([(every[:cut], every[cut:end]) for cut, end in zip(moved, [*moved[1:], rows], strict=True)])


def _distinct(how: Split, features: "pd.DataFrame", target: Any) -> tuple[Rows, Rows]:
    """Of each row the number of what is split, and the first row of each: rows that are alike are one for `"*"`."""
    if how.key != WHOLE_ROW:
        return np.arange(len(target)), np.arange(len(target))
    import polars as pl

    from stages.parts.row_hash import row_hash

    table = pl.from_pandas(features.assign(**{_unused(features): target}))
    _, first, of = np.unique(row_hash(table), return_index=True, return_inverse=True)
    order = np.argsort(first)  # so that rows of which none comes twice are split as rows are
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    return rank[of], first[order]


def _unused(features: "pd.DataFrame") -> str:
    name = "target"
    while name in features.columns:
        name += "_"
    return name


def _all_of(of: Rows, known: Rows, held: Rows) -> tuple[Rows, Rows]:
    """The rows of what is split, in the order of that."""
    size = int(of.max()) + 1
    if size == len(of):
        return known, held
    order = np.argsort(of, kind="stable")
    starts = np.searchsorted(of[order], np.arange(size + 1))
    return tuple(np.concatenate([order[starts[one] : starts[one + 1]] for one in part]) for part in (known, held))  # type: ignore[return-value]
