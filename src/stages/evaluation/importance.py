"""How much a model loses when a column is shuffled (Breiman 2001, "Random Forests", section 10)."""

from typing import TYPE_CHECKING, Any

from sklearn.inspection import permutation_importance

if TYPE_CHECKING:
    import pandas as pd

_REPEATS = 10
_MOST_ROWS = 10_000  # more change the third digit and take minutes


def rank(model: Any, features: "pd.DataFrame", actual: Any) -> list[tuple[str, float, float]]:
    """Each feature with the mean and standard deviation of the accuracy, or R², that it is worth; the best first."""
    features, actual = features.head(_MOST_ROWS), actual[:_MOST_ROWS]
    found = permutation_importance(model, features, actual, n_repeats=_REPEATS, random_state=0)
    rows = zip(features.columns, found.importances_mean.tolist(), found.importances_std.tolist(), strict=True)
    return sorted(rows, key=lambda row: -row[1])
