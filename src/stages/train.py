"""Stage `train`: the train part → a fitted scikit-learn compatible model in its file."""

import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.base import is_classifier, is_regressor

from stages.common.errors import StageError
from stages.common.models import Model
from stages.common.outputs import replacing, write_json
from stages.common.params import PARAMS_FILE, Params, block
from stages.modelling import model_file, table
from stages.training import search as searching
from stages.training.estimator import one_line
from stages.training.fitting import build, fitted
from stages.training.in_parts import TrainParts, fitted_in_parts
from stages.training.preparation import prepare, scales_apart
from stages.training.search import Journal, best_of
from stages.training.space import first_estimator
from stages.training.trials import Rows, Scoring, Source, open_trial_workers

_ODD_IN_A_NAME = re.compile(r'[\[\]{}<>",:]')  # signs that LightGBM's and XGBoost's own formats cannot write


def run(key: str, params: Params, *, train: Path, model: Path, search: Path | None = None) -> None:
    """Fit models.KEY.train.estimator on `train`, with what `prepare` puts before it, and write `model`.

    Where there is a search, its best params are taken; `search` gets every trial, and is empty without one.

    Raises:
        StageError: the estimator, its params or the data do not do.
    """
    spec = block("models", params.models, key)
    place = f"{PARAMS_FILE}: models.{key}.train"
    made_by, sample = f"split@{key}", spec.train.sample
    estimator = first_estimator(place, spec.train)
    parts = TrainParts(train, spec.target, made_by)
    in_parts = spec.train.in_parts
    features, target = next(iter(parts)) if in_parts else table.read(train, spec.target, made_by, sample=sample)
    classes = parts.classes() if in_parts and is_classifier(estimator) else target
    _check_target(train, place, spec, estimator, classes)
    found: dict[str, Any] = {}
    journal = None
    if spec.train.search is not None:
        source = Source(train, spec.target, made_by, sample)
        rows = Rows(features, target, table.groups_of(train, made_by, sample))
        found, journal = _searched(
            key, params, train, Scoring(f"{PARAMS_FILE}: models.{key}", spec, rows, source), search
        )
        spec = spec.model_copy(update={"train": best_of(place, spec.train, found)})
        estimator, _ = build(place, spec.train)
    is_bare = prepare(estimator, features, spec.train.prepare, place) is estimator
    if is_bare and (apart := scales_apart(estimator, features)):
        print(
            f"train@{key}: {spec.train.estimator} goes by scales, and {apart}; perhaps {place}.prepare: auto",
            file=sys.stderr,
        )
    try:
        made = fitted_in_parts(place, spec.train, parts) if in_parts else fitted(place, spec.train, features, target)
    except StageError:
        raise
    except Exception as error:  # an estimator of any library, with params of any kind, can raise anything
        # scikit-learn checks values of params when it fits; its error for them is both a ValueError and a TypeError.
        about_params = isinstance(error, ValueError) and isinstance(error, TypeError)
        what = f"{place}.params" if about_params else f"{place} ({spec.train.estimator}) cannot be fitted on {train}"
        help_ = "" if about_params else _remedy(spec, features)
        kind = "" if isinstance(error, ValueError | TypeError) else f"{type(error).__name__}: "
        raise StageError(f"{what}: {kind}{one_line(error)}{help_}") from error
    with replacing(model) as temporary:
        model_file.write(made, temporary, model)
        if search is not None:
            write_json(search, found)
    if journal is not None:
        journal.remove()


def _searched(
    key: str, params: Params, train: Path, scoring: Scoring, out: Path | None
) -> tuple[dict[str, Any], Journal]:
    """What the search found, and the journal to remove once that is kept."""
    spec = params.models[key]
    if out is None:
        raise StageError(
            f"{PARAMS_FILE}: models.{key}.train.search: dvc.yaml does not say where trials are kept; add "
            "--search models/${key}.search.json to its stage train, and this file to the outs"
        )
    state = searching.state_of(train, spec, reproducible=params.reproducible)
    journal = Journal(out.with_name(f".{out.name}.journal.tmp"), state)
    if journal.known:
        print(f"train@{key}: {len(journal.known)} trials are done already")
    with open_trial_workers(out.parent, reproducible=params.reproducible) as workers:
        found = searching.search(scoring, spec, journal, workers)
    best = found["best"]
    print(
        f"train@{key}: best of {len(found['trials'])} trials, by {found['metric']} on {found['scored_on']}: "
        f"{best['score']:.4g} with {best['params']}"
    )
    return found, journal


def _remedy(spec: Model, features: Any) -> str:
    """What may help an estimator that cannot be fitted."""
    if spec.train.prepare == "none":
        return "; perhaps prepare: auto"
    odd = [name for name in features.columns if _ODD_IN_A_NAME.search(name)]
    return f"; if it is the names, rename columns such as {odd[0]!r} in the cleaning script" if odd else ""


def _check_target(path: Path, place: str, spec: Model, estimator: Any, target: Any) -> None:
    if is_regressor(estimator):
        if target.dtype.kind not in "if":
            kind = table.dtype_name(target.dtype)
            raise StageError(
                f"{place}: {spec.train.estimator} predicts numbers, but target {spec.target!r} in {path} is {kind}"
            )
    elif target.dtype.kind in "fM":
        raise StageError(
            f"{place}: {spec.train.estimator} predicts classes, but target {spec.target!r} in {path} is continuous "
            f"({table.dtype_name(target.dtype)}); take a regressor, or make it whole numbers or text in cleaning"
        )
    elif len(np.unique(target)) == 1:
        raise StageError(f"{path}: the target {spec.target!r} has one class, {target[0]!r}; there is nothing to learn")
