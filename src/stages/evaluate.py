"""Stage `evaluate`: the saved model on the test part → metrics, plots, importance and a card."""

import csv
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from stages.common.errors import StageError, listed
from stages.common.outputs import replacing, write_json
from stages.common.params import PARAMS_FILE, Params, block
from stages.evaluation import card as model_card
from stages.evaluation import importance as columns
from stages.evaluation import plots as model_plots
from stages.evaluation.metrics import baseline, by_class, roc_curves
from stages.evaluation.rows import test_rows, train_rows
from stages.modelling import model_file, table
from stages.training.metrics import measure
from stages.training.search import best_of

_SHOWN = 10  # columns that a message names


def run(  # noqa: PLR0913  the outputs of dvc.yaml
    key: str,
    params: Params,
    *,
    model: Path,
    train: Path,
    test: Path,
    metrics: Path,
    plots: Path,
    importance: Path,
    card: Path,
    search: Path | None = None,
) -> None:
    """Load `model`, predict `test`, and write metrics, plots, importance and card once all of them are known.

    Raises:
        StageError: the model or a part of the data is missing, broken, or does not fit the other.
    """
    spec = block("models", params.models, key)
    target = spec.target
    made_by = f"split@{key}"
    estimator, modules = model_file.read(model, f"train@{key}")
    learned = train_rows(train, spec, made_by)
    try:
        with np.errstate(over="ignore", invalid="ignore"):  # what comes of numbers near the limit is left out
            tested = test_rows(test, spec, made_by, estimator, learned.features)
            predictions = tested.predictions
            numbers = measure(predictions)
            classes, without = by_class(predictions), baseline(predictions, learned.target)
            ranking, left_out = columns.rank(estimator, *tested.ranked)
            about = model_card.describe(
                estimator, modules, learned.features, tested.features, table.booleans(made_by, train, test)
            )
    except (ValueError, TypeError) as error:
        what = f"{PARAMS_FILE}: models.{key}: {model} cannot be evaluated on {test}"
        raise StageError(f"{what}: {' '.join(str(error).split())}") from error
    place, searched = f"{PARAMS_FILE}: models.{key}", {}
    if spec.train.search is not None:
        searched = _read_search(place, search, f"train@{key}")
        spec = spec.model_copy(update={"train": best_of(f"{place}.train", spec.train, searched)})
    validated = {}
    if spec.split.folds is not None:
        from stages.evaluation.validation import validate

        groups = table.groups_of(train, made_by, spec.train.sample)
        validated["validation"] = validate(place, spec, learned.features, learned.target, groups)
    if predictions.unseen:
        print(
            f"evaluate@{key}: the model was not trained on {predictions.unseen} of {target!r}, so it is wrong on them",
            file=sys.stderr,
        )
    if left_out:
        print(
            f"evaluate@{key}: importance of the {len(ranking)} columns that say most of {target!r} alone; "
            f"left out: {listed(left_out[:_SHOWN])}{' …' if len(left_out) > _SHOWN else ''}",
            file=sys.stderr,
        )
    with replacing(plots) as folder:
        folder.mkdir()
        model_plots.draw(folder, model_plots.Evaluation(key, predictions, numbers, roc_curves(predictions), ranking))
    with replacing(importance) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows([("feature", "importance"), *(row[:2] for row in ranking)])
    about |= {"importance_left_out": left_out} if left_out else {}
    write_json(card, about | ({"search": {k: v for k, v in searched.items() if k != "chosen"}} if searched else {}))
    nested = ({"classes": classes} if classes else {}) | {"baseline": without} | validated
    write_json(metrics, numbers | nested | ({"search": _summary(searched)} if searched else {}))


def _read_search(place: str, path: Path | None, made_by: str) -> dict[str, Any]:
    if path is None:
        raise StageError(f"{place}.train.search: add --search and the file that train writes to evaluate in dvc.yaml")
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise StageError(f"{path} is missing or broken; make it again: dvc repro -f {made_by}") from error
    return found


def _summary(searched: dict[str, Any]) -> dict[str, Any]:
    """Of a search, what is a metric: the best score, the best params that are numbers, how many trials there were."""
    best, trials = searched["best"], searched["trials"]
    numbers = {name: value for name, value in best["params"].items() if type(value) in (int, float)}
    failed = sum("failed" in trial for trial in trials)
    return {"score": best["score"], "trials": len(trials), "failed": failed} | ({"params": numbers} if numbers else {})
