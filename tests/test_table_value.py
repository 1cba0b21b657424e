"""A table's digest by value: the same however it is written, another one for any other value, type, name or order."""

import datetime as dt

import polars as pl
import pytest

from dovetail.values.table_value import table_digest

ROWS = pl.DataFrame(
    {
        "n": [1, None, 3],
        "text": ["x", None, "é"],
        "x": [1.5, float("nan"), None],
        "yes": [True, None, False],
        "when": [dt.datetime(2020, 1, 1, tzinfo=dt.UTC), None, dt.datetime(9999, 12, 31, tzinfo=dt.UTC)],
        "day": [dt.date(2020, 1, 1), None, None],
        "list": [[1, 2], None, [3]],
    }
)


def digest(rows, folder, **how):
    rows.write_parquet(folder / "t.parquet", **how)
    return table_digest(folder / "t.parquet", "t.parquet")


def test_compression_row_groups_and_dictionaries_do_not_count(tmp_path):
    known = digest(ROWS, tmp_path)
    assert digest(ROWS, tmp_path, compression="snappy", row_group_size=1) == known
    assert digest(ROWS.with_columns(pl.col("text").cast(pl.Categorical)), tmp_path) == known
    assert digest(pl.concat([ROWS[:1], ROWS[1:]], rechunk=False), tmp_path) == known


CHANGES = {
    "a missing value that is 0": pl.col("n").fill_null(0),
    "a missing text that is empty": pl.col("text").fill_null(""),
    "no number that is missing": pl.col("x").fill_nan(None),
    "a missing truth that is false": pl.col("yes").fill_null(value=False),
    "a sign": pl.col("n") * -1,
    "a wider type": pl.col("day").cast(pl.Datetime),
    "a narrower type": pl.col("n").cast(pl.Int32),
    "a microsecond": pl.col("when") - dt.timedelta(microseconds=1),
    "a name": pl.col("n").alias("N"),
    "values of the next row": pl.col("text").shift(1),
    "a shorter list": pl.col("list").list.head(1),
}


@pytest.mark.parametrize("change", CHANGES)
def test_any_other_value_counts(tmp_path, change):
    assert digest(ROWS.with_columns(CHANGES[change]), tmp_path) != digest(ROWS, tmp_path)


def test_the_order_of_rows_and_columns_and_their_number_count(tmp_path):
    others = [ROWS.reverse(), ROWS.select(reversed(ROWS.columns)), ROWS[:2], ROWS.drop("n"), ROWS.clear()]
    assert len({digest(rows, tmp_path) for rows in [ROWS, *others]}) == len(others) + 1


def test_letters_do_not_move_from_row_to_row(tmp_path):
    one, other = (pl.DataFrame({"text": rows}) for rows in (["ab", "c"], ["a", "bc"]))
    assert digest(one, tmp_path) != digest(other, tmp_path)


def test_what_is_no_table_has_none(tmp_path):
    (tmp_path / "m.joblib").write_bytes(b"x")
    assert table_digest(tmp_path / "m.joblib", "m.joblib") is None
