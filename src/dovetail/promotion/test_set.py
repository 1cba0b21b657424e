"""The rows that a model was tested on: which, what to predict of them, and how models did on them."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dovetail.errors import DovetailError
from dovetail.gates.evidence import Compared, Slice
from dovetail.promotion import comparison
from dovetail.repo.workspace import Workspace
from dovetail.values.lineage import FileRef, Lineage
from dovetail.values.tables import frame

if TYPE_CHECKING:
    import pandas as pd

_FEWEST = 2  # rows that a bootstrap takes


@dataclass(frozen=True)
class TestPart:
    """A table, and the column of it that is to be predicted."""

    __test__ = False  # for pytest, which goes by names

    table: "pd.DataFrame"
    target: str

    @property
    def actual(self) -> Any:
        """The target: shape (rows,)."""
        return plain(self.table[self.target])


def find(workspace: Workspace, made: Lineage, inputs: Sequence[str], target: str | None) -> TestPart | str:
    """The table that the model was evaluated on: it has the columns `inputs` and the target. A text says why not.

    The target is the column named, else the only one that the model does not take.
    """
    why = "it was evaluated on no table that is to be had"
    for ref in (ref for ref, role in made.data.items() if role == "evaluation"):
        table = _table(workspace, ref)
        if table is None or not set(inputs) <= set(table.columns):
            continue
        others = [str(name) for name in table.columns if name not in inputs]
        if target in table.columns:
            return TestPart(table, str(target))
        if inputs and target is None and len(others) == 1:
            return TestPart(table, others[0])
        why = f"which column of {ref.path} is the target"
    return why


def compare(part: TestPart, ours: Any, theirs: Any, seen: Any, gate: Mapping[str, Any]) -> Compared:
    """Candidate against champion: predictions of shape (rows,), `seen` marks rows that the champion was trained on."""
    actual, candidate, champion = (values[~seen] for values in (part.actual, plain(ours), plain(theirs)))
    metric = gate["metric"] or comparison.default_metric(actual, candidate)
    if metric not in comparison.SCORES:
        return Compared(None, error=f"no metric {metric!r}; there are: {', '.join(comparison.SCORES)}")
    rows, dropped = len(actual), int(seen.sum())
    if rows < _FEWEST:
        return Compared(None, metric, rows, dropped)
    found = comparison.difference(metric, (actual, candidate, champion), gate["confidence"])
    return Compared(None, metric, rows, dropped, found.value, found.low, found.high)


def seen_by(workspace: Workspace, champion: Lineage, table: "pd.DataFrame") -> Any:
    """Which rows of the table the champion was trained on, told by all of its columns: booleans of shape (rows,)."""
    import numpy as np
    from pandas.util import hash_pandas_object

    seen = np.zeros(len(table), dtype=bool)
    for ref in (ref for ref, role in champion.data.items() if role == "training"):
        learned = _table(workspace, ref)
        if learned is not None and set(table.columns) <= set(learned.columns):
            with suppress(ValueError, TypeError):  # columns of other types: then none of these rows is the same
                rows = hash_pandas_object(learned[list(table.columns)].astype(table.dtypes), index=False)
                seen |= hash_pandas_object(table, index=False).isin(rows).to_numpy()
    return seen


def slices(part: TestPart, predicted: Any, asked: Mapping[str, Any]) -> dict[str, tuple[Slice, ...] | str]:
    """The metric on each value of each column asked for; a text says why not."""
    return {column: _slice(part, column, plain(predicted), one.get("metric", "")) for column, one in asked.items()}


def _slice(part: TestPart, column: str, predicted: Any, metric: str) -> tuple[Slice, ...] | str:
    if column not in part.table.columns:
        return f"no column {column!r}; there are: {', '.join(map(str, part.table.columns))}"
    if metric not in comparison.SCORES:
        return f"no metric {metric!r}; there are: {', '.join(comparison.SCORES)}"
    values = part.table[column].astype(object).where(part.table[column].notna(), "missing").astype(str)
    return tuple(
        Slice(str(value), len(rows), comparison.score(metric, part.actual[rows], predicted[rows]))
        for value, rows in part.table.groupby(values, sort=True).indices.items()
    )


def plain(values: Any) -> Any:
    """Predictions or a target as an array of numbers or of text."""
    import numpy as np

    array = np.asarray(values)
    return array.astype(str) if array.dtype.kind == "O" else array


def _table(workspace: Workspace, ref: FileRef) -> "pd.DataFrame | None":
    try:
        return frame(workspace.object(ref), ref.path)
    except (DovetailError, ValueError, OSError):
        return None
