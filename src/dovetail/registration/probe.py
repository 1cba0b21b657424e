"""A model read and asked once behind the walls of the sandbox, before MLflow shows it and `staging` can name it."""

from pathlib import Path
from typing import Any

from dovetail.errors import UserError
from dovetail.gates.gate_verdict import Verdict
from dovetail.gates.rules import names
from dovetail.joblib_model import JoblibModel, NotAllowedError
from dovetail.models.reader import UnsupportedError, named_otherwise, read
from dovetail.registration.projection import Projection
from dovetail.system.processes import NoAnswer, Worker, silence, start_worker
from dovetail.tracking.model_package import example_of

_SECONDS = 120
_REFUSED, _BROKEN, _MODULE, _WELL = "refused", "broken", "module", "well"
_PREDICTS = "write an estimator that has predict there, by joblib.dump, pickle.dump or skops.io.dump"
_INSTALL = "install it, or set PYTHONPATH to its folder"


def start(projection: Projection) -> Worker:
    """Begin to read the projection's model and to ask it its card's example.

    Raises:
        UserError: when the card's example is not one.
    """
    artifact = projection.artifact
    return start_worker(_ask, (str(artifact.file), artifact.allow, example_of(artifact.card)), _quiet)


def finish(projection: Projection, running: Worker) -> tuple[Verdict, ...]:
    """The gate that keeps `staging` where it is, if the model names what nobody allowed.

    Raises:
        UserError: when it is no model that can be read here, has no way to predict, or does not answer its example.
    """
    try:
        result, what, remedy = running.result(_SECONDS)
    except NoAnswer as failure:
        result, what, remedy = _BROKEN, str(failure), _PREDICTS
    if result == _REFUSED:
        return (names(what, projection.artifact.allow),)
    if result != _WELL:
        raise UserError(f"{projection.lineage.artifact.path} is no model that can be served: {what}", remedy)
    return ()


def refusal(file: Path, allow: tuple[str, ...]) -> tuple[str, str]:
    """The first name in the model that is not allowed, and why it cannot be read or does not predict; empty: well."""
    try:
        result, what, _ = start_worker(_ask, (str(file), allow, None), _quiet).result(_SECONDS)
    except NoAnswer as failure:
        return "", str(failure)
    return (what, "") if result == _REFUSED else ("", what)


def _quiet(asked: tuple[str, tuple[str, ...], Any]) -> tuple[str, tuple[str, ...], Any]:
    silence()  # before the walls: behind them nothing is opened to be written
    return asked


def _ask(asked: tuple[str, tuple[str, ...], Any]) -> tuple[str, str, str]:
    file, allow, example = asked
    try:
        model = JoblibModel(read(Path(file).read_bytes(), allow))
        if example is not None:
            model.predict(example)
    except NotAllowedError as error:
        return _REFUSED, error.name, ""
    except UnsupportedError as error:
        return _BROKEN, str(error), error.remedy
    except Exception as error:  # noqa: BLE001  (a model can raise anything)
        what = named_otherwise(Path(file).name, error) + (" ".join(str(error).split())[:500] or type(error).__name__)
        if isinstance(error.__cause__ or error, ModuleNotFoundError):
            return _MODULE, what, _INSTALL
        return _BROKEN, what, _PREDICTS
    return _WELL, "", ""
