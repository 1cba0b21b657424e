"""A version tried out in a process of its own: read by the closed table, asked to predict as MLflow would serve it.

The bytes are read here, by the library's own reader: of what the registry holds beside the model no file is imported.
A model can do anything to the process that it predicts in, so that one is behind the walls of `system.sandbox`.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dovetail.joblib_model import JoblibModel, NotAllowedError
from dovetail.models.fitted_columns import fitted_columns
from dovetail.models.reader import read_at
from dovetail.system.processes import NoAnswer, Worker, start_worker
from dovetail.tracking.store import Described, describe

_SECONDS = 120
_TIMED = 100  # single rows that are timed
_WARM = 5
_SCHEDSTAT = Path("/proc/thread-self/schedstat")


@dataclass(frozen=True, slots=True)
class PackageTrial:
    """What to try.

    Attributes:
        uri: Of the tracking store.
        source: What MLflow loads: `models:/iris/3`.
        file: The model's bytes, of the right digest.
        allow: Names, or packages of classes, that it may name besides the table's.
        table: A pandas.DataFrame with the rows to predict; None for none.
        timed: Whether to time single rows, and to try one with missing values.
        missing: Whether to ask for missing values in every column, not only where the signature allows them.
    """

    uri: str
    source: str
    file: str
    allow: tuple[str, ...]
    table: Any = None
    timed: bool = True
    missing: bool | None = None


@dataclass(frozen=True, slots=True)
class TrialResult:
    """What came of a trial; `predicted` has shape (rows,), `inputs` names the columns that the model takes.

    `of_probabilities` says that the model itself answers with those of numbered classes, not with the likeliest one.
    """

    refused: str = ""
    error: str = ""
    has_example: bool = True
    predicted: Any = None
    inputs: tuple[str, ...] = ()
    missing: bool | None = None
    p99_ms: float | None = None
    of_probabilities: bool = False


@dataclass(frozen=True, slots=True)
class RunningTrial:
    """A trial under way."""

    process: Worker

    def result(self) -> TrialResult:
        """Wait for the result; that the process dies or hangs is one, too."""
        try:
            result: TrialResult = self.process.result(_SECONDS)
        except NoAnswer as failure:
            return TrialResult(error=str(failure))
        return result


def start(trial: PackageTrial) -> RunningTrial:
    """Begin the trial."""
    return RunningTrial(start_worker(_run, trial, _prepared))


def _prepared(trial: PackageTrial) -> tuple[PackageTrial, Described | Exception]:
    """What the registry says of the model, asked before the walls: it may be anywhere in the network."""
    try:
        return trial, describe(trial.uri, trial.source)
    except Exception as error:  # noqa: BLE001  (what the registry holds there may be anything)
        return trial, error


def _run(prepared: tuple[PackageTrial, Described | Exception]) -> TrialResult:
    try:
        return _try(*prepared)
    except NotAllowedError as error:
        return TrialResult(refused=error.name)
    except Exception as error:  # noqa: BLE001  (a model can raise anything)
        return TrialResult(error=f"{type(error).__name__}: {' '.join(str(error).split())}")


def _try(trial: PackageTrial, described: Described | Exception) -> TrialResult:
    served = JoblibModel(read_at(Path(trial.file), trial.allow))
    if isinstance(described, Exception):
        raise described
    model, example = described.served(served), described.example
    inputs, optional = described.inputs, described.optional
    if example is not None:
        model.predict(example)
    predicted = row = None
    if trial.table is not None:
        columns = [name for name in inputs if name in trial.table.columns]
        row = trial.table[columns or fitted_columns(served.estimator, list(trial.table.columns))]
        predicted = model.predict(described.given(row))
        predicted = likeliest(predicted) if _gives_probabilities(served.estimator) else predicted
    row = example if example is not None else row
    missing = timing = None
    if trial.timed and row is not None and len(row):
        missing = _answers_missing(model, row[:1], inputs if trial.missing else optional)
        timing = p99_ms(model, row[:1])
    return TrialResult(
        has_example=example is not None, predicted=predicted, inputs=inputs, missing=missing, p99_ms=timing,
        of_probabilities=_gives_probabilities(served.estimator),
    )  # fmt: skip


def _gives_probabilities(estimator: Any) -> bool:
    """Whether it is a booster whose `predict` gives probabilities."""
    return bool(getattr(estimator, "probabilities_only", False))


def likeliest(probabilities: Any) -> Any:
    """The numbers of the likeliest classes; of two, `probabilities` of shape (rows,) has that of the second."""
    import numpy as np

    found = np.asarray(probabilities)
    return (found > 0.5).astype(int) if found.ndim == 1 else found.argmax(axis=1)  # noqa: PLR2004  (of two classes)


def _answers_missing(model: Any, row: Any, columns: Sequence[str]) -> bool | None:
    if not columns:
        return None
    try:
        numbers = {name: row[name].dtype for name in columns if row[name].dtype.kind == "f"}
        model.predict(row.assign(**dict.fromkeys(columns)).astype(numbers))
    except Exception:  # noqa: BLE001  (any failure is the answer)
        return False
    return True


def p99_ms(model: Any, row: Any) -> float:
    """The 99th percentile of a hundred predictions of a row, in milliseconds.

    The time in which other programs had the core is none of the model's, where the system tells it.
    """
    for _ in range(_WARM):
        model.predict(row)
    times = []
    for _ in range(_TIMED):
        waited, began = _waited(), time.perf_counter()
        model.predict(row)
        took = time.perf_counter() - began
        times.append(max(0.0, took - (_waited() - waited)) * 1000)
    return sorted(times)[-2]  # of a hundred


def _waited() -> float:
    """For how many seconds this thread was ready and had no core. https://docs.kernel.org/scheduler/sched-stats.html."""
    try:
        return int(_SCHEDSTAT.read_bytes().split()[1]) / 1e9
    except (OSError, IndexError, ValueError):  # not Linux, or built without
        return 0.0
