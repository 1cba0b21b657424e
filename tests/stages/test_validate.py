"""Validation: which rows break which rule of the schema, whatever the file's format and the types in it."""

import csv
import datetime as dt
import re

import pandera.polars as pa
import polars as pl
import pytest
from datasets import AGE, FLOAT, INT, TEXT, params
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal
from pyarrow import array, decimal256, json_, parquet, table, time32

from stages import clean
from stages.common.errors import StageError
from stages.data.quotes import begin_fields, refuse_stray_quotes
from stages.data.raw_file import CSV, PARQUET, Format, Raw
from stages.validation.schema import ROW_CHECKS
from stages.validation.validate import validate


def test_a_broken_row_is_set_aside_with_number_and_reasons(job):
    done = job().run("raw.csv", "name,age\nAnn,25\nBo,131\n,200\nDi,130\n", {"name": TEXT, **AGE})
    assert done.rows.rows() == [("Ann", 25), ("Di", 130)]
    assert done.rejected.rows(named=True) == [
        {"row": 2, "name": "Bo", "age": 131, "reason": "age: in_range(0, 130)"},
        {"row": 3, "name": None, "age": 200, "reason": "name: not_nullable; age: in_range(0, 130)"},
    ]


@pytest.mark.parametrize(
    ("check", "args", "column", "cells"),
    [
        ("eq", 1, INT, (1, 2)),
        ("ne", 1, INT, (2, 1)),
        ("gt", {"min_value": 1}, INT, (2, 1)),
        ("ge", 1, INT, (1, 0)),
        ("lt", 1.5, FLOAT, (1.4, 1.5)),
        ("le", 1, INT, (1, 2)),
        ("between", {"min_value": 0, "max_value": 9}, INT, (9, 10)),
        ("in_range", {"min_value": 0, "max_value": 9, "include_max": False}, INT, (8, 9)),
        ("isin", ["a", "b"], TEXT, ("a", "c")),
        ("notin", {"forbidden_values": ["a"]}, TEXT, ("b", "a")),
        ("equal_to", "a", TEXT, ("a", "b")),
        ("not_equal_to", "a", TEXT, ("b", "a")),
        ("greater_than", 1, INT, (2, 1)),
        ("greater_than_or_equal_to", dt.date(2020, 1, 1), {"dtype": "date"}, ("2020-01-01", "2019-12-31")),
        ("less_than", 1, INT, (0, 1)),
        ("less_than_or_equal_to", 1, INT, (1, 2)),
        ("str_matches", "^a+$", TEXT, ("aa", "ab")),
        ("str_contains", "b", TEXT, ("abc", "ac")),
        ("str_startswith", "a", TEXT, ("ab", "ba")),
        ("str_endswith", {"string": "a"}, TEXT, ("ba", "ab")),
        ("str_length", {"min_value": 2, "max_value": 3}, TEXT, ("äö", "a")),
    ],
)
def test_each_check_of_pandera_tells_rows_apart_and_lets_a_missing_value_pass(job, check, args, column, cells):
    good, bad = cells
    columns = {"x": {**column, "nullable": True, "checks": {check: args}}, "y": INT}
    done = job().run("raw.csv", f"x,y\n{good},1\n{bad},2\n,3\n", columns)
    assert done.rows["y"].to_list() == [1, 3]
    assert done.rejected["y"].to_list() == [2]
    assert done.rejected["reason"][0].startswith("x: ")
    assert check in ROW_CHECKS


def test_every_offered_check_is_panderas():
    assert all(callable(getattr(pa.Check, name)) for name in ROW_CHECKS)


