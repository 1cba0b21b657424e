"""Which columns have drifted: each one's distances and tests, corrected for their number, and what counts as an alarm.

An alarm needs both: a difference that chance does not explain (corrected p below ALPHA), and one that is worth knowing
of (one of the thresholds below). A million rows make any difference sure, and ten rows make any difference large.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from dovetail.monitoring import statistics
from dovetail.monitoring.column_pair import CATEGORY, ColumnPair
from dovetail.monitoring.statistics import TestResult

VALUES, BINS, MISSING, UNSEEN = "values", "bins", "missing", "unseen"  # what a test is of
ALPHA = 0.01
LARGE_STABILITY = 0.2  # the population stability index that credit scoring acts on: Siddiqi 2006
LARGE_DISTANCE = 0.1  # of distribution functions, or of shares in total
LARGE_SHARE = 0.05  # more rows with a missing or an unseen value, of all rows


@dataclass(frozen=True, slots=True)
class MissingShare:
    """The share of rows without a value."""

    reference: float
    served: float


@dataclass(frozen=True, slots=True)
class ColumnDrift:
    """What was found of one column.

    Attributes:
        name: The column's, or `prediction`.
        kind: `number`, `date` or `category`; None where nothing was served.
        rows: Served rows in which it has a value.
        test: Which test `statistic` and `p` are of.
        p_corrected: `p` for as many columns as there are.
        distance: Between the distributions, from 0 to 1: Kolmogorov and Smirnov's, of categories the total variation.
        psi: The population stability index.
        wasserstein: In standard deviations of the reference; None of categories.
        missing: Rows without a value; None where there are no rows.
        unseen: The share of served values that the reference does not have; None of numbers.
        drifted: Whether this is an alarm.
        reason: Why it is one, or why nothing can be said; empty where all is well.
    """

    name: str
    kind: str | None
    rows: int
    test: str | None = None
    statistic: float | None = None
    p: float | None = None
    p_corrected: float | None = None
    distance: float | None = None
    psi: float | None = None
    wasserstein: float | None = None
    missing: MissingShare | None = None
    unseen: float | None = None
    drifted: bool = False
    reason: str = ""

    def as_json(self) -> dict[str, Any]:
        """The column as `--json` gives it."""
        return asdict(self)


def compare(pairs: Iterable[ColumnPair], min_rows: int) -> list[ColumnDrift]:
    """Each column's verdict; one with fewer than `min_rows` served values gets none on their distribution."""
    measured = [_measured(pair, min_rows) for pair in pairs]
    found = [test.p for _, tests in measured for test in tests.values()]
    remaining = iter(statistics.corrected(found))
    return [_judged(column, {key: next(remaining) for key in tests}, min_rows) for column, tests in measured]


def _measured(pair: ColumnPair, min_rows: int) -> tuple[ColumnDrift, dict[str, TestResult]]:
    """The distances of a column, and its tests by what they test."""
    reference, served = pair.reference, pair.served
    missing = MissingShare(reference.missing_share, served.missing_share) if served.rows else None
    column, tests = ColumnDrift(pair.name, pair.kind, len(served.values), missing=missing), {}
    if reference.rows and served.rows >= min_rows:
        counts = (reference.missing, reference.rows, served.missing, served.rows)
        tests[MISSING] = statistics.proportions("missing values", *counts)
    if not len(reference.values) or len(served.values) < min_rows:
        return column, tests
    if pair.kind == CATEGORY:
        tests[VALUES] = statistics.chi_square(reference.counts, served.counts)
        share, tests[UNSEEN] = statistics.unseen(reference.counts, served.counts)
        column = replace(
            column,
            psi=statistics.category_stability(reference.counts, served.counts),
            distance=statistics.total_variation(reference.counts, served.counts),
            unseen=share,
        )
    else:
        tests[VALUES] = statistics.kolmogorov_smirnov(reference.values, served.values)
        tests[BINS] = statistics.chi_square(*statistics.binned(reference.values, served.values))
        column = replace(
            column,
            psi=statistics.number_stability(reference.values, served.values),
            distance=tests[VALUES].statistic,
            wasserstein=statistics.wasserstein(reference.values, served.values),
        )
    return replace(column, test=tests[VALUES].name, statistic=tests[VALUES].statistic, p=tests[VALUES].p), tests


def _judged(column: ColumnDrift, p: Mapping[str, float], min_rows: int) -> ColumnDrift:
    """The verdict, from the corrected p-values."""
    sure = {test for test, value in p.items() if value < ALPHA}
    moved = ", ".join(text for test, text in _moves(column) if test in sure)
    reasons = [f"the distribution has moved: {moved}"] if moved else []
    reasons += [text for test, text in _shares(column) if test in sure]
    column = replace(column, p_corrected=p.get(VALUES), drifted=bool(reasons))
    if not reasons and VALUES not in p:
        few = f"too few rows: {column.rows} of {min_rows}"
        return replace(column, reason=few if column.rows < min_rows else "the reference has no values")
    return replace(column, reason="; ".join(reasons))


def _moves(column: ColumnDrift) -> Iterator[tuple[str, str]]:
    """The distances that are large, each with the test that tells whether it is sure."""
    if column.psi is not None and column.psi >= LARGE_STABILITY:
        yield VALUES if column.kind == CATEGORY else BINS, f"PSI {column.psi:.2f}"
    if column.distance is not None and column.distance >= LARGE_DISTANCE:
        yield VALUES, f"distance {column.distance:.2f}"


def _shares(column: ColumnDrift) -> Iterator[tuple[str, str]]:
    """The shares that differ by much, each with the test that tells whether it is sure."""
    if column.missing and abs(column.missing.served - column.missing.reference) >= LARGE_SHARE:
        yield MISSING, f"missing in {column.missing.served:.1%} of the rows, {column.missing.reference:.1%} in training"
    if column.unseen is not None and column.unseen >= LARGE_SHARE:
        yield UNSEEN, f"{column.unseen:.1%} of the values are unseen in training"
