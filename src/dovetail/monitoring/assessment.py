"""One look at what a version answered: the window's rows beside the reference, and the verdict."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dovetail.monitoring import drift, performance, served_rows
from dovetail.monitoring.baseline import MOST_ROWS, Reference, Tested
from dovetail.monitoring.column_pair import Pair, pair
from dovetail.monitoring.drift import Column
from dovetail.monitoring.performance import Metric
from dovetail.monitoring.sampling import draw
from dovetail.monitoring.served_rows import LABEL, Window
from dovetail.serving.log.rows import INPUT

if TYPE_CHECKING:
    import pyarrow as pa

DRIFT, STABLE, SILENT = "drift", "stable", "silent"
PREDICTION = "prediction"
_METHOD = "method"


@dataclass(frozen=True)
class Looked:
    """What one look found.

    Attributes:
        rows: That the version answered in the window; `sampled` of them were compared.
        labelled: Of these rows those whose true label came.
        pairs: What was compared: the columns that the log has, then the predictions.
        columns: The verdict on each input column.
        prediction: That on the predictions; None where there is no test set to compare them with.
        metric: The real metric; likewise.
        notes: What could not be compared, and why.
    """

    rows: int
    sampled: int
    labelled: int
    pairs: Sequence[Pair]
    columns: Sequence[Column]
    prediction: Column | None
    metric: Metric | None
    notes: Sequence[str]

    @property
    def compared(self) -> list[Column]:
        """The columns, and the prediction if there is one to compare with."""
        return [*self.columns, *([self.prediction] if self.prediction else [])]

    @property
    def verdict(self) -> str:
        """`drift`, `stable`, or `silent` where too little was served to tell."""
        if any(one.drifted for one in self.compared) or (self.metric and self.metric.drifted):
            return DRIFT
        tells = any(one.p is not None for one in self.compared) or (self.metric and not self.metric.reason)
        return STABLE if tells else SILENT


def look(known: Reference, folder: Path, window: Window, min_rows: int) -> Looked:
    """Compare the answers of the window with the reference.

    Raises:
        OSError: when the prediction log cannot be read.
    """
    names = list(known.trained.table.columns)
    rows = served_rows.count(folder, window)
    table = served_rows.sample(folder, window, [*(INPUT + name for name in names), PREDICTION, _METHOD], MOST_ROWS)
    logged = [name for name in names if INPUT + name in table.column_names]
    pairs = [pair(name, known.trained.table[name], table[INPUT + name].to_pandas()) for name in logged]
    tested = known.tested if isinstance(known.tested, Tested) else None
    if tested:
        pairs.append(_predictions(tested, table))
    verdicts = drift.compare(pairs, min_rows)
    by_name = dict(zip(logged, verdicts, strict=False))
    truth = _predicted(served_rows.labelled(folder, window, [PREDICTION, _METHOD]))
    return Looked(
        rows=rows,
        sampled=len(table),
        labelled=len(truth),
        pairs=pairs,
        columns=[by_name.get(name) or _unlogged(name, rows) for name in names if known.inputs or name in by_name],
        prediction=verdicts[-1] if tested else None,
        metric=_metric(tested, truth, min_rows) if tested else None,
        notes=() if tested else (f"neither predictions nor the metric are compared: {known.tested}",),
    )


def _predictions(tested: Tested, table: "pa.Table") -> Pair:
    import pandas as pd

    return pair(PREDICTION, pd.Series(tested.predicted), _column(_predicted(table), PREDICTION))


def _predicted(table: "pa.Table") -> "pa.Table":
    """The rows for which the answer was a prediction, not probabilities."""
    import pyarrow.compute as pc

    return table.filter(pc.equal(table[_METHOD], "predict")) if _METHOD in table.column_names else table


def _metric(tested: Tested, truth: "pa.Table", min_rows: int) -> Metric:
    import pyarrow as pa

    drawn = pa.concat_tables([truth.slice(0, 0), *draw([truth], len(truth), MOST_ROWS)])
    said = (_column(drawn, LABEL), _column(drawn, PREDICTION))
    return performance.compare(tested.metric, (tested.actual, tested.predicted), said, min_rows)


def _column(table: "pa.Table", name: str) -> Any:
    import pandas as pd

    return table[name].to_pandas() if name in table.column_names else pd.Series([], dtype=object)


def _unlogged(name: str, rows: int) -> Column:
    why = "not in the prediction log: left out by its configuration, or never sent" if rows else "nothing was served"
    return Column(name, kind=None, rows=0, reason=why)