def test_what_pandera_itself_rejects_is_rejected(job):
    """The same rows, by pandera's own `validate` and by the expressions taken from its checks."""
    table = pl.DataFrame({"n": [None, -1, 0, 5, 9, 10], "t": ["a", "bb", None, "ccc", "", "a"]})
    checks = {
        "n": {"in_range": {"min_value": 0, "max_value": 9}},
        "t": {"str_length": {"min_value": 1, "max_value": 2}},
    }
    columns = {
        "n": {"dtype": "int64", "nullable": True, "checks": checks["n"]},
        "t": {"dtype": "str", "checks": checks["t"]},
    }
    schema = pa.DataFrameSchema(
        {
            "n": pa.Column(pl.Int64, pa.Check.in_range(0, 9), nullable=True),
            "t": pa.Column(pl.String, pa.Check.str_length(1, 2)),
        }
    )
    with pytest.raises(pa.errors.SchemaErrors) as errors:
        schema.validate(table, lazy=True)
    expected = sorted({index + 1 for index in errors.value.failure_cases["index"].to_list() if index is not None})
    assert job().run("raw.parquet", table, columns).rejected["row"].to_list() == expected


def test_unique_rejects_all_rows_of_a_repeated_value_but_no_missing_ones(job):
    done = job().run("raw.csv", "x,y\n1,1\n2,2\n1,3\n,4\n,5\n", {"x": {**INT, "unique": True, "nullable": True}})
    assert done.rejected.select("row", "reason").rows() == [(1, "x: unique"), (3, "x: unique")]


def test_a_nan_is_a_missing_value(job):
    done = job().run("raw.csv", "x,y\nNaN,1\n1.5,2\n", {"x": FLOAT, "y": FLOAT})
    assert done.rejected["reason"].to_list() == ["x: not_nullable"]
    assert done.metrics["missing"] == {"x": 1}


DTYPES = {
    "i": "int64",
    "j": "int32",
    "f": "float64",
    "g": "float32",
    "b": "bool",
    "d": "date",
    "t": "datetime",
    "s": "str",
}
CELLS = """\
i,j,f,g,b,d,t,s
 7,1,NaN,0.5,TRUE,2020-01-02,2020-01-02T03:04:05,x
-1,2,1e3,1,false,2020-12-31,2020-01-02 03:04:05.5,07
"""


def test_types_and_values_are_the_same_whether_or_not_another_cell_fails_to_parse(job):
    columns = {name: {"dtype": dtype, "nullable": True} for name, dtype in DTYPES.items()}
    fast = job().run("raw.csv", CELLS, columns).rows
    slow = job().run("raw.csv", CELLS + "1x,,,,,,,\n", columns)
    assert_frame_equal(fast, slow.rows)
    assert fast.schema == {
        "i": pl.Int64,
        "j": pl.Int32,
        "f": pl.Float64,
        "g": pl.Float32,
        "b": pl.Boolean,
        "d": pl.Date,
        "t": pl.Datetime("us"),
        "s": pl.String,
    }
    assert slow.rejected.select("row", "i", "reason").rows() == [(3, "1x", "i: dtype(int64)")]


@pytest.mark.parametrize(
    ("dtype", "cell"),
    [
        ("int64", "1.5"),
        ("int64", "x"),
        ("int32", "3000000000"),
        ("float64", "1,5"),
        ("bool", "yes"),
        ("date", "01/02/2020"),
        ("date", "2020-02-30"),
        ("datetime", "yesterday"),
    ],
)
def test_a_cell_of_another_type_rejects_its_row_alone(job, dtype, cell):
    good = {"int64": "1", "int32": "1", "float64": "1", "bool": "true", "date": "2020-01-01", "datetime": "2020-01-01"}
    done = job().run("raw.csv", f'x,y\n{good[dtype]},1\n"{cell}",2\n', {"x": {"dtype": dtype}, "y": INT})
    assert done.rows["y"].to_list() == [1]
    assert done.rejected.select("row", "x", "reason").rows() == [(2, cell, f"x: dtype({dtype})")]


