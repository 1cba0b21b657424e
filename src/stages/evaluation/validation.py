"""Validation in folds of the train part: how well models made alike do on rows that they have not seen."""

from typing import Any

import numpy as np
from sklearn.base import is_classifier

from stages.common.errors import StageError
from stages.common.models import Model
from stages.evaluation.metrics import baseline
from stages.training.estimator import one_line
from stages.training.fitting import build, fitted
from stages.training.folds import folds
from stages.training.metrics import measure, predict

_BOUND = 0.975  # of a 95 % interval


def validate(place: str, spec: Model, features: Any, target: Any, groups: Any) -> dict[str, Any]:
    """The mean of each metric over the folds, with its 95 % interval as `<metric>_low` and `<metric>_high`.

    `baseline` has the means of a model that sees no feature, on the same folds.

    The folds share most of their train rows, so that their spread is too small: it is widened as Nadeau & Bengio
    (2003), "Inference for the Generalization Error", equation 9, do.

    Args:
        place: of the model's block in params.yaml, for messages.
        spec: the block; its `split` says how folds are made.
        features: of the train part, by row.
        target: by row.
        groups: the number of each row's group or time, where the split is by that.

    Raises:
        StageError: the rows are too few for the folds, or a model cannot be fitted on one.
    """
    found: list[dict[str, float]] = []
    without: list[dict[str, float]] = []
    ratios = []
    try:
        is_class = is_classifier(build(f"{place}.train", spec.train)[0])
        for known, held in folds(spec.split, features, target, groups, is_class=is_class):
            model = fitted(f"{place}.train", spec.train, features.iloc[known], target[known])
            predictions = predict(model, features.iloc[held], target[held])
            found.append(measure(predictions, intervals=False))
            without.append(baseline(predictions, target[known]))
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
    result = {name: value for name, value in result.items() if np.isfinite(value)} | {"fits": len(found)}
    known = [name for name in names if name in result and all(name in one for one in without)]
    return {**result, "baseline": {name: float(np.mean([one[name] for one in without])) for name in known}}


def _t(values: int) -> float:
    from scipy.stats import t

    return float(t.ppf(_BOUND, values - 1))
