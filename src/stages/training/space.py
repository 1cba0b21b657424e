"""A search's space: its names are places in a model's block, where what was chosen is written."""

from collections.abc import Mapping
from copy import deepcopy
from typing import Any

from pydantic import ValidationError

from stages.common.errors import StageError
from stages.common.models import SearchRange, Step, Train
from stages.training.estimator import ESTIMATOR, PARAMS
from stages.training.fitting import build

PREPARE = "prepare"


def with_values(place: str, train: Train, values: Mapping[str, Any]) -> Train:
    """The block `train` with the values in it, and without its search: what one would write to have this model.

    Args:
        place: of the block in params.yaml, for messages.
        train: the block.
        values: by name as in the search's space.

    Raises:
        StageError: a name leads nowhere, or a value is none for `prepare`.
    """
    params = deepcopy(train.params)
    prepare: Any = values.get(PREPARE, train.prepare)
    for name, value in values.items():
        where = f"{place}.search.space.{name}"
        head, *rest = name.split("__")
        if head == PREPARE and rest:
            prepare = _with_step(where, prepare, rest, value)
        elif name != PREPARE:
            _set(where, params, [head, *rest], value)
    try:
        asked = Train.model_validate({ESTIMATOR: train.estimator, PARAMS: params, PREPARE: prepare})
    except ValidationError as error:
        raise StageError(
            f"{place}.search.space.{PREPARE}: {prepare!r} is none of auto, minimal, none, or a list of steps"
        ) from error
    return train.model_copy(update={PARAMS: asked.params, PREPARE: asked.prepare, "search": None})


def first_estimator(place: str, train: Train) -> Any:
    """The estimator of the block, with the first value of each name in the space of its search, if it has one.

    Raises:
        StageError: a param that it does not take.
    """
    if train.search is None:
        return build(place, train)[0]
    spaces = train.search.space.items()
    values = {name: part.low if isinstance(part, SearchRange) else part[0] for name, part in spaces}
    tried = with_values(place, train, values)
    try:
        return build(place, tried)[0]
    except StageError as error:
        raise StageError(f"{place}.search.space: with {values}: {error}") from error


def _set(where: str, params: dict[str, Any], names: list[str], value: Any) -> None:
    *heads, last = names
    for head in heads:
        inner = next(_estimators(params, head), None)
        if inner is None:
            raise StageError(f"{where}: params has no estimator {head!r}; write it there as {{estimator: path}}")
        if not isinstance(inner.get(PARAMS), dict):
            inner[PARAMS] = {}
        params = inner[PARAMS]
    params[last] = value


def _estimators(params: dict[str, Any], name: str) -> Any:
    """What is written as an estimator under this name, be it a param or the name of a step."""
    steps = [part for value in params.values() if isinstance(value, list) for part in value]
    named = [part[1] for part in steps if isinstance(part, list) and len(part) > 1 and part[0] == name]
    for found in [params.get(name), *named]:
        if isinstance(found, dict) and ESTIMATOR in found:
            yield found


def _with_step(where: str, prepare: Any, names: list[str], value: Any) -> list[dict[str, Any]]:
    steps = [_written(step) for step in (prepare if isinstance(prepare, list) else ())]
    name, *inside = names
    found = next((step for step in steps if str(step[ESTIMATOR]).rpartition(".")[2].lower() == name), None)
    if found is None or not inside:
        raise StageError(f"{where}: prepare has no step {name!r}; list its steps there, by import path")
    _set(where, found[PARAMS], inside, value)
    return steps


def _written(step: Any) -> dict[str, Any]:
    """A step with its params, as it can be written out."""
    if isinstance(step, Step):
        return {ESTIMATOR: step.estimator, PARAMS: deepcopy(step.params)}
    given = step if isinstance(step, dict) else {ESTIMATOR: step}
    return {ESTIMATOR: given.get(ESTIMATOR), PARAMS: deepcopy(given.get(PARAMS) or {})}
