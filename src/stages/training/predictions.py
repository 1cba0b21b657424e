"""A model's predictions for rows that it has not seen, as plain arrays: what metrics and plots are made of."""

from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Predictions:
    """A model's predictions for the test part.

    Attributes:
        actual: the target, by row.
        predicted: the prediction, by row.
        classes: what a classifier can predict; None for a regressor.
        scores: (rows, classes), higher for the likelier class; None where the model gives none.
        are_probabilities: whether `scores` come from predict_proba.
    """

    actual: Array
    predicted: Array
    classes: Array | None = None
    scores: Array | None = None
    are_probabilities: bool = False

    @property
    def unseen(self) -> list[Any]:
        """Classes of the test part that the model cannot predict, because the train part has none."""
        return [] if self.classes is None else np.setdiff1d(self.actual, self.classes).tolist()

    @property
    def rankable(self) -> bool:
        """Whether a ROC curve exists for every class."""
        return self.scores is not None and np.unique(self.actual).tolist() == np.asarray(self.classes).tolist()


def one_vs_rest(predictions: Predictions) -> list[tuple[Any, Array, Array]]:
    """Each class, whether a row is of it, and the row's score for it; of two classes only the second."""
    if predictions.classes is None or predictions.scores is None or not predictions.rankable:
        return []
    first = 1 if len(predictions.classes) == 2 else 0  # noqa: PLR2004
    return [
        (name, predictions.actual == name, predictions.scores[:, i])
        for i, name in enumerate(predictions.classes)
        if i >= first
    ]
