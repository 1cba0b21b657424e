"""Rows of the train part apart: folds, or one part to score on, each split off as the test part is."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from stages.common.models import Split


def folds(how: Split, target: Any, groups: Any, *, is_class: bool) -> Iterator[tuple[Any, Any]]:
    """The rows that each fold learns from, and those that it holds out.

    Args:
        how: a model's split.
        target: by row.
        groups: the number of each row's group, where the split is by group.
        is_class: whether the target's values are classes, whose shares each fold keeps where there are enough rows.
    """
    from sklearn import model_selection as ways

    rows, number = np.zeros(len(target)), int(how.folds or 2)
    if how.time is not None:
        return iter(ways.TimeSeriesSplit(number).split(rows))  # the rows are in the order of time
    if groups is not None:
        return iter(ways.GroupKFold(number).split(rows, groups=groups))
    again = {"n_splits": number, "n_repeats": how.repeats, "random_state": how.seed}
    if is_class and np.unique(target, return_counts=True)[1].min() >= number:
        return iter(ways.RepeatedStratifiedKFold(**again).split(rows, target))
    return iter(ways.RepeatedKFold(**again).split(rows))


def inner_part(how: Split, target: Any, groups: Any, *, is_class: bool) -> tuple[Any, Any]:
    """The rows to learn from and those to score on, of which there are as many as `test_size` asks for."""
    from sklearn import model_selection as ways

    rows = np.arange(len(target))
    if how.time is not None:
        cut = max(1, len(rows) - int(np.ceil(how.test_size * len(rows))))
        return rows[:cut], rows[cut:]
    if groups is not None:
        one = ways.GroupShuffleSplit(1, test_size=how.test_size, random_state=how.seed)
        return next(one.split(rows, groups=groups))  # type: ignore[no-any-return]
    counts = np.unique(target, return_counts=True)[1]
    fits = counts.min() > 1 and len(counts) <= min(how.test_size, 1 - how.test_size) * len(rows)
    parts = ways.train_test_split(
        rows, test_size=how.test_size, random_state=how.seed, stratify=target if is_class and fits else None
    )
    return parts[0], parts[1]
