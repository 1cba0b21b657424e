"""Predictions as a client gets them, and as the log and a scored file keep them."""

from typing import Any


def plain(said: list[Any], method: str) -> list[Any]:
    """Predictions without the names that a model's own tables gave them.

    A client gets those of a Series, or of a table of one column, as MLflow's server has them: `[{"0": 1.5}]`. Kept is
    1.5; of probabilities in a table those of its columns, in their order.
    """
    if said and method == "predict" and all(isinstance(one, list) and len(one) == 1 for one in said):
        return [value for (value,) in said]  # as CatBoost answers with one of several classes
    if not said or not all(isinstance(one, dict) for one in said):
        return said
    if method != "predict":
        return [list(one.values()) for one in said]
    if {len(one) for one in said} == {1}:
        return [value for one in said for value in one.values()]
    return [{str(name): value for name, value in one.items()} for one in said]
