"""A forest asked for a few rows: the sum of its trees, without scikit-learn's parallel machinery around it.

For one row scikit-learn's forest spends four fifths of its time around the trees. This predictor uses only what is
documented, the fitted attributes `estimators_`, `tree_` and `classes_`, and scikit-learn's own order of summing. It is
used only if it gives the same bits as the model does on the rows of `prove`.
https://scikit-learn.org/stable/auto_examples/tree/plot_unveil_tree_structure.html
"""

from collections.abc import Mapping, Sequence
from typing import Any

MOST_ROWS = 1_000  # above it scikit-learn's threads pay
_DRAWN = 256  # rows drawn from the thresholds of the trees, for the proof
_FOREST_MODULE = "sklearn.ensemble._forest"
_CLASSIFIERS = ("RandomForestClassifier", "ExtraTreesClassifier")
_REGRESSORS = ("RandomForestRegressor", "ExtraTreesRegressor")


class ForestPredictor:
    """Answers for a forest, or for a pipeline that ends in one; None wherever the model itself has to be asked."""

    def __init__(self, model: Any, columns: Sequence[str]) -> None:
        """Take a model apart.

        Args:
            model: Fitted.
            columns: Of the table that the model is asked with, in order.

        Raises:
            ValueError: when it is no forest, has several outputs, or other columns.
        """
        import numpy as np

        steps = getattr(model, "steps", None)
        self._model = model
        self._forest = steps[-1][1] if steps else model
        self._before = model[:-1] if steps and len(steps) > 1 else None
        kind = type(self._forest)
        if kind.__module__ != _FOREST_MODULE or kind.__name__ not in (*_CLASSIFIERS, *_REGRESSORS):
            raise ValueError(f"{kind.__name__} is not a forest")
        self._classes = self._forest.classes_ if kind.__name__ in _CLASSIFIERS else None
        if self._forest.n_outputs_ != 1:
            raise ValueError("a forest of several outputs")
        if self._before is None and list(getattr(self._forest, "feature_names_in_", columns)) != list(columns):
            raise ValueError("the forest names its columns otherwise")
        self._trees = [estimator.tree_ for estimator in self._forest.estimators_]
        self._columns = list(columns)
        self._width = self._forest.n_features_in_
        self._values = 1 if self._classes is None else len(self._classes)
        self._count = np.float64(len(self._trees))

    @property
    def takes_numbers(self) -> bool:
        """Whether rows can come as a block of numbers: there is nothing before the forest that wants a table."""
        return self._before is None

    def answer(self, method: str, rows: Any) -> Any:
        """Predictions, or probabilities of shape (rows, classes); None where the model is to be asked.

        Args:
            method: `predict` or `predict_proba`.
            rows: The table that the model takes, or numbers of shape (rows, columns) if it `takes_numbers`.
        """
        import numpy as np

        if self._before is None and hasattr(rows, "columns") and list(rows.columns) != self._columns:
            return None
        inner = rows if self._before is None else self._before.transform(rows)
        numbers = getattr(inner, "to_numpy", lambda: inner)()
        if not isinstance(numbers, np.ndarray) or numbers.ndim != 2 or numbers.dtype.kind not in "fiub":  # noqa: PLR2004
            return None
        with np.errstate(over="ignore"):
            numbers = np.ascontiguousarray(numbers, dtype=np.float32)
        if numbers.shape[1] != self._width or not np.isfinite(numbers).all():  # scikit-learn says what is wrong with it
            return None
        return self._sum(method, numbers)

    def _sum(self, method: str, numbers: Any) -> Any:
        import numpy as np

        total = np.zeros((len(numbers), self._values))
        for tree in self._trees:
            total += tree.predict(numbers)
        total /= self._count
        if self._classes is None:
            return total[:, 0] if method == "predict" else None
        return total if method == "predict_proba" else self._classes.take(np.argmax(total, axis=1), axis=0)

    def prove(self, methods: Sequence[str], examples: Sequence[Mapping[str, Any] | Any]) -> bool:
        """Whether it gives the same bits as the model: on the examples, and for rows drawn from the trees' thresholds.

        Args:
            methods: Of the model.
            examples: Tables as the model takes them, the input example's.
        """
        drawn = self._drawn()
        for method in methods:
            ours, theirs = self._sum(method, drawn), getattr(self._forest, method)(self._named(drawn))
            if not _same_bits(ours, theirs):
                return False
            for example in examples:
                ours = self.answer(method, example)
                if ours is not None and not _same_bits(ours, getattr(self._model, method)(example)):
                    return False
        return True

    def _drawn(self) -> Any:
        """Rows at, below and above the thresholds at which the trees decide: shape (256, columns)."""
        import numpy as np

        features = np.concatenate([tree.feature for tree in self._trees])
        thresholds = np.concatenate([tree.threshold for tree in self._trees])
        random = np.random.default_rng(0)
        rows = np.zeros((_DRAWN, self._width), dtype=np.float32)
        for column in range(self._width):
            known = thresholds[features == column].astype(np.float32)
            if len(known):
                picked = random.choice(known, _DRAWN)
                towards = random.choice(np.array([-np.inf, 0, np.inf], dtype=np.float32), _DRAWN)
                rows[:, column] = np.where(towards == 0, picked, np.nextafter(picked, towards))
        return rows

    def _named(self, numbers: Any) -> Any:
        """The rows under the names that the forest was fitted with, if it was with any."""
        import pandas as pd

        names = getattr(self._forest, "feature_names_in_", None)
        return numbers if names is None else pd.DataFrame(numbers, columns=names)


def proved(
    model: Any, columns: Sequence[str], methods: Sequence[str], examples: Sequence[Any]
) -> ForestPredictor | None:
    """A predictor that gives the same bits as the model; None where there is none, and the model answers itself."""
    try:
        found = ForestPredictor(model, columns)
        return found if found.prove(methods, examples) else None
    except Exception:  # noqa: BLE001  (a release of scikit-learn that keeps its trees otherwise: slower, not wrong)
        return None


def _same_bits(ours: Any, theirs: Any) -> bool:
    import numpy as np

    if ours is None or ours.dtype != theirs.dtype or ours.shape != theirs.shape:
        return False
    if ours.dtype.kind == "f":
        return bool(np.array_equal(ours.view(np.int64), theirs.view(np.int64)))
    return bool(np.array_equal(ours, theirs))
