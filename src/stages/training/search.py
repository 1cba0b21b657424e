"""A model's search: trials with other params, scored on rows of the train part that they were not fitted on.

The trial of a number goes by the seed, its number and what was found before, so that a search that was interrupted and
goes on finds what it would have found.
"""

import hashlib
import json
import os
import sys
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.base import is_classifier

from stages.common.errors import StageError
from stages.common.models import Model, Range, Search, Train
from stages.training.estimator import one_line
from stages.training.fitting import fitted
from stages.training.folds import folds, inner_part
from stages.training.metrics import OF_CLASSES, OF_NUMBERS, SMALLER_IS_BETTER, measure, predict
from stages.training.space import first_estimator, with_values


@dataclass(frozen=True)
class Rows:
    """The train part: features and target by row, and the number of each row's group where it is split by group."""

    features: Any
    target: Any
    groups: Any = None


@dataclass(frozen=True)
class _Scoring:
    """How a trial is scored: by the mean of a metric over parts of the rows."""

    place: str
    metric: str
    parts: list[tuple[Any, Any]]
    rows: Rows

    def __call__(self, train: Train) -> float:
        found = []
        for known, held in self.parts:
            features, target = self.rows.features, self.rows.target
            model = fitted(f"{self.place}.train", train, features.iloc[known], target[known])
            measured = measure(predict(model, features.iloc[held], target[held]), intervals=False)
            if self.metric not in measured:
                raise ValueError(f"it has no {self.metric} on the rows held out, but: {', '.join(measured)}")
            found.append(measured[self.metric])
        return float(np.mean(found))


def search(place: str, spec: Model, rows: Rows, journal: "Journal") -> dict[str, Any]:
    """Every trial and the best, with `params` by name as in the space; `chosen` is the best's as `best_of` reads it.

    Args:
        place: of the model's block in params.yaml, for messages.
        spec: the block, with a search.
        rows: the train part.
        journal: of the trials that an interrupted search has done; each is added to it.

    Raises:
        StageError: the space does not fit the estimator, or no trial could be fitted and scored.
    """
    asked = spec.train.search
    if asked is None:
        raise ValueError("the block has no search")
    scoring = _scoring(place, spec, asked, rows)
    study, smaller = _study(scoring.metric), scoring.metric in SMALLER_IS_BETTER
    spaces = _distributions(asked)
    tried: list[tuple[dict[str, Any], dict[str, Any]]] = []
    for number, (chosen, known) in enumerate(_chosen(study, spaces, asked, journal)):
        result = known or next((result for before, result in tried if before == chosen), None)
        result = result or _tried(place, spec.train, _values(asked, chosen), scoring)
        if known is None:
            journal.add(chosen, result)
            study.tell(number, result.get("score"), state=None if "score" in result else _failed())
        tried.append((chosen, result))
    trials = [
        {"trial": number, "params": _shown(_values(asked, chosen)), **result}
        for number, (chosen, result) in enumerate(tried)
    ]
    done = [trial for trial in trials if "score" in trial]
    if not done:
        raise StageError(f"{place}.train.search: none of {len(trials)} trials could be scored: {trials[0]['failed']}")
    best = min(done, key=lambda trial: trial["score"] if smaller else -trial["score"])
    return {
        "metric": scoring.metric,
        "scored_on": f"{f'{spec.split.folds} folds' if spec.split.folds else 'a part'} of the train part",
        "best": best,
        "chosen": tried[best["trial"]][0],
        "trials": trials,
    }


def best_of(place: str, train: Train, found: Mapping[str, Any]) -> Train:
    """The block with the params of the best trial that `search` found.

    Raises:
        StageError: the search was another one.
    """
    try:
        values = _values(train.search, found["chosen"]) if train.search else {}
    except (KeyError, IndexError, TypeError) as error:
        raise StageError(f"{place}.search is not the one that was carried out; run train again") from error
    return with_values(place, train, values)


def state_of(data: Path, spec: Model, *, reproducible: bool) -> str:
    """A digest of all that the trials go by: train part, params, code, packages."""
    with data.open("rb") as file:
        of = [hashlib.file_digest(file, "sha256").hexdigest(), str(reproducible)]
    of.append(spec.model_dump_json(exclude={"gates": True, "train": {"search": {"trials"}}}))
    code = Path(__file__).resolve().parents[1]
    of += [hashlib.sha256(file.read_bytes()).hexdigest() for file in sorted(code.rglob("*.py"))]
    own = spec.train.estimator.partition(".")[0]
    of += [str(getattr(sys.modules.get(name), "__version__", "")) for name in ("numpy", "sklearn", own)]
    return hashlib.sha256("\n".join(of).encode()).hexdigest()


