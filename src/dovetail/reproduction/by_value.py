"""What was rebuilt and what was recorded, where their bytes differ: what a model is and predicts, what a table says.

Both models are read behind the walls of the sandbox, as `register` reads them.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dovetail.errors import MissingFile
from dovetail.models.reader import read_at
from dovetail.models.value import NoValueError, same_value, value_digest
from dovetail.system.processes import NoAnswer, start_worker
from dovetail.values.table_value import table_digest
from dovetail.values.tables import frame, has_frame

_SECONDS = 300


@dataclass(frozen=True, slots=True)
class ModelPair:
    """Two files of one model, and what is needed to compare them.

    Attributes:
        recorded: None where its bytes are not available.
        value: The recorded digest by value; None where none is.
        allow: Names that the pickles may name besides the usual.
        tables: The tables that it was evaluated on, each with its name.
        inputs: The columns that the model takes; empty where no card says so.
    """

    recorded: Path | None
    rebuilt: Path
    value: str | None
    allow: tuple[str, ...]
    tables: tuple[tuple[Path, str], ...]
    inputs: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Sameness:
    """What two models have in common; None: not known."""

    value: bool | None = None
    predictions: bool | None = None


def compare_models(pair: ModelPair) -> Sameness:
    """Whether both are the same, and if not, whether they predict the same to the last bit."""
    try:
        found: Sameness = start_worker(_compare, pair).result(_SECONDS)
    except NoAnswer:
        return Sameness()
    return found


def same_table(recorded: Path, rebuilt: Path, name: str) -> bool | None:
    """Whether two tables of different bytes say the same; None where that cannot be told."""
    try:
        one = table_digest(recorded, name)
        return None if one is None else one == table_digest(rebuilt, name)
    except MissingFile:
        return None


def _compare(pair: ModelPair) -> Sameness:
    try:
        rebuilt = _read(pair.rebuilt, pair.allow)
        recorded = _read(pair.recorded, pair.allow) if pair.recorded else None
        value = recorded[1] if recorded else pair.value
        same = same_value(value, rebuilt[1])
    except Exception:  # noqa: BLE001  (a model can raise anything)
        return Sameness()
    if same or recorded is None:
        return Sameness(same)
    try:
        return Sameness(same, _predict_the_same(recorded[0], rebuilt[0], pair))
    except Exception:  # noqa: BLE001
        return Sameness(same)


def _read(file: Path, allow: tuple[str, ...]) -> tuple[Any, str | None]:
    model = read_at(file, allow)
    try:
        return model, value_digest(model, file.read_bytes() if file.is_file() else None)
    except NoValueError:
        return model, None


def _predict_the_same(one: Any, other: Any, pair: ModelPair) -> bool | None:
    same = None
    for file, name in pair.tables:
        rows = frame(file, name) if has_frame(name) else None
        if rows is None or not pair.inputs or not set(pair.inputs) <= set(rows.columns):
            continue
        for method in ("predict", "predict_proba", "decision_function"):
            if hasattr(one, method) and hasattr(other, method):
                answers = (getattr(model, method)(rows[list(pair.inputs)]) for model in (one, other))
                if not _same_bits(*answers):
                    return False
                same = True
    return same


def _same_bits(one: Any, other: Any) -> bool:
    import numpy as np

    one, other = np.asarray(one), np.asarray(other)
    if (one.shape, one.dtype) != (other.shape, other.dtype):
        return False
    return bool(one.tolist() == other.tolist() if one.dtype.kind == "O" else one.tobytes() == other.tobytes())
