"""How much a model loses when a column is shuffled (Breiman 2001, "Random Forests", section 10)."""

from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.base import is_classifier
from sklearn.inspection import permutation_importance

if TYPE_CHECKING:
    import pandas as pd

_REPEATS = 10
MOST_ROWS = 10_000  # more change the third digit and take minutes
_MOST_COLUMNS = 100  # each is predicted with _REPEATS times, and a prediction reads all columns
_MOST_CELLS = 1_000_000  # that one prediction reads

Ranking = list[tuple[str, float, float]]


def rank(model: Any, features: "pd.DataFrame", actual: Any) -> tuple[Ranking, list[str]]:
    """Each feature with the mean and standard deviation of the accuracy, or R², that it is worth; the best first.

    Of a wide table these are the columns that tell most of the target by themselves, on fewer rows, so that the time
    grows with the number of columns alone. Returns also the names of the others.
    """
    most = min(MOST_ROWS, max(1, _MOST_CELLS // features.shape[1]))
    features, actual = features.head(most), actual[:most]
    names = list(features.columns)
    if len(names) <= _MOST_COLUMNS:
        found = permutation_importance(model, features, actual, n_repeats=_REPEATS, random_state=0)
        means, deviations, kept = found.importances_mean, found.importances_std, names
    else:
        kept = _telling(features, actual, by_class=is_classifier(model))
        drops = _drops(model, features, actual, kept)
        means, deviations = drops.mean(axis=1), drops.std(axis=1)
    rows = zip(kept, means.tolist(), deviations.tolist(), strict=True)
    return sorted(rows, key=lambda row: -row[1]), [name for name in names if name not in set(kept)]


def _drops(model: Any, features: "pd.DataFrame", actual: Any, names: list[str]) -> "np.ndarray[Any, Any]":
    """By column and repeat, what the score loses; scikit-learn's function shuffles all columns or none."""
    rng, whole = np.random.default_rng(0), model.score(features, actual)
    drops, shuffled = np.empty((len(names), _REPEATS)), features.copy()
    for row, name in enumerate(names):
        place = list(features.columns).index(name)
        for repeat in range(_REPEATS):
            # In place: a frame of which a column was replaced is one that each prediction puts together anew.
            shuffled.iloc[:, place] = _permuted(features[name], rng)
            drops[row, repeat] = whole - model.score(shuffled, actual)
        shuffled.iloc[:, place] = features[name]
    return drops


def _permuted(column: "pd.Series[Any]", rng: Any) -> "pd.Series[Any]":
    return column.take(rng.permutation(len(column))).set_axis(column.index)


def _telling(features: "pd.DataFrame", actual: Any, *, by_class: bool) -> list[str]:
    """The columns that tell most of the target by themselves (scikit-learn's univariate F test), in their order."""
    from sklearn.feature_selection import f_classif, f_regression

    plain = np.column_stack([_number(features[name]) for name in features.columns])
    with np.errstate(divide="ignore", invalid="ignore"):
        strength = (f_classif if by_class else f_regression)(plain, actual)[0]
    best = np.argsort(-np.nan_to_num(strength, nan=0.0, posinf=np.finfo(float).max), kind="stable")[:_MOST_COLUMNS]
    return [features.columns[number] for number in sorted(best)]


def _number(column: "pd.Series[Any]") -> Any:
    if column.dtype.kind in "ifb":
        values = column.to_numpy(dtype=float)
        return np.nan_to_num(values, nan=np.nanmean(values) if not np.isnan(values).all() else 0.0)
    return column.factorize()[0].astype(float)
