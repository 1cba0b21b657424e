"""What is put before an estimator: scaling, encoding, imputing, dates and text, by skrub or by a list of steps."""

from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.base import is_regressor
from sklearn.utils import get_tags

from stages.common.errors import StageError
from stages.common.models import Step
from stages.modelling import table
from stages.training.estimator import build

if TYPE_CHECKING:
    import pandas as pd

_TREES = ("Tree", "Forest", "GradientBoosting", "XGB", "LGBM", "CatBoost", "Dummy")
_BY_SCALE = (
    "sklearn.svm",
    "sklearn.neighbors",
    "sklearn.neural_network",
    "sklearn.linear_model",
    "sklearn.kernel_ridge",
)
_BY_SCALE_OF_TARGET = ("sklearn.svm", "sklearn.neural_network")
_APART = 100  # times another column's spread: then the small one has no say in a distance or a penalty


def prepare(estimator: Any, features: "pd.DataFrame", how: str | list[str | Step], place: str) -> Any:
    """The estimator with what `how` puts before it.

    Args:
        estimator: not fitted.
        features: what it is to be fitted on.
        how: `auto`: what the estimator needs to do well: columns on one scale unless it is made of trees, and what
            `minimal` does. `minimal`: what it cannot do without: text, dates and missing values made numbers.
            `none`: nothing. Or steps, in their order.
        place: of the model's block in params.yaml, for messages.

    Raises:
        StageError: a step that does not transform.
    """
    if how == "none":
        return estimator
    if isinstance(how, list):
        from sklearn.pipeline import make_pipeline

        return make_pipeline(*steps_of(how, place), estimator)
    takes_missing = get_tags(estimator).input_tags.allow_nan
    numeric = all(dtype.kind in table.NUMERIC for dtype in features.dtypes)
    if numeric and (takes_missing or not features.isna().any(axis=None)) and (how == "minimal" or is_tree(estimator)):
        return estimator
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import StandardScaler
    from skrub import SquashingScaler, tabular_pipeline  # 1 s: only where it is needed

    pipeline = tabular_pipeline(estimator)
    if how == "minimal":
        return pipeline
    *before, (name, _) = pipeline.steps
    before = [step for step in before if not isinstance(step[1], SquashingScaler)]
    if is_tree(estimator):
        return Pipeline([*before, (name, estimator)])
    # skrub's scaler squashes what lies far out, and with it a little of what an estimator told rows apart by.
    return Pipeline([*before, ("standardscaler", StandardScaler()), (name, _on_one_scale(estimator))])


def _on_one_scale(estimator: Any) -> Any:
    """The estimator; one whose defaults go by the target's scale, too, with a target of deviation 1."""
    if not (is_regressor(estimator) and type(estimator).__module__.startswith(_BY_SCALE_OF_TARGET)):
        return estimator
    from sklearn.compose import TransformedTargetRegressor
    from sklearn.preprocessing import StandardScaler

    return TransformedTargetRegressor(estimator, transformer=StandardScaler())


def is_tree(estimator: Any) -> bool:
    """Whether an estimator asks for no more of a number than its order, as trees do."""
    return any(name in type(estimator).__name__ for name in _TREES)


def scales_apart(estimator: Any, features: "pd.DataFrame") -> str:
    """The two columns whose scales differ so much that an estimator that goes by them hardly sees one; or nothing."""
    if not type(estimator).__module__.startswith(_BY_SCALE):
        return ""
    numbers = features.select_dtypes("number")
    with np.errstate(over="ignore"):
        spread = numbers.std().replace([np.inf, 0], np.nan).dropna()
    if len(spread) < 2 or spread.max() <= _APART * spread.min():  # noqa: PLR2004  two columns to differ
        return ""
    wide, narrow = spread.idxmax(), spread.idxmin()
    return f"{wide!r} is spread {spread.max() / spread.min():.0f} times as wide as {narrow!r}"


def steps_of(how: list[str | Step], place: str) -> list[Any]:
    """The steps of a list, not fitted.

    Raises:
        StageError: one does not transform.
    """
    steps = []
    for number, step in enumerate(how):
        where = f"{place}.prepare.{number}"
        path, params = (step, {}) if isinstance(step, str) else (step.estimator, step.params)
        built = build(where, path, params)
        if not hasattr(built, "transform"):
            raise StageError(f"{where} = {path!r} has no transform; only the estimator itself predicts")
        steps.append(built)
    return steps
