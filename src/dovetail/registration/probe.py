"""A model read and asked once behind the walls of the sandbox, before MLflow shows it and `staging` can name it."""

from pathlib import Path
from typing import Any

from dovetail.errors import UserError
from dovetail.gates.rules import Verdict, names
from dovetail.joblib_model import JoblibModel, NotAllowedError, read
from dovetail.registration.projection import Projection
from dovetail.system.processes import NoAnswer, Worker, start_worker
from dovetail.tracking.model_package import example_of

_SECONDS = 120
_REFUSED, _BROKEN, _MODULE, _WELL = "refused", "broken", "module", "well"


def start(projection: Projection) -> Worker:
    """Begin to read the projection's model and to ask it its card's example.

    Raises:
        UserError: when the card's example is not one.
    """
    artifact = projection.artifact
    return start_worker(_ask, (str(artifact.file), artifact.allow, example_of(artifact.card)))


def finish(projection: Projection, running: Worker) -> tuple[Verdict, ...]:
    """The gate that keeps `staging` where it is, if the model names what nobody allowed.

    Raises:
        UserError: when it is no model that can be read here, has no way to predict, or does not answer its example.
    """
    try:
        result, what = running.result(_SECONDS)
    except NoAnswer as failure:
        result, what = _BROKEN, str(failure)
    if result == _REFUSED:
        return (names(what, projection.artifact.allow),)
    if result != _WELL:
        path = projection.lineage.artifact.path
        following = "write an estimator that has predict there, by joblib.dump, pickle.dump or skops.io.dump"
        if result == _MODULE:
            following = "install it, or set PYTHONPATH to its folder"
        raise UserError(f"{path} is no model that can be served: {what}", following)
    return ()


def _ask(asked: tuple[str, tuple[str, ...], Any]) -> tuple[str, str]:
    file, allow, example = asked
    try:
        model = JoblibModel(read(Path(file).read_bytes(), allow))
        if example is not None:
            model.predict(example)
    except NotAllowedError as error:
        return _REFUSED, error.name
    except Exception as error:  # noqa: BLE001  (a model can raise anything)
        kind = _MODULE if isinstance(error.__cause__ or error, ModuleNotFoundError) else _BROKEN
        return kind, " ".join(str(error).split())[:500] or type(error).__name__
    return _WELL, ""