def test_a_whole_number_may_be_written_as_a_decimal_in_csv_as_in_parquet(job):
    columns = {"x": {**INT, "nullable": True}}
    for raw, content in (
        ("raw.csv", "x,y\n3.0,1\n1e3,2\n2.5,3\n9007199254740993,4\n1e300,5\n"),
        (
            "raw.jsonl",
            '{"x": 3.0, "y": 1}\n{"x": 1000.0, "y": 2}\n{"x": 2.5, "y": 3}\n{"x": 9007199254740993, "y": 4}\n',
        ),
    ):
        done = job().run(raw, content, columns)
        assert done.rows["x"].to_list() == [3, 1000, 9007199254740993]
        assert done.rejected["row"].to_list()[0] == 3
    done = job().run("raw.parquet", pl.DataFrame({"x": [3.0, 1000.0, 2.5]}), columns)
    assert done.rows["x"].to_list() == [3, 1000]


@pytest.mark.parametrize(
    ("dtype", "cell", "ending"),
    [
        ("float32", "1e39", "csv"),
        ("float32", "-1e39", "csv"),
        ("float64", "1e400", "csv"),
        ("float32", "1e39", "jsonl"),
        ("float32", "-1e39", "jsonl"),  # no JSON reader takes 1e400 for a number
    ],
)
def test_a_number_too_large_for_its_type_rejects_its_row(job, dtype, cell, ending):
    rows = [("1.5", 1), (cell, 2), ("2.5", 3)]
    csv = "x,y\n" + "".join(f"{x},{y}\n" for x, y in rows)
    lines = "".join(f'{{"x": {x}, "y": {y}}}\n' for x, y in rows)
    done = job().run(f"raw.{ending}", csv if ending == "csv" else lines, {"x": {"dtype": dtype}, "y": INT})
    assert done.rows.rows() == [(1.5, 1), (2.5, 3)]
    assert done.rejected.select("row", "reason").rows() == [(2, f"x: dtype({dtype})")]


def test_a_float64_too_large_for_float32_rejects_its_row_in_parquet(job):
    done = job().run("raw.parquet", pl.DataFrame({"x": [1.5, 1e39, float("inf")]}), {"x": {"dtype": "float32"}})
    assert done.rows["x"].to_list() == [1.5, float("inf")]
    assert done.rejected["reason"].to_list() == ["x: dtype(float32)"]


def test_infinity_that_is_written_stays_one(job):
    done = job().run("raw.csv", "x,y\ninf,1\n-Infinity,2\n1e400,3\n", {"x": FLOAT, "y": INT})
    assert done.rows["x"].to_list() == [float("inf"), float("-inf")]
    assert done.rejected["row"].to_list() == [3]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"x,y\n1,2\n3\n5,6\n", r"not a CSV file separated by ',': .*Row #3: Expected 2 columns, got 1: 3; "),
        (
            b"x,y\n1,2\n3,4,5\n",
            r"Row #3: Expected 2 columns, got 3: 3,4,5; .* set params.yaml: datasets.d.clean.separator",
        ),
        (b"x,y\n1,2\n\n3,4\n", r"line 3 is blank; remove it"),
        (b"x,y\n1,2\n\n", r"line 3 is blank; remove it"),
        (b'x,y\r\n"a\r\n\r\nb",2\r\n\r\n3,\r\n', r"line 5 is blank; remove it"),
        (
            b'x,y\n12" disk,2\n3,4\n',
            r"""line 2: '12" disk,2' has a quote in a field that is not quoted; quote the fie.*"12"" d""",
        ),
        (b'x,y\n"1\n""2",1\n12",2\n3,4\n13",5\n6,7\n', r"""line 4: '12",2' has a quote in a field that is"""),
        (b'x,y"\n1,2\n3,4\n', r"""line 1: 'x,y"' has a quote in a field"""),
        (b"x\n1\n\n2\n", r"line 3 is blank; .* a file of one column is written \"\""),
        (b"\nx,y\n1,2\n", r"line 1 is blank; the first line must name the columns"),
        (b"x,x\n1,2\n", r"line 1: two columns are named 'x'; rename one"),
        (b"2019,2020\n3,4\n", r"line 1: '2019,2020' is data; .*if these are their names, .* such as 'y2019'$"),
        (b",x,y\n0,1,2\n1,3,4\n", r"line 1: column 1 has no name; .*index=False"),
        (
            "x,größe\n1,2\n".encode("latin-1"),
            r"line 1 is not UTF-8: .*set params.yaml: datasets.d.clean.encoding, perhaps to windows-125",
        ),
        ("x,y\n1,ä\n2,b\n".encode("latin-1"), r"line 2 is not UTF-8: "),
        ("x,y\n1,2\n".encode("utf-16"), r"line 1 is not UTF-8: .*encoding, perhaps to utf-16$"),
    ],
)
def test_a_raw_file_that_nobody_checked_is_held_to_the_same(job, content, said):
    """As `dvc add` takes it: no stage has seen it before."""
    done = job()
    (done.folder / "raw.csv").write_bytes(content)
    with pytest.raises(StageError) as refusal:
        clean.run("d", params({"x": {"dtype": "str"}}), raw=done.folder / "raw.csv", **done.paths)
    assert re.search(said, str(refusal.value)), refusal.value
    assert "\n" not in str(refusal.value)
    assert done.written == []


