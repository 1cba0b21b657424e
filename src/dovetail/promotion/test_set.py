"""The rows that a model was evaluated on: finding them, and the metrics of models on them."""

from collections.abc import Iterator, Mapping, Sequence
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


@dataclass(frozen=True)
class TestSet:
    """A table and the name of its target column."""

    __test__ = False  # pytest collects classes by their names

    table: "pd.DataFrame"
    target: str

    @property
    def actual(self) -> Any:
        """The target: shape (rows,)."""
        return plain(self.table[self.target])


def find(workspace: Workspace, made: Lineage, inputs: Sequence[str], target: str | None) -> TestSet | str:
    """The table that the model was evaluated on, with the columns `inputs` and the target; a text says why not.

    The target is the column `target`, else the only one that the model does not take.
    """
    why = "no table that it was evaluated on is available"
    for ref in (ref for ref, role in made.data.items() if role == "evaluation"):
        table = _whole(workspace, ref)
        if table is None or not set(inputs) <= set(table.columns):
            continue
        others = [str(name) for name in table.columns if name not in inputs]
        if target in table.columns:
            return TestSet(table, str(target))
        if inputs and target is None and len(others) == 1:
            return TestSet(table, others[0])
        why = f"dvc.yaml does not say which column of {ref.path} is the target, gates: {{champion: {{target: …}}}}"
    return why


def compare(tests: TestSet, ours: Any, theirs: Any, seen: Any, gate: Mapping[str, Any]) -> Compared:
    """Candidate against champion: predictions of shape (rows,), `seen` marks rows that the champion was trained on."""
    actual, candidate, champion = (values[~seen] for values in (tests.actual, plain(ours), plain(theirs)))
    if actual.dtype.kind == "U" and candidate.dtype.kind in "iu":
        return Compared(None, unknown=f"which label of {tests.target} each number that the model predicts means")
    metric = gate["metric"] or comparison.default_metric(actual, candidate)
    if metric not in comparison.SCORES:
        return Compared(None, error=f"no metric {metric!r}; there are: {', '.join(comparison.SCORES)}")
    rows, dropped = len(actual), int(seen.sum())
    if rows < comparison.FEWEST:
        return Compared(None, metric, rows, dropped)
    found = comparison.difference(metric, (actual, candidate, champion), gate["confidence"])
    return Compared(None, metric, rows, dropped, found.value, found.low, found.high)


def seen_by(workspace: Workspace, champion: Lineage, table: "pd.DataFrame") -> Any:
    """Which rows of the table the champion was trained on, by the values of all columns: booleans of shape (rows,)."""
    import numpy as np
    import pandas as pd
    from pandas.util import hash_pandas_object

    seen = np.zeros(len(table), dtype=bool)
    for ref in (ref for ref, role in champion.data.items() if role == "training"):
        for learned in _tables(workspace, ref):
            if set(table.columns) <= set(learned.columns):
                pairs = {name: _alike(table[name], learned[name]) for name in table.columns}
                ours, theirs = (pd.DataFrame({name: pair[side] for name, pair in pairs.items()}) for side in (0, 1))
                seen |= hash_pandas_object(ours, index=False).isin(hash_pandas_object(theirs, index=False)).to_numpy()
    return seen


def _alike(one: "pd.Series", other: "pd.Series") -> "tuple[pd.Series, pd.Series]":
    """Two columns with the values of one another's type: integers of which one is missing are floats in one of them."""
    from pandas.api.types import is_numeric_dtype, is_object_dtype

    if one.dtype == other.dtype and not is_object_dtype(one.dtype):
        return one, other
    if is_numeric_dtype(one.dtype) and is_numeric_dtype(other.dtype):
        return one.astype("float64"), other.astype("float64")
    first, second = (values.astype(object).where(values.notna(), "").map(str) for values in (one, other))
    return first, second


def slices(tests: TestSet, predicted: Any, asked: Mapping[str, Any]) -> dict[str, tuple[Slice, ...] | str]:
    """The metric on each value of each column asked for; a text says why not."""
    return {column: _slice(tests, column, plain(predicted), one.get("metric", "")) for column, one in asked.items()}


def _slice(tests: TestSet, column: str, predicted: Any, metric: str) -> tuple[Slice, ...] | str:
    if column not in tests.table.columns:
        return f"no column {column!r}; there are: {', '.join(map(str, tests.table.columns))}"
    if metric not in comparison.SCORES:
        return f"no metric {metric!r}; there are: {', '.join(comparison.SCORES)}"
    values = tests.table[column].astype(object).where(tests.table[column].notna(), "missing").astype(str)
    return tuple(
        Slice(str(value), len(rows), comparison.score(metric, tests.actual[rows], predicted[rows]))
        for value, rows in tests.table.groupby(values, sort=True).indices.items()
    )


def plain(values: Any) -> Any:
    """Predictions or a target as an array of numbers or of text."""
    import numpy as np

    array = np.asarray(values)
    if array.ndim == 2 and array.shape[1] == 1:  # noqa: PLR2004  (CatBoost's classes come so)
        array = array.ravel()
    return array.astype(str) if array.dtype.kind == "O" else array


def _whole(workspace: Workspace, ref: FileRef) -> "pd.DataFrame | None":
    """The table in a file, or in all files of a folder; None where one of them cannot be read."""
    import pandas as pd

    tables = list(_tables(workspace, ref))
    if len(tables) < 2:  # noqa: PLR2004
        return tables[0] if tables else None
    return pd.concat([table for table in tables if len(table)] or tables[:1], ignore_index=True)


def _tables(workspace: Workspace, ref: FileRef) -> "Iterator[pd.DataFrame]":
    """The table in a file, or those in a folder of parts, one after the other; none where one cannot be read."""
    try:
        for file in workspace.storage.files(ref) if ref.is_folder else [ref]:
            table = frame(workspace.storage.object(file), file.path)
            if table is None:
                return
            yield table
    except (DovetailError, ValueError, OSError):
        return
