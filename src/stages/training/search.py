"""A model's search: trials with other params, scored on rows of the train part that they were not fitted on.

The trial of a number goes by the seed, its number and what was found before, so that a search that was interrupted and
goes on finds what it would have found.
"""

import hashlib
import json
import os
import re
import sys
import warnings
from collections.abc import Iterable, Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from stages.common.errors import StageError
from stages.common.models import Model, Search, SearchRange, Train
from stages.parts.workers import ThisProcess, Workers
from stages.training.metrics import SMALLER_IS_BETTER
from stages.training.space import with_values
from stages.training.trials import Scoring, try_all

_DECIDING = ("numpy", "optuna", "pandas", "scikit-learn", "scipy", "skrub")  # packages that trials go by
_PATH = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+")


def search(
    scoring: Scoring,
    spec: Model,
    journal: "Journal",
    workers: Workers = ThisProcess(),  # noqa: B008  (it has no state)
) -> dict[str, Any]:
    """Every trial and the best, with `params` by name as in the space; `chosen` is the best's as `best_of` reads it.

    Args:
        scoring: how trials are scored.
        spec: the model's block, with a search.
        journal: of the trials that an interrupted search has done; each is added to it.
        workers: who fits and scores.

    Raises:
        StageError: the space does not fit the estimator, or no trial could be fitted and scored.
    """
    asked, place = spec.train.search, scoring.place
    if asked is None:
        raise ValueError("the block has no search")
    study, smaller = _study(scoring.metric), scoring.metric in SMALLER_IS_BETTER
    spaces = _distributions(asked)
    tried: list[tuple[dict[str, Any], dict[str, Any]]] = []
    for first in range(0, asked.trials, asked.at_once):
        numbers = range(first, min(first + asked.at_once, asked.trials))
        known = journal.known[first : numbers.stop]
        if len(known) == len(numbers):
            _add(study, spaces, known)
            tried += known
            continue
        noted = [chosen for chosen, _ in known]  # what they were tried with, whatever Optuna says by now
        batch = [
            _ask(study, spaces, asked, number, noted[number - first] if number - first < len(noted) else None)
            for number in numbers
        ]
        new: list[dict[str, Any]] = []
        for chosen in batch[len(known) :]:
            if chosen not in new and all(before != chosen for before, _ in (*tried, *known)):
                new.append(chosen)
        blocks = [with_values(f"{place}.train", spec.train, _values(asked, chosen)) for chosen in new]
        found = try_all(scoring, blocks, workers)
        for number, chosen in zip(numbers, batch, strict=True):
            before = (*known, *tried)
            result = next((result for other, result in before if other == chosen), None) or next(found)
            if number - first >= len(known):
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
    of = [str(reproducible)]
    for part in sorted(data.iterdir()) if data.is_dir() else [data]:
        with part.open("rb") as file:
            of.append(hashlib.file_digest(file, "sha256").hexdigest())
    of.append(spec.model_dump_json(exclude={"gates": True, "train": {"search": {"trials"}}}))
    code = Path(__file__).resolve().parents[1]
    of += [hashlib.sha256(file.read_bytes()).hexdigest() for file in sorted(code.rglob("*.py"))]
    of += [f"{name} {_version(name)}" for name in sorted({*_DECIDING, *_packages(spec.train.model_dump())})]
    return hashlib.sha256("\n".join(of).encode()).hexdigest()


def _packages(written: Any) -> Iterator[str]:
    """The package of each estimator that is written somewhere, and of whatever else looks like its import path."""
    if isinstance(written, str) and _PATH.fullmatch(written):
        yield written.partition(".")[0]
    elif isinstance(written, dict | list):
        for inner in written.values() if isinstance(written, dict) else written:
            yield from _packages(inner)


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return str(getattr(sys.modules.get(name), "__version__", ""))


class Journal:
    """The trials of a search that is not over, a line each, in a file that counts for one state of data and params."""

    def __init__(self, path: Path, state: str) -> None:
        self._path = path
        lines = path.read_text(encoding="utf-8").split("\n") if path.is_file() else []
        whole = lines[:-1]  # the last is empty, or was cut off
        self.known: list[tuple[dict[str, Any], dict[str, Any]]] = (
            [tuple(json.loads(line)) for line in whole[1:]] if whole[:1] == [state] else []
        )
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
            if not isinstance(part, SearchRange):
                found[name] = of.CategoricalDistribution(range(len(part)))  # by number: a choice can be of any kind
            elif all(isinstance(value, int) for value in (part.low, part.high, part.step or 1)):
                found[name] = of.IntDistribution(int(part.low), int(part.high), log=part.log, step=int(part.step or 1))
            else:
                found[name] = of.FloatDistribution(float(part.low), float(part.high), log=part.log, step=part.step)
    return found


def _add(study: Any, spaces: dict[str, Any], known: Iterable[tuple[dict[str, Any], dict[str, Any]]]) -> None:
    """Let the study know trials that were done before."""
    from optuna.trial import TrialState, create_trial

    for chosen, result in known:
        done = {"value": result["score"]} if "score" in result else {"state": TrialState.FAIL}
        study.add_trial(create_trial(params=chosen, distributions=spaces, **done))


def _ask(
    study: Any, spaces: dict[str, Any], asked: Search, number: int, noted: dict[str, Any] | None
) -> dict[str, Any]:
    """What the trial is to have, by name and as Optuna says it, by the trials that the study has been told of.

    Of a trial that was done before, that is what was `noted`.
    """
    from optuna.samplers import TPESampler

    if noted is not None:
        study.enqueue_trial(noted)
    study.sampler = TPESampler(seed=int(np.random.SeedSequence([asked.seed, number]).generate_state(1)[0]))
    chosen: dict[str, Any] = study.ask(spaces).params
    return chosen


def _values(asked: Search, chosen: Mapping[str, Any]) -> dict[str, Any]:
    spaces = [(name, part, chosen[name]) for name, part in asked.space.items()]
    return {name: value if isinstance(part, SearchRange) else part[value] for name, part, value in spaces}


def _shown(value: Any) -> Any:
    """The value as JSON takes it."""
    if isinstance(value, dict):
        return {str(key): _shown(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_shown(inner) for inner in value]
    plain = isinstance(value, str | bool | int | None) or (isinstance(value, float) and np.isfinite(value))
    return value if plain else str(value)
