"""What a version answered, compared with its baseline: the verdict on each column, the predictions, the metric."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dovetail.monitoring import drift, performance
from dovetail.monitoring.baseline import MOST_ROWS, Baseline, TestPredictions
from dovetail.monitoring.column_pair import ColumnPair, pair
from dovetail.monitoring.drift import ColumnDrift
from dovetail.monitoring.observed_rows import METHOD, Observed
from dovetail.monitoring.performance import MetricDrift
from dovetail.promotion.trial import likeliest
from dovetail.serving.log.rows import INPUT, PREDICTION
from dovetail.serving.log.sampling import draw
from dovetail.serving.log.served_rows import LABEL

if TYPE_CHECKING:
    import pyarrow as pa

DRIFT, STABLE, SILENT = "drift", "stable", "silent"


@dataclass(frozen=True)
class Assessment:
    """What was found in a time window, or in a batch.

    Attributes:
        rows: The rows that the version answered in the window, or of the batch; `sampled` of them were compared.
        labelled: Those of them whose label is known.
        pairs: What was compared: the columns that the log has, then the predictions.
        columns: The verdict on each input column.
        prediction: That on the predictions; None where there is no test set to compare them with.
        metric: That on the metric, likewise.
        notes: What could not be compared, and why.
    """

    rows: int
    sampled: int
    labelled: int
    pairs: Sequence[ColumnPair]
    columns: tuple[ColumnDrift, ...]
    prediction: ColumnDrift | None
    metric: MetricDrift | None
    notes: tuple[str, ...]

    @property
    def compared(self) -> list[ColumnDrift]:
        """The columns, and the predictions if there is a test set to compare them with."""
        return [*self.columns, *([self.prediction] if self.prediction else [])]

    @property
    def verdict(self) -> str:
        """`drift`, `stable`, or `silent` where too little was served to say."""
        if any(one.drifted for one in self.compared) or (self.metric and self.metric.drifted):
            return DRIFT
        known = any(one.p is not None for one in self.compared) or (self.metric and not self.metric.reason)
        return STABLE if known else SILENT


def assess(baseline: Baseline, observed: Observed, min_rows: int) -> Assessment:
    """Compare rows that a version answered, or is to answer, with its baseline."""
    names = list(baseline.trained.table.columns)
    rows, table = observed.rows, observed.table
    logged = [name for name in names if INPUT + name in table.column_names]
    pairs = [pair(name, baseline.trained.table[name], table[INPUT + name].to_pandas()) for name in logged]
    tested = baseline.tested if isinstance(baseline.tested, TestPredictions) else None
    if tested:
        pairs.append(_predictions(tested, table))
    verdicts = drift.compare(pairs, min_rows)
    by_name = dict(zip(logged, verdicts, strict=False))
    labelled = _predicted(observed.labelled)
    shown = [name for name in names if baseline.inputs or name in by_name]
    notes = [] if tested else [f"neither predictions nor the metric are compared: {baseline.tested}"]
    if tested and (wrong := unusable(tested, labelled)):
        notes.append(f"{wrong} of {len(labelled)} labels are not finite numbers, so {tested.metric} leaves them out")
    return Assessment(
        rows=rows,
        sampled=len(table),
        labelled=len(labelled),
        pairs=pairs,
        columns=tuple(by_name.get(name) or _absent(name, observed) for name in shown),
        prediction=verdicts[-1] if tested else None,
        metric=metric_of(tested, labelled, min_rows) if tested else None,
        notes=tuple(notes),
    )


def unusable(tested: TestPredictions, labelled: "pa.Table") -> int:
    """How many labels the metric leaves out."""
    return int((~performance.usable(tested.metric, _column(labelled, LABEL))).sum())


def _predictions(tested: TestPredictions, table: "pa.Table") -> ColumnPair:
    import pandas as pd

    return pair(PREDICTION, pd.Series(tested.predicted), _answers(tested, _predicted(table)))


def _answers(tested: TestPredictions, table: "pa.Table") -> Any:
    """What the version answered; the likeliest class where it answers with probabilities, as of the test set."""
    said = _column(table, PREDICTION)
    return said.map(_likeliest) if tested.of_probabilities else said


def _likeliest(said: Any) -> Any:
    try:
        return int(likeliest([json.loads(said) if isinstance(said, str) else said])[0])
    except (ValueError, TypeError):  # of a version that answered with something else
        return said


def _predicted(table: "pa.Table") -> "pa.Table":
    """The rows for which the answer was a prediction, not probabilities."""
    import pyarrow.compute as pc

    return table.filter(pc.equal(table[METHOD], "predict")) if METHOD in table.column_names else table


def metric_of(tested: TestPredictions, labelled: "pa.Table", min_rows: int) -> MetricDrift:
    """The metric on the rows whose label it can be computed with: a wrong label voids no other."""
    import pyarrow as pa

    good = labelled.filter(pa.array(performance.usable(tested.metric, _column(labelled, LABEL))))
    drawn = pa.concat_tables([good.slice(0, 0), *draw([good], len(good), MOST_ROWS)])
    served = (_column(drawn, LABEL), _answers(tested, drawn))
    return performance.compare(tested.metric, (tested.actual, tested.predicted), served, min_rows)


def _column(table: "pa.Table", name: str) -> Any:
    import pandas as pd

    return table[name].to_pandas() if name in table.column_names else pd.Series([], dtype=object)


def _absent(name: str, observed: Observed) -> ColumnDrift:
    return ColumnDrift(name, kind=None, rows=0, reason=observed.absent)