def test_two_parquet_columns_of_a_name_are_refused(job, tmp_path):
    parquet.write_table(table([[1], [2]], names=["x", "x"]), tmp_path / "raw.parquet")
    with pytest.raises(StageError, match="two columns are named 'x'"):
        clean.run("d", params({"x": INT}), raw=tmp_path / "raw.parquet", **job().paths)


def test_a_missing_value_in_the_last_column_is_no_short_row(job):
    assert job().run("raw.csv", 'x,y\n1,\n2,""\n,\n', {"x": {**INT, "nullable": True}}).rows.height == 3


def test_a_column_that_the_schema_does_not_name_keeps_its_type_in_either_reading(job):
    text = "x,n,t,late,half\n1,1.5,a,1,1\n2,2,b,2,2\n" + "3,3,c,3,3\n" * 20_000 + "4,4,d,word,2.5\n"
    done = job().run("raw.csv", text, {"x": INT})
    types = {"x": pl.Int64, "n": pl.Float64, "t": pl.String, "late": pl.String, "half": pl.Float64}
    assert done.rows.schema == types
    assert done.metrics["rows_rejected"] == 0
    also = job().run("raw.csv", text + "x,5,e,5,5\n", {"x": INT})
    assert also.rows.schema == done.rows.schema
    assert also.metrics["reasons"] == {"x: dtype(int64)": 1}


@pytest.mark.parametrize("part_rows", [None, 6_000])
def test_a_key_or_value_of_json_that_first_comes_in_a_late_row_is_kept(job, part_rows):
    lines = ['{"x": 1, "null": null, "in": {"a": 1}}\n'] * 10_001
    lines.append('{"x": 2, "null": "v", "in": {"a": 1, "b": 2}, "late": 5}\n')
    whole = job()
    if part_rows:
        (whole.folder / "parts").mkdir()
        (whole.folder / "parts/a.jsonl").write_text("".join(lines))
        given = params({"x": INT}, raw="parts/", part_rows=part_rows)
        clean.run("d", given, raw=whole.folder / "parts", **whole.paths)
        rows = pl.concat(pl.read_parquet(part) for part in sorted(whole.paths["clean"].iterdir()))
    else:
        rows = whole.run("raw.jsonl", "".join(lines), {"x": INT}).rows
    assert rows.to_dicts()[-2:] == [
        {"x": 1, "null": None, "in": {"a": 1, "b": None}, "late": None},
        {"x": 2, "null": "v", "in": {"a": 1, "b": 2}, "late": 5},
    ]


