"""What the last `dovetail monitor` of a version found, as MLflow keeps it: read, not computed again."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from dovetail.tracking.store import Store

_COLUMN_METRICS = ("psi", "p_corrected", "missing", "unseen")  # each is kept as `psi/COLUMN`
_SERVED = "metric/"


@dataclass(frozen=True, slots=True)
class KeptColumn:
    """A column's distances from what the version was trained on; None where there were too few rows to tell."""

    name: str
    psi: float | None
    p_corrected: float | None
    missing: float | None
    unseen: float | None


@dataclass(frozen=True, slots=True)
class KeptDrift:
    """A verdict with its numbers.

    Attributes:
        verdict: `drift`, `stable` or `silent`.
        time: When it was found, in ISO 8601.
        run: The run that has the numbers over time and the page with a chart of each column.
        metric: The metric on served and labelled rows, with its bounds; empty where there are too few.
        columns: The one that moved most first.
    """

    verdict: str
    time: str
    run: str
    rows: int | None
    labelled: int | None
    metric: Mapping[str, float]
    columns: tuple[KeptColumn, ...]

    def as_json(self) -> dict[str, Any]:
        """The model's `drift` in the answer of `dovetail report --json`."""
        return {**asdict(self), "metric": dict(self.metric), "columns": [asdict(column) for column in self.columns]}


def kept_drift(store: Store, model: str, number: int) -> KeptDrift | None:
    """What is tagged on the version and kept in its monitoring run; None where nobody looked, or the run is gone."""
    said = store.monitored(model, number)
    run = store.run(said.run) if said else None
    if said is None or run is None:
        return None
    metrics = run.metrics
    names = dict.fromkeys(
        name.partition("/")[2] for name in metrics if name.partition("/")[0] in _COLUMN_METRICS and "/" in name
    )
    columns = [KeptColumn(name, *(metrics.get(f"{metric}/{name}") for metric in _COLUMN_METRICS)) for name in names]
    columns.sort(key=lambda column: -(column.psi or 0))
    return KeptDrift(
        said.verdict,
        said.time,
        said.run,
        _whole(metrics.get("rows")),
        _whole(metrics.get("labelled")),
        {name.removeprefix(_SERVED): value for name, value in metrics.items() if name.startswith(_SERVED)},
        tuple(columns),
    )


def _whole(value: float | None) -> int | None:
    return None if value is None else int(value)
