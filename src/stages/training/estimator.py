"""Estimators as params.yaml names them: an import path and params, which may hold others written alike."""

import difflib
import inspect
from importlib import import_module
from typing import Any

from stages.common.errors import StageError

ESTIMATOR, PARAMS = "estimator", "params"


def build(place: str, path: str, params: dict[str, Any]) -> Any:
    """The object that `path` names, with its params; those written `{estimator: path, params: {…}}` are built first.

    Args:
        place: of the block with `estimator` and `params` in params.yaml, for messages.
        path: where a class is imported from.
        params: what it is called with.

    Raises:
        StageError: a path does not import or names no estimator, a param is unknown or rejected.
    """
    cls, allowed = _class(place, path)
    what = f"{place}.{PARAMS}"
    takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in allowed.values())
    if not takes_any and (unknown := [name for name in params if name not in allowed]):
        raise StageError(f"{what}: unknown param {unknown[0]!r}; {cls.__name__} takes: {', '.join(allowed)}")
    built = {name: _built(f"{what}.{name}", value) for name, value in params.items()}
    try:
        return cls(**built)
    except Exception as error:  # a class of somebody else's can raise anything
        raise StageError(f"{what}: {cls.__name__} rejects {params}: {one_line(error)}") from error


def params_of(place: str, path: str) -> Any:
    """The params that the class at `path` names.

    Raises:
        StageError: as `build`.
    """
    return _class(place, path)[1]


def _class(place: str, path: str) -> tuple[Any, Any]:
    cls = _load(f"{place}.{ESTIMATOR}", path)
    if not (inspect.isclass(cls) and hasattr(cls, "fit")):
        raise StageError(f"{place}.{ESTIMATOR} = {path!r} is not an estimator: a class with fit and predict")
    try:
        return cls, inspect.signature(cls).parameters
    except ValueError as error:  # a class of an extension module need not say
        raise StageError(f"{place}.{ESTIMATOR} = {path!r} does not say what it takes: {error}") from error


def _built(place: str, value: Any) -> Any:
    if isinstance(value, dict):
        if isinstance(value.get(ESTIMATOR), str) and value.keys() <= {ESTIMATOR, PARAMS}:
            params = value.get(PARAMS) or {}
            if not (isinstance(params, dict) and all(isinstance(name, str) for name in params)):
                raise StageError(f"{place}.{PARAMS} = {params!r}: write params by name, {{alpha: 1}}")
            return build(place, value[ESTIMATOR], params)
        return {name: _built(f"{place}.{name}", inner) for name, inner in value.items()}
    if isinstance(value, list):
        parts = [_built(f"{place}.{number}", inner) for number, inner in enumerate(value)]
        is_step = len(parts) > 1 and isinstance(parts[0], str) and any(hasattr(part, "fit") for part in parts)
        return tuple(parts) if is_step else parts  # YAML has no tuples, and steps are (name, estimator)
    return value


def _load(place: str, path: str) -> Any:
    where, _, name = path.rpartition(".")
    try:
        module = import_module(where)
    except Exception as error:  # a module of the user's own can raise anything
        raise StageError(f"{place} = {path!r} does not import: {type(error).__name__}: {one_line(error)}") from error
    if not hasattr(module, name):
        near = difflib.get_close_matches(name, dir(module), n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise StageError(f"{place} = {path!r} does not import: {where} has no {name}{hint}")
    return getattr(module, name)


def one_line(error: Exception) -> str:
    """The error's message in one line."""
    return " ".join(str(error).split())[:500]
