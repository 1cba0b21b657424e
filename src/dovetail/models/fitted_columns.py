"""The columns that a model says it was fitted on, where no signature says which it takes."""

from collections.abc import Collection
from typing import Any


def fitted_columns(model: Any, given: Collection[str]) -> list[str]:
    """Those of the columns `given` that the model is to get, in its order; all of them where it names none, or others.

    scikit-learn refuses a table with a column more: the one that is predicted, an id.
    """
    named = [str(name) for name in getattr(model, "feature_names_in_", ())]
    return named if named and set(named) <= set(given) else list(given)
