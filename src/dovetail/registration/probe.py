"""A model read and asked once behind the walls of the sandbox, before MLflow shows it and `staging` can name it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from dovetail.errors import UserError
from dovetail.gates.gate_verdict import Verdict
from dovetail.gates.rules import names
from dovetail.joblib_model import JoblibModel, NotAllowedError
from dovetail.models.reader import UnsupportedError, UntrustedLoaderError, named_otherwise, read_at
from dovetail.models.unsupported import ESTIMATOR
from dovetail.models.value import NoValueError, value_digest
from dovetail.registration.projection import Projection
from dovetail.system.processes import NoAnswer, TookTooLong, Worker, WorkServer, start_worker
from dovetail.tracking.model_package import example_of
from dovetail.values.computing import of_process

_SECONDS = 120
_REFUSED, _BROKEN, _LACKING, _WELL = "refused", "broken", "lacking", "well"  # lacking: something on this machine
_TAKES_LESS = "run the same command again, or write a model there that takes less"
_INSTALL = "install it, or set PYTHONPATH to its folder"


class _ProbeRequest(NamedTuple):
    """A file, the names that its pickle may name besides the usual, and the rows that it is asked for."""

    file: str
    allow: tuple[str, ...]
    example: Any = None


class _ProbeReply(NamedTuple):
    result: str
    what: str = ""
    next_command: str = ""
    value: str | None = None
    computing: Mapping[str, str] = {}


@dataclass(frozen=True, slots=True)
class Probed:
    """A model that was read.

    Attributes:
        verdicts: The gate that keeps `staging` where it is, if the model names what nobody allowed.
        value: The digest of what it is, beside that of its bytes; None where nobody can tell.
        computing: What this machine computes with: its cores, libraries, threads and variables.
    """

    verdicts: tuple[Verdict, ...]
    value: str | None = None
    computing: Mapping[str, str] = field(default_factory=dict)


def start(projection: Projection) -> Worker:
    """Begin to read the projection's model and to ask it its card's example.

    Raises:
        UserError: when the card's example is not one.
    """
    artifact = projection.artifact
    return start_worker(_ask, _ProbeRequest(str(artifact.file), tuple(artifact.allow), example_of(artifact.card)))


def finish(projection: Projection, running: Worker) -> Probed:
    """What was found.

    Raises:
        UserError: when it is no model that can be read here, has no way to predict, or does not answer its example, in
            time or at all.
    """
    try:
        said = running.result(_SECONDS)
    except TookTooLong:
        what = f"{projection.lineage.artifact.path} did not load and answer its example in {_SECONDS} s"
        raise UserError(what, _TAKES_LESS) from None
    except NoAnswer as failure:
        said = _ProbeReply(_BROKEN, str(failure), ESTIMATOR)
    if said.result == _REFUSED:
        return Probed((names(said.what, projection.artifact.allow),))
    if said.result != _WELL:
        path = projection.lineage.artifact.path
        raise UserError(f"{path} is not a model that can be served: {said.what}", said.next_command)
    return Probed((), said.value, said.computing)


class ProbeRefusal(NamedTuple):
    """The first name in a model that is not allowed, or why it cannot be read or does not predict; empty: well.

    `is_local` says that this machine lacks something, and `next_command` what to do here.
    """

    name: str = ""
    why: str = ""
    next_command: str = ""
    is_local: bool = False


def refusal(file: Path, allow: tuple[str, ...]) -> ProbeRefusal:
    """What keeps the model in the file from being read with these names allowed, or from predicting."""
    return finish_refusal(start_refusal(file, allow))


def start_refusal(file: Path, allow: tuple[str, ...]) -> Worker:
    """Begin to find out what `refusal` tells."""
    return start_worker(_ask, _ProbeRequest(str(file), allow))


def finish_refusal(running: Worker) -> ProbeRefusal:
    """What was found."""
    try:
        said = running.result(_SECONDS)
    except TookTooLong as failure:  # that says nothing of the model: here and now it was too slow
        return ProbeRefusal(why=str(failure), next_command=_TAKES_LESS, is_local=True)
    except NoAnswer as failure:
        return ProbeRefusal(why=str(failure), next_command=ESTIMATOR)
    if said.result == _REFUSED:
        return ProbeRefusal(name=said.what)
    return (
        ProbeRefusal()
        if said.result == _WELL
        else ProbeRefusal(why=said.what, next_command=said.next_command, is_local=said.result == _LACKING)
    )


class ValueDigests:
    """Digests of what models are, told by one process for all of them."""

    def __init__(self) -> None:
        self._server = WorkServer(_ask)

    def of(self, file: Path, allow: tuple[str, ...]) -> str | None:
        """The digest by value of the model in the file; None where it cannot be read or nobody can tell."""
        try:
            value: str | None = self._server.ask(_ProbeRequest(str(file), allow), _SECONDS).value
        except NoAnswer:
            return None
        return value

    def close(self) -> None:
        """End the process."""
        self._server.close()


def _ask(asked: _ProbeRequest) -> _ProbeReply:
    file = Path(asked.file)
    try:
        model = JoblibModel(read_at(file, asked.allow))
        value = _value(model.estimator, file)  # before it predicts: some keep count of that
        if asked.example is not None:
            model.predict(asked.example)
    except NotAllowedError as error:
        return _ProbeReply(_REFUSED, error.name)
    except UntrustedLoaderError as error:
        return _ProbeReply(_LACKING, str(error), error.next_command)
    except UnsupportedError as error:
        return _ProbeReply(_BROKEN, named_otherwise(file.name, error) + str(error), error.next_command)
    except Exception as error:  # noqa: BLE001  (a model can raise anything)
        what = named_otherwise(file.name, error) + (" ".join(str(error).split())[:500] or type(error).__name__)
        if isinstance(error.__cause__ or error, ModuleNotFoundError):
            return _ProbeReply(_LACKING, what, _INSTALL)
        return _ProbeReply(_BROKEN, what, ESTIMATOR)
    return _ProbeReply(_WELL, value=value, computing=of_process(model.estimator))


def _value(model: Any, file: Path) -> str | None:
    try:
        return value_digest(model, file.read_bytes() if file.is_file() else None)
    except NoValueError:
        return None
