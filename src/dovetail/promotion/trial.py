"""A version tried out in a process of its own: read under guard, loaded as MLflow serves it, asked to predict.

A pickle can do anything to the process that reads it, so none is ever read by the one that decides.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dovetail.joblib_model import NotAllowedError, read
from dovetail.system.processes import NoAnswer, Worker, start_worker

_SECONDS = 120
_TIMED = 100  # single rows that are timed
_WARM = 5


@dataclass(frozen=True, slots=True)
class Trial:
    """What to try.

    Attributes:
        uri: Of the tracking store.
        source: What MLflow loads: `models:/iris/3`.
        file: The model's bytes, of the right digest.
        allow: Packages that its pickle may name besides the usual.
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
class Found:
    """What came of it; `predicted` has shape (rows,), `inputs` names the columns that the model takes."""

    refused: str = ""
    error: str = ""
    predicted: Any = None
    inputs: tuple[str, ...] = ()
    missing: bool | None = None
    p99_ms: float | None = None


@dataclass(frozen=True, slots=True)
class Running:
    """A trial under way."""

    process: Worker

    def result(self) -> Found:
        """Wait for what came of it; a process that dies or hangs is an answer, too."""
        try:
            found: Found = self.process.result(_SECONDS)
        except NoAnswer as failure:
            return Found(error=str(failure))
        return found


def start(trial: Trial) -> Running:
    """Begin the trial."""
    return Running(start_worker(_run, trial))


def _run(trial: Trial) -> Found:
    try:
        return _try(trial)
    except NotAllowedError as error:
        return Found(refused=error.name)
    except Exception as error:  # noqa: BLE001  (a model can raise anything)
        return Found(error=f"{type(error).__name__}: {' '.join(str(error).split())}")


def _try(trial: Trial) -> Found:
    read(Path(trial.file).read_bytes(), trial.allow)
    from dovetail.tracking.store import load_model

    model, example, inputs, optional = load_model(trial.uri, trial.source)
    if example is not None:
        model.predict(example)
    predicted = None
    if trial.table is not None:
        columns = [name for name in inputs if name in trial.table.columns] or list(trial.table.columns)
        predicted = model.predict(trial.table[columns])
    row = example if example is not None else trial.table
    missing = timing = None
    if trial.timed and row is not None and len(row):
        missing = _answers_missing(model, row.head(1), inputs if trial.missing else optional)
        timing = _p99(model, row.head(1))
    return Found(predicted=predicted, inputs=tuple(inputs), missing=missing, p99_ms=timing)


def _answers_missing(model: Any, row: Any, columns: Sequence[str]) -> bool | None:
    if not columns:
        return None
    try:
        numbers = {name: row[name].dtype for name in columns if row[name].dtype.kind == "f"}
        model.predict(row.assign(**dict.fromkeys(columns)).astype(numbers))
    except Exception:  # noqa: BLE001  (any failure is the answer)
        return False
    return True


def _p99(model: Any, row: Any) -> float:
    for _ in range(_WARM):
        model.predict(row)
    times = []
    for _ in range(_TIMED):
        began = time.perf_counter()
        model.predict(row)
        times.append((time.perf_counter() - began) * 1000)
    return sorted(times)[-2]  # of a hundred
