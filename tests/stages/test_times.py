"""A time means the same where data are cleaned and where a model is asked."""

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dovetail.serving.protocol.refused import Refused
from dovetail.serving.protocol.signature import Column
from stages.data.parsing import parse

DAYS = st.dates().map(str) | st.sampled_from(
    ["0000-01-01", "0001-01-01", "9999-12-31", "2026-02-30", "2026-1-2", "20260102", "01/02/2026", "2026-W01-1", "x"]
)
CLOCKS = st.times().map(str) | st.sampled_from(
    ["03:04", "03:04:05", "03", "24:00", "03:04:60", "3:04", "03:04:05,5", ""]
)
ZONES = st.sampled_from(["", "", "Z", "+00:00", "-05:30", "+0200", "+02", "z", " UTC"])


def served(text):
    try:
        return Column("t", "datetime", required=False).check([text])[0]
    except Refused:
        return None


@settings(deadline=None, max_examples=300)
@given(
    texts=st.lists(st.tuples(DAYS, st.sampled_from("T t_"), CLOCKS, ZONES).map("".join) | DAYS, min_size=1, max_size=9)
)
def test_serving_and_cleaning_read_a_time_alike(texts):
    cleaned = pl.DataFrame({"t": texts}).select(parse(pl.col("t"), pl.Datetime("us")))["t"].to_list()
    assert cleaned == [served(text) for text in texts]


@pytest.mark.parametrize(
    "text",
    [
        "0000-01-01",
        "0000-12-31T23:00-02:00",
        "0001-01-01T00:00+01:00",
        "9999-12-31T23:59-00:30",
        "9999-12-31T23:59:59Z",
    ],
)
def test_a_year_that_python_does_not_have_is_none(text):
    cleaned = pl.DataFrame({"t": [text]}).select(parse(pl.col("t"), pl.Datetime("us")))["t"].to_list()
    assert cleaned == [served(text)]
    assert (cleaned[0] is None) != text.endswith("Z")


def test_a_time_with_a_zone_is_in_utc():
    assert str(served("2026-01-02T03:04:05.25+02:00")) == "2026-01-02 01:04:05.250000"
    assert str(served("2026-01-02 03:04:05+02")) == "2026-01-02 01:04:05"  # as PostgreSQL writes it
