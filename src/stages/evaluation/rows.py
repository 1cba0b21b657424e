"""What `evaluate` goes by: a model's predictions of the test part, and rows of both parts to describe it with.

Of a folder of parts one is read at a time. What stays of all rows is their target, prediction and scores.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from stages.common.errors import StageError
from stages.common.models import Model
from stages.evaluation.card import telling_rows
from stages.evaluation.importance import MOST_ROWS
from stages.modelling import table
from stages.training.metrics import predict
from stages.training.predictions import Predictions

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pandas as pd


@dataclass(frozen=True)
class TrainRows:
    """Of the train part.

    Attributes:
        features: all rows that the model was fitted on or, of parts, those that tell most of each column.
        target: by row.
    """

    features: "pd.DataFrame"
    target: "np.ndarray[Any, Any]"


@dataclass(frozen=True)
class TestRows:
    """Of the test part.

    Attributes:
        features: all rows or, of parts, those that tell most of each column.
        predictions: of all rows.
        ranked: rows to rank columns by, and their target: all or, of parts, so many drawn at random.
    """

    __test__ = False  # pytest collects classes by their names

    features: "pd.DataFrame"
    predictions: Predictions
    ranked: "tuple[pd.DataFrame, np.ndarray[Any, Any]]"


def train_rows(path: Path, spec: Model, made_by: str) -> TrainRows:
    """Read what the model was fitted on.

    Raises:
        StageError: as `table.read`.
    """
    if not path.is_dir() or spec.train.sample is not None or spec.split.folds is not None:
        return TrainRows(*table.read(path, spec.target, made_by, sample=spec.train.sample))
    features, targets = [], []
    for part, target in _pieces(path, spec, made_by):
        features.append(telling_rows(part))
        targets.append(target)
    return TrainRows(_together(path, features), np.concatenate(targets))


def test_rows(path: Path, spec: Model, made_by: str, model: Any, seen: "pd.DataFrame") -> TestRows:
    """Predict the test part, with the columns that the train part has.

    Raises:
        StageError: as `table.read`, or a column is missing.
        ValueError: the model does not do on these rows.
    """
    if not path.is_dir():
        whole, actual = table.read(path, spec.target, made_by)
        whole = _as_trained(path, whole, seen)
        return TestRows(whole, predict(model, whole, actual), (whole, actual))
    telling, found = [], []
    for part, of_part in _pieces(path, spec, made_by):
        rows = _as_trained(path, part, seen)
        telling.append(telling_rows(rows))
        found.append(predict(model, rows, of_part))
    drawn, actual = table.read(path, spec.target, made_by, sample=MOST_ROWS)
    return TestRows(_together(path, telling), _joined(found), (_as_trained(path, drawn, seen), actual))


def _pieces(path: Path, spec: Model, made_by: str) -> "Iterator[tuple[pd.DataFrame, np.ndarray[Any, Any]]]":
    for part in table.parts_of(path, made_by):
        features, target = table.read(part, spec.target, made_by)
        if len(target):
            yield features, target


def _together(path: Path, parts: "list[pd.DataFrame]") -> "pd.DataFrame":
    """Rows of all parts, in which a number is float64 where one is missing in some part."""
    import pandas as pd

    if not parts:
        raise StageError(f"{path} has no rows; run split again")
    whole = pd.concat(parts, ignore_index=True)
    mixed = [name for name in whole.columns if whole[name].dtype == object]  # true and false in one, numbers in another
    return whole.astype(dict.fromkeys(mixed, "float64")) if mixed else whole


def _joined(found: list[Predictions]) -> Predictions:
    first = found[0]
    return Predictions(
        np.concatenate([one.actual for one in found]),
        np.concatenate([one.predicted for one in found]),
        first.classes,
        None if first.scores is None else np.concatenate([one.scores for one in found if one.scores is not None]),
        are_probabilities=first.are_probabilities,
    )


def _as_trained(path: Path, features: "pd.DataFrame", seen: "pd.DataFrame") -> "pd.DataFrame":
    """The columns that the model was trained on, in its order."""
    if missing := [name for name in seen.columns if name not in features.columns]:
        raise StageError(f"{path}: no column {missing[0]!r}, which the model was trained on; run split and train again")
    return features[list(seen.columns)]