def test_a_quote_in_the_name_of_a_column_is_one(job):
    done = job().run("raw.csv", 'x,"height (5"")"\n1,2\n3,?\n', {"x": INT, 'height (5")': INT})
    assert done.rows.to_dicts() == [{"x": 1, 'height (5")': 2}]
    assert done.rejected["reason"].to_list() == ['height (5"): dtype(int64)']


def test_a_whole_number_with_a_fraction_of_zeros_is_not_rounded(job):
    done = job().run("raw.csv", "x\n9007199254740993.0\n-7.\n1e3\n9.007199254740993e15\n", {"x": INT})
    assert done.rows["x"].to_list() == [9007199254740993, -7, 1000]
    assert len(done.rejected) == 1


def test_json_lines_are_read_by_the_schema(job):
    lines = '{"x": 1, "d": "2020-01-01"}\n{"x": "12x", "d": null}\n{"x": 2, "d": "2020-13-01"}\n{"d": "2020-01-02"}\n'
    columns = {"x": {**INT, "nullable": True}, "d": {"dtype": "date", "nullable": True}}
    done = job().run("raw.jsonl", lines, columns)
    assert done.rows.rows() == [(1, dt.date(2020, 1, 1)), (None, dt.date(2020, 1, 2))]
    assert done.rejected["reason"].to_list() == ["x: dtype(int64)", "d: dtype(date)"]


def test_a_parquet_column_of_another_type_is_cast_where_nothing_is_lost(job):
    table = pl.DataFrame(
        {
            "text": ["1", "12x", "3", None],
            "real": [1.0, 2.0, 2.5, 4.0],
            "flag": [0, 1, 1, 2],
            "number": [1, 2, 3, 4],
            "day": pl.Series(["2020-01-01T00:00", "2020-01-02T00:00", None, "2020-01-03T04:00"]).str.to_datetime(),
        }
    )
    dtypes = {"text": "int64", "real": "int64", "flag": "bool", "number": "str", "day": "date"}
    columns = {name: {"dtype": dtype, "nullable": True} for name, dtype in dtypes.items()}
    done = job().run("raw.parquet", table, columns)
    assert done.rows.rows() == [(1, 1, False, "1", dt.date(2020, 1, 1))]
    assert done.rejected["reason"].to_list() == [
        "text: dtype(int64)",
        "real: dtype(int64)",
        "flag: dtype(bool); day: dtype(date)",
    ]
    assert done.rejected.drop("row", "reason").rows() == table.rows()[1:]


@pytest.mark.parametrize("kinds", [2, 50_000])
def test_coded_text_is_rejected_as_text_also_within_lists_and_structs(job, kinds):
    """An Arrow file, in which these rows lie for a while, has one code for all of them."""
    codes = pl.Series([f"k{number % kinds}" for number in range(200_000)], dtype=pl.Categorical)
    inner = pl.col("c")
    table = pl.DataFrame({"x": [1, -1] * 100_000, "c": codes}).with_columns(
        list=pl.concat_list(inner, inner), array=inner.reshape((-1, 1)), struct=pl.struct(inner, pl.col("x"))
    )
    done = job().run("raw.parquet", table, {"x": {**INT, "checks": {"ge": 0}}})
    wanted = [f"k{number % kinds}" for number in range(1, 200_000, 2)]
    assert done.rejected["c"].to_list() == wanted
    assert done.rejected["list"].to_list() == [[text, text] for text in wanted]
    assert done.rejected["array"].to_list() == [[text] for text in wanted]
    assert done.rejected["struct"].to_list() == [{"c": text, "x": -1} for text in wanted]
    assert done.rejected["row"].to_list() == list(range(2, 200_001, 2))


@pytest.mark.parametrize(("number", "dtype"), [(2**31 - 1, pl.Date), (2**62, pl.Datetime("ms"))])
def test_a_time_too_far_away_for_microseconds_is_rejected_not_missing(job, number, dtype):
    table = pl.DataFrame({"t": pl.Series([0, number]).cast(dtype)})
    done = job().run("raw.parquet", table, {"t": {"dtype": "datetime", "nullable": True}})
    assert done.rows["t"].to_physical().to_list() == [0]
    assert done.rejected.select("row", "reason").rows() == [(2, "t: dtype(datetime)")]


