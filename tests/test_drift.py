"""What is the same does not alarm, what has moved does, and no column breaks the comparison."""

import math
import tracemalloc
from datetime import date
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dovetail.monitoring import charts, performance, statistics
from dovetail.monitoring.column_pair import pair
from dovetail.monitoring.drift import ALPHA, compare

ROWS = 400


def columns(rng, rows, shift=0.0):
    """A table of every kind of column, of which `shift` moves each."""
    words = np.array(["red", "green", "blue", "rare"])
    start = pd.Timestamp("2026-01-01")
    return {
        "number": pd.Series(rng.normal(shift, 1, rows)),
        "skewed": pd.Series(rng.exponential(1 + shift, rows)),
        "whole": pd.Series(rng.integers(0, 5, rows) + round(shift)),
        "gaps": pd.Series(np.where(rng.random(rows) < 0.2 + 0.2 * shift, np.nan, rng.normal(0, 1, rows))),
        "text": pd.Series(rng.choice(words, rows, p=np.array([5 - 2 * shift, 3 + 2 * shift, 1.9, 0.1]) / 10)),
        "flag": pd.Series(rng.random(rows) < 0.3 + 0.2 * shift),
        "date": pd.Series(start + pd.to_timedelta(rng.random(rows) * 30 + 10 * shift, unit="D")),
        "names": pd.Series([f"name {number}" for number in rng.integers(0, 10**6, rows)]),
    }


def compared(reference, served, min_rows=100):
    found = compare([pair(name, reference[name], served[name]) for name in reference], min_rows)
    return {column.name: column for column in found}


@pytest.mark.slow
def test_the_same_distribution_alarms_no_oftener_than_alpha_and_its_p_values_are_uniform():
    rng = np.random.default_rng(0)
    same = [compared(columns(rng, 2 * ROWS), columns(rng, ROWS)) for _ in range(200)]
    alarms = sum(any(column.drifted for column in found.values()) for found in same)
    assert alarms <= 200 * ALPHA + 3 * math.sqrt(200 * ALPHA)
    for name in same[0]:
        p = np.array([found[name].p for found in same])
        assert (p < 0.1).mean() < 0.17, name  # 0.1 and three standard errors of it


@pytest.mark.parametrize("seed", range(5))
def test_what_has_moved_alarms_in_every_column_but_that_of_names(seed):
    rng = np.random.default_rng(seed)
    found = compared(columns(rng, 2 * ROWS), columns(rng, ROWS, shift=1))
    assert {name for name, column in found.items() if not column.drifted} == {"names"}
    assert found["number"].reason.startswith("the distribution has moved: PSI")
    assert found["number"].wasserstein == pytest.approx(1, abs=0.25)
    assert "missing in" in found["gaps"].reason


@pytest.mark.slow
def test_a_million_rows_do_not_alarm_over_nothing():
    rng = np.random.default_rng(0)
    reference = {"x": pd.Series(rng.normal(0, 1, 1_000_000)), "kind": pd.Series(rng.random(1_000_000) < 0.5)}
    served = {"x": pd.Series(rng.normal(0.02, 1, 1_000_000)), "kind": pd.Series(rng.random(1_000_000) < 0.505)}
    for column in compared(reference, served).values():
        assert column.p_corrected < 1e-6
        assert not column.drifted


def test_values_beyond_all_others_alarm_though_the_distributions_are_close():
    reference = {"x": pd.Series([i % 7 for i in range(140)])}
    served = {"x": pd.Series([i % 7 + (3 if i % 3 == 0 else 0) for i in range(1350)])}
    assert compared(reference, served)["x"].p_corrected > ALPHA  # Kolmogorov and Smirnov's
    assert compared(reference, served)["x"].reason.startswith("the distribution has moved: PSI")


def test_too_few_rows_say_nothing():
    rng = np.random.default_rng(0)
    found = compared(columns(rng, ROWS), columns(rng, 99, shift=1))
    for column in found.values():
        assert not column.drifted
        assert column.reason.startswith("too few rows")
        assert column.psi is column.p is None


def test_values_that_are_new_are_told_from_a_column_of_which_every_value_is():
    old = {"kind": pd.Series(["a", "b"] * 200), "names": pd.Series([f"n{i}" for i in range(400)])}
    new = {"kind": pd.Series(["a", "b", "a", "c"] * 50), "names": pd.Series([f"m{i}" for i in range(200)])}
    found = compared(old, new)
    assert found["kind"].unseen == 0.25
    assert "25.0% of the values are unseen in training" in found["kind"].reason
    assert found["names"].unseen == 1
    assert not found["names"].drifted


def test_what_is_missing_throughout_alarms_and_what_was_never_there_does_not():
    nothing = pd.Series([None] * 300, dtype=object)
    reference = {"lost": pd.Series(range(300)), "never": nothing, "found": nothing}
    served = {"lost": nothing, "never": nothing, "found": pd.Series(range(300))}
    found = compared(reference, served)
    assert found["lost"].reason == "missing in 100.0% of the rows, 0.0% in training"
    assert not found["never"].drifted
    assert found["never"].reason == "too few rows: 0 of 100"
    assert found["found"].drifted