class Journal:
    """The trials of a search that is not over, a line each, in a file that counts for one state of data and params."""

    def __init__(self, path: Path, state: str) -> None:
        self._path = path
        lines = path.read_text(encoding="utf-8").split("\n") if path.is_file() else []
        whole = lines[:-1]  # the last is empty, or was cut off
        self.known = [json.loads(line) for line in whole[1:]] if whole[:1] == [state] else []
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join([state, *(whole[1:] if self.known else []), ""]), encoding="utf-8")

    def add(self, chosen: Mapping[str, Any], result: Mapping[str, Any]) -> None:
        """Note a trial, so that it stays whatever happens next."""
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps([chosen, result]) + "\n")
            file.flush()
            os.fsync(file.fileno())

    def remove(self) -> None:
        """Delete the file: what it was for is done."""
        self._path.unlink(missing_ok=True)


def _scoring(place: str, spec: Model, asked: Search, rows: Rows) -> _Scoring:
    is_class = is_classifier(first_estimator(f"{place}.train", spec.train))
    metrics = OF_CLASSES if is_class else OF_NUMBERS
    metric = asked.metric or metrics[0]
    if metric not in metrics:
        raise StageError(f"{place}.train.search.metric = {metric!r}: write one of {', '.join(metrics)}")
    try:
        parts = list(
            folds(spec.split, rows.target, rows.groups, is_class=is_class)
            if spec.split.folds
            else [inner_part(spec.split, rows.target, rows.groups, is_class=is_class)]
        )
    except ValueError as error:
        raise StageError(
            f"{place}.train.search: the train part cannot be split for it: {one_line(error)}; leave search out, or "
            f"change {place}.split"
        ) from error
    return _Scoring(place, metric, parts, rows)


def _tried(place: str, train: Train, values: dict[str, Any], scoring: _Scoring) -> dict[str, Any]:
    """The trial's score, or why it has none."""
    try:
        score = scoring(with_values(f"{place}.train", train, values))
    except StageError:
        raise
    except Exception as error:  # noqa: BLE001  an estimator of any library, with params of any kind
        return {"failed": f"{type(error).__name__}: {one_line(error)}"}
    return {"score": score}


def _study(metric: str) -> Any:
    try:
        import optuna
    except ImportError as error:
        raise StageError(f"search needs Optuna ({error}); install it: python -m pip install optuna") from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna.create_study(direction="minimize" if metric in SMALLER_IS_BETTER else "maximize")


def _failed() -> Any:
    from optuna.trial import TrialState

    return TrialState.FAIL


def _distributions(asked: Search) -> dict[str, Any]:
    from optuna import distributions as of

    found: dict[str, Any] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a high that no step reaches
        for name, part in asked.space.items():
            if not isinstance(part, Range):
                found[name] = of.CategoricalDistribution(range(len(part)))  # by number: a choice can be of any kind
            elif all(isinstance(value, int) for value in (part.low, part.high, part.step or 1)):
                found[name] = of.IntDistribution(int(part.low), int(part.high), log=part.log, step=int(part.step or 1))
            else:
                found[name] = of.FloatDistribution(float(part.low), float(part.high), log=part.log, step=part.step)
    return found


def _chosen(
    study: Any, spaces: dict[str, Any], asked: Search, journal: Journal
) -> Iterator[tuple[dict[str, Any], dict[str, Any] | None]]:
    """What each trial is to have, by name and as Optuna says it; with its result where the journal has it."""
    from optuna.samplers import TPESampler
    from optuna.trial import TrialState, create_trial

    for chosen, result in journal.known[: asked.trials]:
        done = {"value": result["score"]} if "score" in result else {"state": TrialState.FAIL}
        study.add_trial(create_trial(params=chosen, distributions=spaces, **done))
        yield chosen, result
    for number in range(len(journal.known), asked.trials):
        study.sampler = TPESampler(seed=int(np.random.SeedSequence([asked.seed, number]).generate_state(1)[0]))
        yield study.ask(spaces).params, None


def _values(asked: Search, chosen: Mapping[str, Any]) -> dict[str, Any]:
    spaces = [(name, part, chosen[name]) for name, part in asked.space.items()]
    return {name: value if isinstance(part, Range) else part[value] for name, part, value in spaces}


def _shown(value: Any) -> Any:
    """The value as JSON takes it."""
    if isinstance(value, dict):
        return {str(key): _shown(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_shown(inner) for inner in value]
    plain = isinstance(value, str | bool | int | None) or (isinstance(value, float) and np.isfinite(value))
    return value if plain else str(value)