@pytest.mark.parametrize(
    ("column", "wanted", "said"),
    [
        (array([[1]]), "int64", r"List\(Int64\), which cannot be Int64"),
        (array([1], time32("s")), "datetime", r"Time, which cannot be Datetime"),
        (array([1], time32("s")), "date", r"Time, which cannot be Date"),
        (array(["[]"], json_()), "str", r"Extension\('arrow\.json', .*\), which cannot be String"),
        (
            array(["1"]).cast(decimal256(60, 0)),
            "float64",
            r"Decimal\(.*=60, .*\), of more than 38 digits; correct",
        ),
    ],
)
def test_a_type_that_cannot_be_cast_is_refused(job, tmp_path, column, wanted, said):
    parquet.write_table(table({"x": column}), tmp_path / "raw.parquet")
    with pytest.raises(StageError, match=rf"raw\.parquet: column 'x' is {said}"):
        clean.run("d", params({"x": {"dtype": wanted}}), raw=tmp_path / "raw.parquet", **job().paths)


def test_separator_and_null_values_are_read_from_the_settings(job):
    done = job().run(
        "raw.csv",
        "x;y\n1,5;NA\n-;2\n",
        {"x": TEXT, "y": {**INT, "nullable": True}},
        separator=";",
        null_values=["NA", "-"],
    )
    assert done.rows.rows() == [("1,5", None)]
    assert done.metrics["missing"] == {"x": 1, "y": 1}


@pytest.mark.parametrize(
    ("columns", "schema", "said"),
    [
        ({"y": INT}, {}, r"raw\.csv has no column 'y', only x, z"),
        (
            {"x": INT},
            {"strict": True},
            r"the strict schema does not name column 'z' \(Int64, looks like a constant\); add it to params\.yaml",
        ),
        (
            {"x": {**INT, "checks": {"inrange": 1}}},
            {},
            r"d\.schema\.columns\.x\.checks: no check 'inrange'; there are: eq, ",
        ),
        ({"x": {**INT, "checks": {"unique_values_eq": [1]}}}, {}, "no check 'unique_values_eq'"),
        (
            {"x": {**INT, "checks": {"in_range": {"min": 0}}}},
            {},
            r"checks\.in_range = {'min': 0}: unknown argument 'min'",
        ),
        ({"x": {**INT, "checks": {"in_range": {"min_value": 0}}}}, {}, r"x\.checks\.in_range = .*max_value"),
        ({"x": {**INT, "checks": {"gt": "ten"}}}, {}, r"x\.checks\.gt = 'ten'"),
        ({"x": {**TEXT, "checks": {"str_matches": "("}}}, {}, r"x\.checks\.str_matches = '\('"),
    ],
)
def test_a_schema_that_does_not_fit_is_refused_with_its_place(job, columns, schema, said):
    done = job()
    with pytest.raises(StageError) as refusal:
        done.run("raw.csv", "x,z\n1,2\n", columns, schema=schema)
    assert re.search(said, str(refusal.value)), refusal.value
    assert "\n" not in str(refusal.value)
    assert done.written == []


def test_a_column_that_need_not_be_there_may_be_missing(job):
    assert job().run("raw.csv", "x\n1\n", {"x": INT, "y": {**INT, "required": False}}).rows.columns == ["x"]


def as_raw(path):
    return Raw(path, path, CSV if path.suffix == ".csv" else PARQUET, Format())


