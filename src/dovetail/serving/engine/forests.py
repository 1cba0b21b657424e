"""A forest asked for a few rows, without the machinery that pays only for many. Trees and sums stay as they are.

For one row scikit-learn's forest spends four fifths of its time around the trees: each of a hundred becomes a task of
joblib's, with warning filters and a configuration of its own, and is asked anew whether it was fitted.
https://github.com/scikit-learn/scikit-learn/blob/1.9.1/sklearn/ensemble/_forest.py
"""

from collections.abc import Callable, Iterable
from typing import Any

SMALL = 1_000  # rows up to which threads cost more than they bring

_Task = tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]
_rows = SMALL + 1  # of the prediction under way


def expect(rows: int) -> None:
    """The next prediction is of that many rows."""
    global _rows  # noqa: PLW0603  (one process, one model, one prediction at a time)
    _rows = rows


def quicken() -> None:
    """Let forests and trees of this process take the short way while few rows are expected.

    What is not where it is looked for, in another release of scikit-learn, stays as it is: slower, not wrong.
    """
    from sklearn.ensemble import _forest
    from sklearn.tree import _classes

    if hasattr(_forest, "Parallel") and hasattr(_forest, "delayed"):
        tasks, parallel = _forest.delayed, _forest.Parallel

        def task(function: Callable[..., Any]) -> Callable[..., Any]:
            return (lambda *args, **kwargs: (function, args, kwargs)) if _rows <= SMALL else tasks(function)

        def run(*args: Any, **kwargs: Any) -> Any:
            return _one_after_the_other if _rows <= SMALL else parallel(*args, **kwargs)

        _forest.delayed, _forest.Parallel = task, run
    for module in (_forest, _classes):
        if hasattr(module, "check_is_fitted"):  # what is served has answered its example
            module.check_is_fitted = lambda *_, **__: None


def _one_after_the_other(tasks: Iterable[_Task]) -> list[Any]:
    return [function(*args, **kwargs) for function, args, kwargs in tasks]