def test_numbers_that_came_as_text_are_numbers_and_whole_ones_categories_alike():
    reference = {"x": pd.Series([1.0, 2.5, 3.0] * 100), "code": pd.Series(["1", "2"] * 150)}
    served = {"x": pd.Series(["1", "2.5", "3"] * 100), "code": pd.Series([1.0, 2.0] * 150)}
    for column in compared(reference, served).values():
        assert column.p == 1
        assert column.psi == pytest.approx(0)


def test_decimals_are_numbers():
    reference = {"price": pd.Series([Decimal("1.50"), Decimal("2.25"), None, Decimal("NaN")] * 100)}
    for served in (
        [1.5, 2.25, None, math.nan],
        ["1.5", "2.250", None, None],
        [Decimal("1.5"), Decimal("2.25"), None, None],
    ):
        (column,) = compared(reference, {"price": pd.Series(served * 100)}).values()
        assert (column.kind, column.p, column.psi, column.drifted) == ("number", 1, 0, False)


def test_one_long_text_takes_no_more_memory_than_its_own():
    texts = pd.Series(["x" * 20_000, *map(str, range(20_000))], dtype=object)
    tracemalloc.start()
    try:
        assert pair("t", texts, texts).served.counts["x" * 20_000] == 1
        found = performance.compare("accuracy", (texts, texts), (texts, texts), 100)
        assert (found.served.value, found.drifted) == (1, False)
        assert tracemalloc.get_traced_memory()[1] < 100e6
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("year", [1, 9999])
def test_days_at_the_end_of_the_calendar_have_a_chart(year):
    days = pd.Series([date(year, 12, 31) if year > 1 else date(1, 1, 1)] * 200 + [date(2026, 1, 1)], dtype=object)
    assert charts.column(pair("until", days, days)).count("<rect") > 1


def test_a_number_that_was_rounded_on_its_way_is_the_same_number():
    few = np.array([-0.044641636506989144, 0.05068011873981862, 0.1])
    reference = {"few": pd.Series(np.tile(few, 100)), "one": pd.Series([0.1] * 300)}
    for rounded in (np.round(few, 10), few.astype("float32").astype(float)):
        served = {"few": pd.Series(np.tile(rounded, 100)), "one": pd.Series([float(np.float32(0.1))] * 300)}
        for column in compared(reference, served).values():
            assert (column.p, column.psi) == (1, 0)


ODD = st.sampled_from(
    [Decimal("1.50"), Decimal("sNaN"), date.max, date.min, 0, 1, -1, 2**70, -(2**70),
     1e308, -1e308, 5e-324, math.nan, math.inf, -math.inf, None, True, False, "", "x", "1",
     "2026-01-01", pd.Timestamp("2026-01-01"), pd.Timestamp.max, pd.NaT, pd.NA, b"\\xff", [1], {"a": 1}]
)  # fmt: skip


@settings(max_examples=200, deadline=None)
@given(st.lists(ODD, min_size=0, max_size=30), st.lists(ODD, min_size=0, max_size=30), st.integers(1, 5))
def test_no_column_breaks_the_comparison(reference, served, min_rows):
    for one, other in ((reference, served), (reference, reference)):
        guessed = pair("guessed", pd.Series(one), pd.Series(other))
        objects = pair("objects", pd.Series(one, dtype=object), pd.Series(other, dtype=object))
        found = compare([guessed, objects], min_rows)
        for column in found:
            numbers = (column.statistic, column.p, column.p_corrected, column.psi, column.wasserstein, column.distance)
            assert all(number is None or math.isfinite(number) for number in numbers)
            assert not (column.drifted and one is other)


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=40), st.integers(0, 5))
def test_every_value_falls_into_one_bin(values, more):
    edges = statistics.bins(np.array(values))
    assert statistics.histogram(np.array(values + values[:more]), edges).sum() == len(values) + min(more, len(values))
    assert statistics.number_stability(np.array(values), np.array(values)) == 0


def test_the_formulas_give_what_is_printed_of_them():
    # The worked example of Siddiqi 2006: shares of 10, 20, 30 and 40 % that become 20, 20, 30 and 30 %.
    index = statistics.stability(np.array([10, 20, 30, 40]), np.array([20, 20, 30, 30]))
    assert index == pytest.approx(0.1 * math.log(2) - 0.1 * math.log(0.75))
    assert statistics.wasserstein(np.array([0.0, 2.0]), np.array([3.0, 5.0])) == pytest.approx(3)
    assert statistics.wasserstein(np.full(300, 0.1), np.array([3.0, 5.0])) is None  # their deviation is 1e-17
    assert statistics.total_variation({"a": 50, "b": 50}, {"a": 100}) == pytest.approx(0.5)
    assert statistics.corrected([0.01, 0.04, 0.03, 0.5]) == pytest.approx([0.04, 0.0533333, 0.0533333, 0.5])


@pytest.mark.parametrize("served", [[1.0, 0.0, None], [True, False, None], ["true", "false", None], [1, 0, 1]])
def test_booleans_are_the_same_however_they_are_written(served):
    known = pair("b", pd.Series([True, False, None] * 100, dtype=object), pd.Series(served * 100))
    assert set(known.served.counts) == set(known.reference.counts) == {"true", "false"}
