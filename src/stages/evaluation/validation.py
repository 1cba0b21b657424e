"""Validation in folds of the train part: how well models made alike do on rows that they have not seen."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from sklearn.base import is_classifier

from stages.common.errors import StageError
from stages.common.models import Model
from stages.evaluation.metrics import measure, predict
from stages.training.estimator import one_line
from stages.training.fitting import build, fitted

_BOUND = 0.975  # of a 95 % interval


def validate(place: str, spec: Model, features: Any, target: Any, groups: Any) -> dict[str, float]:
    """The mean of each metric over the folds, with its 95 % interval as `<metric>_low` and `<metric>_high`.

    The folds share most of their train rows, so that their spread is too small: it is widened as Nadeau & Bengio
    (2003), "Inference for the Generalization Error", equation 9, do.

    Args:
        place: of the model's block in params.yaml, for messages.
        spec: the block; its `split` says how folds are made.
        features: of the train part, by row.
        target: by row.
        groups: the number of each row's group, where the split is by group.

    Raises:
        StageError: the rows are too few for the folds, or a model cannot be fitted on one.
    """
    found: list[dict[str, float]] = []
    ratios = []
    try:
        for known, held in _folds(place, spec, target, groups):
            model = fitted(f"{place}.train", spec.train, features.iloc[known], target[known])
            found.append(measure(predict(model, features.iloc[held], target[held])))
            ratios.append(len(held) / len(known))
    except StageError:
        raise
    except Exception as error:  # the folds' own words, or an estimator's on rows that lack what others have
        raise StageError(
            f"{place}.split.folds = {spec.split.folds}: {one_line(error)}; take fewer folds, or leave it out"
        ) from error
    names = [name for name in found[0] if all(name in one for one in found) and not name.endswith(("_low", "_high"))]
    result: dict[str, float] = {}
    for name in names:
        if name != "rows":
            values = np.array([one[name] for one in found])
            spread = _t(len(values)) * np.sqrt(values.var(ddof=1) * (1 / len(values) + np.mean(ratios)))
            mean = float(values.mean())
            result |= {name: mean, f"{name}_low": float(mean - spread), f"{name}_high": float(mean + spread)}
    return {name: value for name, value in result.items() if np.isfinite(value)} | {"fits": len(found)}


def _t(values: int) -> float:
    from scipy.stats import t

    return float(t.ppf(_BOUND, values - 1))


def _folds(place: str, spec: Model, target: Any, groups: Any) -> Iterator[tuple[Any, Any]]:
    from sklearn import model_selection as ways

    how, rows = spec.split, np.zeros(len(target))
    folds = int(how.folds or 2)
    if how.time is not None:
        return iter(ways.TimeSeriesSplit(folds).split(rows))  # the rows are in the order of time
    if groups is not None:
        return iter(ways.GroupKFold(folds).split(rows, groups=groups))
    if is_classifier(build(f"{place}.train", spec.train)[0]) and np.unique(target, return_counts=True)[1].min() >= folds:
        return iter(
            ways.RepeatedStratifiedKFold(n_splits=folds, n_repeats=how.repeats, random_state=how.seed).split(
                rows, target
            )
        )
    return iter(ways.RepeatedKFold(n_splits=folds, n_repeats=how.repeats, random_state=how.seed).split(rows))
