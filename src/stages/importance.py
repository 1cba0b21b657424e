"""How much a model loses when a column is shuffled (Breiman 2001, "Random Forests", section 10)."""

from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.base import is_classifier

if TYPE_CHECKING:
    import pandas as pd

_REPEATS = 10
_MOST_ROWS = 10_000  # more change the third digit and take minutes


def rank(model: Any, features: "pd.DataFrame", actual: Any) -> list[tuple[str, float, float]]:
    """Each feature with the mean and standard deviation of the accuracy, or R², that it is worth; the best first.

    What sklearn.inspection.permutation_importance(n_repeats=10, random_state=0) gives, which a test holds; that one
    predicts for each repeat, this one for each column: with a skrub pipeline 0.2 s instead of 1.3 s.
    """
    features, actual = features.head(_MOST_ROWS), actual[:_MOST_ROWS]
    rows = np.concatenate(_shuffles(len(features)))
    repeated = features.iloc[np.tile(np.arange(len(features)), _REPEATS)].reset_index(drop=True)
    score = _accuracy if is_classifier(model) else _r2
    base = score(actual, model.predict(features))
    found = []
    for name in features.columns:
        shuffled = repeated.assign(**{name: features[name].iloc[rows].array})
        losses = base - score(actual, model.predict(shuffled).reshape(_REPEATS, -1))
        found.append((name, float(losses.mean()), float(losses.std())))
    return sorted(found, key=lambda row: -row[1])


def _shuffles(rows: int) -> "list[np.ndarray[Any, Any]]":
    """Each repeat's row numbers, drawn as scikit-learn does: each shuffles the one before, alike for all columns."""
    rng = np.random.RandomState(np.random.RandomState(0).randint(2**31))
    order, shuffled, shuffles = np.arange(rows), np.arange(rows), []
    for _ in range(_REPEATS):
        rng.shuffle(order)
        shuffled = shuffled[order]
        shuffles.append(shuffled)
    return shuffles


def _accuracy(actual: Any, predicted: Any) -> Any:
    return (actual == predicted).mean(axis=-1)


def _r2(actual: Any, predicted: Any) -> Any:
    return 1 - ((actual - predicted) ** 2).sum(axis=-1) / (((actual - actual.mean()) ** 2).sum() or 1.0)
