"""Distances between two samples of a column and tests of whether they differ. Pure; `scipy.stats` does the tests."""

import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from dovetail.monitoring.column_pair import Array, most_frequent, totals

KS, CHI_SQUARE = "kolmogorov-smirnov", "chi-square"
_BINS = 10
_EXACT = 100  # rows up to which the exact distribution of the statistic is quick to have
_FLOOR = 1e-4  # of a bin's share: the logarithm of an empty one would be infinite
_EXPECTED = 5  # rows in a cell below which chi-square's approximation is poor: Cochran 1954, Biometrics 10:417


@dataclass(frozen=True, slots=True)
class TestResult:
    """A test's name, its statistic, and how probable one as large is if nothing has changed."""

    name: str
    statistic: float
    p: float


def kolmogorov_smirnov(reference: Array, served: Array) -> TestResult:
    """The two-sample test: the largest distance between the two distribution functions.

    Hodges 1958, Arkiv för Matematik 3:469, by scipy.stats.ks_2samp. With ties, as of whole numbers, it is conservative.
    """
    from scipy.stats import ks_2samp

    method = "exact" if max(len(reference), len(served)) <= _EXACT else "asymp"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # where the exact way fails scipy takes the other by itself
        found = ks_2samp(reference, served, method=method)
    return TestResult(KS, float(found.statistic), float(np.nan_to_num(found.pvalue, nan=1.0)))


def chi_square(reference: Mapping[str, int], served: Mapping[str, int]) -> TestResult:
    """Pearson's test of homogeneity on the counts of the values; what is rare is counted together.

    Pearson 1900, by scipy.stats.chi2_contingency, without correction.
    """
    from scipy.stats import chi2_contingency

    table = _cells(reference, served)
    if table.shape[1] < 2:  # noqa: PLR2004  (one value, the same on both sides)
        return TestResult(CHI_SQUARE, 0.0, 1.0)
    found = chi2_contingency(table, correction=False)
    return TestResult(CHI_SQUARE, float(found.statistic), float(found.pvalue))


def proportions(name: str, of: int, rows: int, served_of: int, served_rows: int) -> TestResult:
    """Whether two shares differ: chi-square, Fisher's exact test where a cell would expect fewer than five rows."""
    from scipy.stats import chi2_contingency, fisher_exact

    table = np.array([[of, rows - of], [served_of, served_rows - served_of]])
    difference = abs(served_of / served_rows - of / rows)
    if 0 in table.sum(axis=0):
        return TestResult(name, 0.0, 1.0)
    smallest = table.sum(axis=0).min() * table.sum(axis=1).min() / table.sum()
    found: Any = fisher_exact(table) if smallest < _EXPECTED else chi2_contingency(table, correction=False)
    return TestResult(name, difference, float(found.pvalue))


def unseen(reference: Mapping[str, int], served: Mapping[str, int]) -> tuple[float, TestResult]:
    """The share of served values that the reference does not have, and whether that is more than was to be expected.

    In a column of many values new ones are no news: of as many rows again a share of about f1 / n has a new value,
    f1 being the number of values that the n rows of the reference have once (Good 1953, Biometrika 40:237).
    """
    once, rows = sum(count == 1 for count in reference.values()), sum(reference.values())
    new, served_rows = sum(count for value, count in served.items() if value not in reference), sum(served.values())
    test = proportions("unseen values", once, rows, new, served_rows)
    share = new / served_rows
    return share, test if share > once / rows else TestResult(test.name, test.statistic, 1.0)


def stability(reference: Array, served: Array) -> float:
    """The population stability index of two rows of shares, each floored at 0.0001: Σ (s - r) ln(s / r).

    Siddiqi 2006, Credit Risk Scorecards. It is Kullback & Leibler's J divergence: Yurdakul 2018, Western Michigan Univ.
    """
    r, s = (np.maximum(counts / counts.sum(), _FLOOR) for counts in (reference, served))
    return float(((s - r) * np.log(s / r)).sum())


def number_stability(reference: Array, served: Array) -> float:
    """The population stability index over deciles of the reference, over its values where these are ten or fewer."""
    edges = bins(reference)
    return stability(histogram(reference, edges), histogram(served, edges))


def binned(reference: Array, served: Array) -> tuple[dict[str, int], dict[str, int]]:
    """How many values of each lie in each of the bins of `number_stability`; its own test is chi-square on these.

    Kolmogorov and Smirnov's is blind to a few values that lie beyond all others.
    """
    edges = bins(reference)
    one, other = (
        {str(place): int(count) for place, count in enumerate(histogram(values, edges)) if count}
        for values in (reference, served)
    )
    return one, other


def category_stability(reference: Mapping[str, int], served: Mapping[str, int]) -> float:
    """The population stability index over the values; what is rare is counted together."""
    table = _cells(reference, served)
    return stability(table[0], table[1])


def bins(reference: Array) -> Array:
    """The inner edges of the bins: deciles of the reference, or around each of its values if these are ten or fewer."""
    values = np.unique(reference)
    if len(values) > _BINS:
        return np.unique(np.quantile(reference, np.linspace(0, 1, _BINS + 1)[1:-1], method="inverted_cdf"))
    with np.errstate(over="ignore"):  # below the smallest number there is minus infinity
        below = np.nextafter(values, -np.inf)
    return np.unique(np.concatenate([below, values]))


def histogram(values: Array, edges: Array) -> Array:
    """How many values lie at or below each edge and above the one before; the last bin is open."""
    return np.bincount(np.searchsorted(edges, values, side="left"), minlength=len(edges) + 1)


def wasserstein(reference: Array, served: Array) -> float | None:
    """How far the values have moved on average, in standard deviations of the reference; None where that has none.

    The first Wasserstein distance (Vaserstein 1969), by scipy.stats.wasserstein_distance.
    """
    from scipy.stats import wasserstein_distance

    scale = float(np.abs(reference).max()) or 1.0  # numbers beyond 1e150 have no variance that a float can hold
    with np.errstate(over="ignore"):
        moved_to = served / scale
    spread = float(np.std(reference / scale))
    if spread == 0 or reference.min() == reference.max() or not np.isfinite(moved_to).all():
        return None
    distance = float(wasserstein_distance(reference / scale, moved_to)) / spread
    return distance if math.isfinite(distance) else None


def total_variation(reference: Mapping[str, int], served: Mapping[str, int]) -> float:
    """The share of rows that would have to have another value for the two to be alike: half of Σ |s - r|."""
    r, s = (counts / counts.sum() for counts in _cells(reference, served))
    return float(np.abs(s - r).sum() / 2)


def corrected(p: list[float]) -> list[float]:
    """The p-values, corrected for there being many: Benjamini & Hochberg 1995, J. R. Stat. Soc. B 57:289."""
    from scipy.stats import false_discovery_control

    return [float(value) for value in false_discovery_control(p)] if p else []


def _cells(reference: Mapping[str, int], served: Mapping[str, int]) -> Array:
    """Counts of shape (2, cells): the values that both together expect five rows of, the rest in one cell."""
    rows = np.array([sum(reference.values()), sum(served.values())])
    both = {value: reference.get(value, 0) + served.get(value, 0) for value in {*reference, *served}}
    needed = _EXPECTED * rows.sum() / rows.min()
    common = [value for value in most_frequent(both, len(both)) if both[value] >= needed]
    table = np.stack([totals(reference, common), totals(served, common)])
    return table[:, table.sum(axis=0) > 0]
