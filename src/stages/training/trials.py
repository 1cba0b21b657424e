"""Trials of a search scored: by the mean of a metric over parts of the train half, in this process or in several.

A fit on some rows is the same whoever does it, so the scores are, too: who does it stands in the environment.
"""

import os
import pickle
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.base import is_classifier

from stages.common.errors import StageError
from stages.common.models import Model, Train
from stages.common.outputs import scratch_folder
from stages.common.params import PARAMS_FILE
from stages.modelling import table
from stages.parts.cluster import ENV_CLUSTER
from stages.parts.workers import ENV_WORKERS, ThisProcess, Workers, open_workers
from stages.training.estimator import one_line
from stages.training.fitting import fitted
from stages.training.folds import folds, inner_part
from stages.training.metrics import OF_CLASSES, OF_NUMBERS, measure, predict
from stages.training.space import first_estimator


@dataclass(frozen=True)
class Rows:
    """The train part: features and target by row, and each row's group or time where it is split by that."""

    features: Any
    target: Any
    groups: Any = None


@dataclass(frozen=True)
class Source:
    """Where another process reads the rows: what `table.read` is called with."""

    path: Path
    target: str
    made_by: str
    sample: int | None = None

    def read(self) -> Rows:
        """The rows.

        Raises:
            StageError: as `table.read`.
        """
        features, target = table.read(self.path, self.target, self.made_by, sample=self.sample)
        return Rows(features, target, table.groups_of(self.path, self.made_by, self.sample))


class Scoring:
    """How a trial is scored.

    Attributes:
        metric: as params.yaml has it.
        parts: by part, the rows to learn from and those to score on.
    """

    def __init__(self, place: str, spec: Model, rows: Rows, source: Source | None = None) -> None:
        """`source` says where another process finds the rows.

        Raises:
            StageError: there is no such metric, or the rows cannot be split.
        """
        asked = spec.train.search
        if asked is None:
            raise ValueError("the block has no search")
        self.place, self._spec, self._rows, self._source = place, spec, rows, source
        is_class = is_classifier(first_estimator(f"{place}.train", spec.train))
        metrics = OF_CLASSES if is_class else OF_NUMBERS
        self.metric = asked.metric or metrics[0]
        if self.metric not in metrics:
            raise StageError(f"{place}.train.search.metric = {self.metric!r}: write one of {', '.join(metrics)}")
        try:
            self.parts = list(
                folds(spec.split, rows.features, rows.target, rows.groups, is_class=is_class)
                if spec.split.folds
                else [inner_part(spec.split, rows.features, rows.target, rows.groups, is_class=is_class)]
            )
        except ValueError as error:
            raise StageError(
                f"{place}.train.search: the train part cannot be split for it: {one_line(error)}; leave search out, or "
                f"change {place}.split"
            ) from error

    def __reduce__(self) -> tuple[Any, ...]:
        """Another process reads the rows itself, once."""
        return _again, (self.place, pickle.dumps(self._spec), self._source)

    def score(self, train: Train, part: int) -> dict[str, Any]:
        """The score of a model of the block on a part, or why it has none.

        Raises:
            StageError: the block is none.
        """
        known, held = self.parts[part]
        features, target = self._rows.features, self._rows.target
        try:
            model = fitted(f"{self.place}.train", train, features.iloc[known], target[known])
            measured = measure(predict(model, features.iloc[held], target[held]), intervals=False)
            if self.metric not in measured:
                raise ValueError(f"it has no {self.metric} on the rows held out, but: {', '.join(measured)}")  # noqa: TRY301  (told as what an estimator says)
        except StageError:
            raise
        except Exception as error:  # noqa: BLE001  an estimator of any library, with params of any kind
            return {"failed": f"{type(error).__name__}: {one_line(error)}"}
        return {"score": measured[self.metric]}


@lru_cache(maxsize=1)
def _again(place: str, spec: bytes, source: Source) -> Scoring:
    return Scoring(place, pickle.loads(spec), source.read(), source)  # noqa: S301  (of our own run)


def try_all(scoring: Scoring, blocks: Sequence[Train], workers: Workers) -> Iterator[dict[str, Any]]:
    """Of each block its score, or why it has none, in their order."""
    numbers = range(len(scoring.parts))
    found = workers.map(partial(_score, scoring), [(train, number) for train in blocks for number in numbers])
    for _ in blocks:
        of_parts = [next(found) for _ in numbers]
        failed = next((one for one in of_parts if "failed" in one), None)
        yield failed or {"score": float(np.mean([one["score"] for one in of_parts]))}


def _score(scoring: Scoring, asked: tuple[Train, int]) -> dict[str, Any]:
    return scoring.score(*asked)


@contextmanager
def open_trial_workers(folder: Path, *, reproducible: bool) -> Iterator[Workers]:
    """Who tries: this process, unless the environment names others.

    Args:
        folder: one that all workers see.
        reproducible: whether other machines compute as this one does.

    Raises:
        StageError, OutsideError: as `open_workers`; also for a cluster whose machines may compute otherwise.
    """
    if os.environ.get(ENV_CLUSTER) and not reproducible:
        raise StageError(
            f"{ENV_CLUSTER}: other machines score trials as this one does with reproducible: true alone; set it in "
            f"{PARAMS_FILE}, or unset {ENV_CLUSTER}"
        )
    if not (os.environ.get(ENV_CLUSTER) or os.environ.get(ENV_WORKERS)):
        yield ThisProcess()
        return
    with (
        scratch_folder(folder / "trials") as shared,
        open_workers(__name__, shared) as workers,
    ):
        yield workers
