"""A model fitted part by part: `partial_fit`, or XGBoost's own iterator. One part is in memory at a time."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.base import is_classifier
from sklearn.utils import get_tags

from stages.common.errors import StageError
from stages.common.models import Train
from stages.modelling import table
from stages.training import labels
from stages.training.fitting import build
from stages.training.preparation import is_tree, steps_of

if TYPE_CHECKING:
    import pandas as pd

_REST = "leave in_parts out, or take a `sample`"
Pieces = Callable[[], Iterator[tuple[Any, Any]]]


@dataclass(frozen=True)
class TrainParts:
    """The train half, of which one part is read at a time.

    Attributes:
        path: the file, or the folder of parts.
        target: the column to predict.
        made_by: the stage that makes it.
    """

    path: Path
    target: str
    made_by: str

    def __iter__(self) -> "Iterator[tuple[pd.DataFrame, np.ndarray[Any, Any]]]":
        """Features and target of each part that has rows."""
        for part in table.parts_of(self.path, self.made_by):
            features, target = table.read(part, self.target, self.made_by)
            if len(target):
                yield features, target

    def classes(self) -> "np.ndarray[Any, Any]":
        """The target's values, each once, in order."""
        found: set[Any] = set()
        for part in table.parts_of(self.path, self.made_by):
            found.update(np.unique(table.read(part, self.target, self.made_by, [self.target])[1]).tolist())
        return np.array(sorted(found), object if any(isinstance(value, str) for value in found) else None)


def fitted_in_parts(place: str, spec: Train, parts: TrainParts) -> Any:
    """The model of a block `train` with `in_parts`; the same parts give the same model.

    Raises:
        StageError: the estimator, or a step before it, needs all rows at once, or the columns do not do.
        Exception: as the estimator does.
    """
    estimator, ours = build(place, spec)
    if ours:
        raise StageError(f"{place}.params.{next(iter(ours))} is decided by all rows at once; {_REST}")
    np.random.seed(0)  # noqa: NPY002  as `fitted`
    steps = _steps(place, spec, estimator)
    for number, step in enumerate(steps):
        _fit_step(step, steps[:number], parts)

    def pieces() -> Iterator[tuple[Any, Any]]:
        for features, target in parts:
            if not isinstance(spec.prepare, list):
                _refuse_what_needs_a_step(place, estimator, features)
            yield _through(steps, features), target

    fit = _boost if _is_xgboost(estimator) else _learn
    made = fit(place, spec, estimator, pieces, parts.classes() if is_classifier(estimator) else None)
    if not steps:
        return made
    from sklearn.pipeline import make_pipeline

    return make_pipeline(*steps, made)


def _steps(place: str, spec: Train, estimator: Any) -> list[Any]:
    if isinstance(spec.prepare, list):
        steps = steps_of(spec.prepare, place)
        for number, step in enumerate(steps):
            if not (hasattr(step, "partial_fit") or _has_no_state(step)):
                raise StageError(
                    f"{place}.prepare.{number}: {type(step).__name__} learns from all rows at once, it has no "
                    f"partial_fit; take another, such as StandardScaler or FeatureHasher, or {_REST}"
                )
        return steps
    if spec.prepare == "auto" and not is_tree(estimator):
        from sklearn.preprocessing import StandardScaler

        return [StandardScaler()]
    return []


def _has_no_state(step: Any) -> bool:
    return not get_tags(step).requires_fit


def _fit_step(step: Any, before: list[Any], parts: TrainParts) -> None:
    for features, _ in parts:
        rows = _through(before, features)
        if _has_no_state(step):
            step.fit(rows)
            return
        step.partial_fit(rows)


def _through(steps: list[Any], rows: Any) -> Any:
    for step in steps:
        rows = step.transform(rows)
    return rows


def _refuse_what_needs_a_step(place: str, estimator: Any, features: "pd.DataFrame") -> None:
    odd = [name for name in features.columns if features[name].dtype.kind not in table.NUMERIC]
    missing = [] if get_tags(estimator).input_tags.allow_nan else [n for n in features if features[n].isna().any()]
    if odd or missing:
        name = [*odd, *missing][0]
        what = f"is {table.dtype_name(features[name].dtype)}" if odd else "has missing values"
        raise StageError(
            f"{place}.in_parts: column {name!r} {what}, and what makes numbers of it learns from all rows at once; "
            "make them in the cleaning script, list steps without a state in prepare, or take a `sample`"
        )


def _learn(place: str, spec: Train, estimator: Any, pieces: Pieces, classes: Any) -> Any:
    if not hasattr(estimator, "partial_fit"):
        raise StageError(
            f"{place}.in_parts: {spec.estimator} learns from all rows at once, it has no partial_fit; take "
            f"SGDClassifier, SGDRegressor, MLPClassifier, GaussianNB or an XGBoost model, {_REST}"
        )
    given = {} if classes is None else {"classes": classes}
    for _ in range(spec.epochs):
        for rows, target in pieces():
            estimator.partial_fit(rows, target, **given)
    return estimator


def _is_xgboost(estimator: Any) -> bool:
    return type(estimator).__module__.startswith("xgboost.") and hasattr(estimator, "get_xgb_params")


def _boost(place: str, spec: Train, estimator: Any, pieces: Pieces, classes: Any) -> Any:
    """XGBoost's trees, of bins that it makes part by part; a row takes a byte a column, or so.

    https://xgboost.readthedocs.io/en/stable/tutorials/external_memory.html
    """
    import xgboost

    if spec.epochs > 1:
        raise StageError(
            f"{place}.epochs: {spec.estimator} goes through the rows as often as it has trees; leave it out"
        )
    if estimator.early_stopping_rounds is not None:
        raise StageError(f"{place}.params.early_stopping_rounds asks for rows to stop by; leave it out")

    is_class, known = classes is not None, np.asarray(classes)

    class Rows(xgboost.DataIter):
        def __init__(self) -> None:
            super().__init__(release_data=True)
            self.reset()

        def reset(self) -> None:
            self.left = pieces()

        def next(self, input_data: Any) -> bool:
            for features, target in self.left:
                input_data(data=features, label=np.searchsorted(known, target) if is_class else target)
                return True
            return False

    params = estimator.get_xgb_params()
    if is_class and len(classes) > 2:  # noqa: PLR2004  as XGBClassifier does
        params |= {"objective": "multi:softprob", "num_class": len(classes)}
    bins = xgboost.QuantileDMatrix(Rows(), missing=estimator.missing, max_bin=estimator.max_bin)
    booster = xgboost.train(params, bins, estimator.get_num_boosting_rounds())
    estimator.load_model(booster.save_raw("ubj"))
    estimator.objective = params["objective"]
    return labels.named(estimator, classes) if is_class else estimator