HOSTILE = st.sampled_from(
    [
        *("row", "reason", "rows", "column0", "value0", "value1", "broken0", "missing_column0", "__v", "__broken0"),
        *("*", "^.*$", "^v$", "a.b", "${x}", "two words", "ü", "literal", "len", "index", "v"),
    ]
)
CHARACTERS = st.characters(codec="utf-8", exclude_categories=["Cc", "Cs", "Zl", "Zp"], exclude_characters='",')
NAMES = HOSTILE | st.text(CHARACTERS, min_size=1, max_size=4)


@settings(deadline=None, max_examples=60)
@given(
    names=st.lists(NAMES, min_size=3, max_size=6, unique=True),
    suffix=st.sampled_from([".csv", ".parquet"]),
)
def test_no_column_of_the_file_meets_one_of_ours(tmp_path_factory, names, suffix):
    """Whatever the columns are called, each keeps its values: in the clean rows, the rejected ones and the counts."""
    raw = tmp_path_factory.mktemp("hostile") / f"raw{suffix}"
    days = ["2020-01-01", "2020-01-02", "no day"]
    others = {name: [number * 10 + row for row in range(3)] for number, name in enumerate(names[1:])}
    table = pl.DataFrame({names[0]: days, **others})
    table.write_csv(raw) if suffix == ".csv" else table.write_parquet(raw)
    columns = {names[0]: {"dtype": "date"}, names[1]: {"dtype": "float64", "checks": {"ge": 0}}}
    validated = validate(params(columns).datasets["d"], "datasets.d", as_raw(raw), as_text=True)
    good, rejected = validated.good.collect(), validated.rejected.collect()
    assert good.columns == names
    assert good[names[0]].to_list() == [dt.date(2020, 1, 1), dt.date(2020, 1, 2)]
    assert [good[name].to_list() for name in others] == [values[:2] for values in others.values()]
    assert rejected.columns == [validated.row, *names, validated.reason]
    assert rejected.select(pl.exclude(validated.reason)).cast(pl.String).row(0) == tuple(map(str, [3, *table.row(2)]))
    assert rejected[validated.reason].to_list() == [f"{names[0]}: dtype(date)"]
    rows, *counts = validated.counts.collect().row(0)
    assert (rows, sum(counts), len(counts)) == (3, 1, len(validated.rules) + len(names) + 1)


def test_raw_columns_named_row_and_reason_are_kept(job):
    done = job().run("raw.csv", "row,reason\n7,why\n-1,not\n", {"row": {**INT, "checks": {"ge": 0}}})
    assert done.rejected.rows(named=True) == [
        {"row_": 2, "row": -1, "reason": "not", "reason_": "row: greater_than_or_equal_to(0)"}
    ]


@settings(deadline=None, max_examples=200)
@given(
    st.lists(
        st.lists(st.sampled_from(["a", '"', '""', ",", "\n", "b c"]), max_size=5).map("".join), min_size=1, max_size=9
    ),
    st.integers(1, 7),
)
def test_quotes_that_quote_are_none_that_stray(tmp_path_factory, cells, size):
    """Whatever the cells are, and wherever the reading stops, a file that is written as CSV is none that is refused."""
    file = tmp_path_factory.mktemp("quotes") / "raw.csv"
    with file.open("w", newline="") as text:
        csv.writer(text, lineterminator="\n").writerows([cell, "x", cell] for cell in cells)
    before, is_open = b"\n", False
    for start in range(0, len(content := file.read_bytes()), size):
        chunk = content[start : start + size]
        assert begin_fields(before, chunk, ",", is_open=is_open)
        before, is_open = chunk[-1:], is_open ^ (chunk.count(b'"') % 2 == 1)
    refuse_stray_quotes(file, ",", file)


def test_quotes_of_a_field_that_is_not_quoted_are_its_own_where_they_are_two(job):
    done = job().run("raw.csv", 'x,y\n12"x13" disk,1\n"a ""b"", c",2\n14"" e,3\n', {"x": TEXT, "y": INT})
    assert done.rows["x"].to_list() == ['12"x13" disk', 'a "b", c', '14"" e']
