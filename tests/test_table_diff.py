"""How many rows were added, removed and changed, held against what Python's own counters say."""

import gzip
import json
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pyarrow as pa
import pyarrow.csv
import pyarrow.ipc
import pyarrow.parquet
import pytest
import xlsxwriter
from hypothesis import given, settings
from hypothesis import strategies as st

from dovetail.compare.table_diff import RowDiff, row_diff
from dovetail.errors import MissingFile
from dovetail.values.partitions import open_folder
from dovetail.values.reading import Reading
from dovetail.values.sheets import read_sheet
from dovetail.values.table_names import is_table
from dovetail.values.tables import arrow_table, open_table

SCHEMA = pa.schema([("n", pa.int64()), ("word", pa.string()), ("share", pa.float64())])
VALUES = (
    st.none() | st.integers(-3, 12),
    st.none() | st.sampled_from(["", "a", "b", "ab", "ö", "|"]),
    st.none() | st.sampled_from([0.0, -0.0, 0.5, float("inf")]),
)
ROWS = st.lists(st.tuples(*VALUES), max_size=12)


def table(rows, schema=SCHEMA, piece=3):
    """The rows as a table that is read in pieces of three."""
    columns = list(zip(*rows, strict=True)) or [[] for _ in schema]
    whole = pa.table([pa.array(c, f.type) for c, f in zip(columns, schema, strict=True)], schema=schema)
    return arrow_table(schema, lambda names: whole.select(list(names)).to_batches(max_chunksize=piece))


def counted(a, b, key):
    """The same answer, from dictionaries and counters of the rows themselves."""
    if key:
        places = [SCHEMA.get_field_index(name) for name in key]
        old, new = ({tuple(row[i] for i in places): row for row in rows} for rows in (a, b))
        assert (len(old), len(new)) == (len(a), len(b))
        changed = sum(old[k] != new[k] for k in old.keys() & new.keys())
        return len(new.keys() - old.keys()), len(old.keys() - new.keys()), changed
    old, new = Counter(a), Counter(b)
    return (new - old).total(), (old - new).total(), None


@given(ROWS, ROWS)
@settings(max_examples=150, deadline=None)
def test_it_counts_what_counters_count_and_mirrors(a, b):
    there, back = row_diff(table(a), table(b)), row_diff(table(b), table(a))
    assert (there.added, there.removed, there.changed) == counted(a, b, there.key)
    assert back == RowDiff(there.b, there.a, there.removed, there.added, there.changed, there.key)


@given(ROWS.flatmap(lambda rows: st.tuples(st.just(rows), st.permutations(rows))), st.integers(1, 5))
@settings(max_examples=80, deadline=None)
def test_the_same_rows_in_another_order_and_other_pieces_are_no_difference(rows, piece):
    found = row_diff(table(rows[0]), table(rows[1], piece=piece))
    assert (found.added, found.removed, found.changed or 0) == (0, 0, 0)


def test_a_row_is_found_again_by_the_column_that_tells_rows_apart():
    a, b = [(1, "x", 0.1), (2, "x", 0.2), (3, "y", 0.3)], [(4, "z", 0.4), (3, "y", 0.3), (1, "x", 0.9)]
    assert row_diff(table(a), table(b)) == RowDiff(3, 3, added=1, removed=1, changed=1, key=("n",))


def test_or_by_two_columns_or_not_at_all():
    a, b = [(1, "x", 0.1), (1, "y", 0.2), (2, "x", 0.3)], [(1, "x", 0.1), (1, "y", 0.9), (2, "x", 0.3)]
    assert row_diff(table(a), table(b)) == RowDiff(3, 3, added=0, removed=0, changed=1, key=("n", "word"))
    twice = row_diff(table([*a, a[0]]), table(b))
    assert twice == RowDiff(4, 3, added=1, removed=2, changed=None, key=())


def test_of_two_keys_the_one_counts_that_more_rows_have_in_common():
    a, b = [(1, "x", 0.1), (2, "y", 0.2), (3, "z", 0.3)], [(7, "x", 0.1), (8, "y", 0.2), (3, "z", 0.3)]
    assert row_diff(table(a), table(b)).key == ("word",)


def test_a_measure_is_no_key_though_no_value_of_it_stands_twice():
    a, b = [(1, "x", 0.1), (1, "x", 0.2)], [(1, "x", 0.1), (1, "x", 0.3)]
    assert row_diff(table(a), table(b)).key == ()


def test_rows_are_compared_by_the_columns_that_both_have_and_in_a_type_that_both_know():
    whole = pa.schema([("n", pa.int64()), ("x", pa.int64())])
    broken = pa.schema([("x", pa.float64()), ("n", pa.int64()), ("more", pa.string())])
    a, b = table([(1, 10), (2, 20)], whole), table([(10.0, 1, "new"), (20.5, 2, "new")], broken)
    assert row_diff(a, b) == RowDiff(2, 2, added=0, removed=0, changed=1, key=("n",))
    assert row_diff(a, table([("x",)], pa.schema([("other", pa.string())]))) is None


def test_there_is_one_zero_and_one_nan_and_null_is_neither():
    values = [0.0, float("nan"), None]
    kinds = pa.schema([("v", pa.float64())])
    a, b = ([(value,) for value in numbers] for numbers in (values, [-0.0, -float("nan"), None]))
    assert row_diff(table(a, kinds), table(b, kinds)).added == 0
    for position, value in enumerate(values):
        others = table([row for i, row in enumerate(a) if i != position], kinds)
        assert row_diff(others, table([(value,)], kinds)).added == 1


NOON = datetime(2024, 2, 29, 12, tzinfo=UTC)
KINDS = [
    (pa.bool_(), [True, False, None]),
    (pa.uint64(), [2**64 - 1, 0, None]),
    (pa.float32(), [0.1, float("nan"), None]),
    (pa.float16(), [0.5, 1.0, None]),
    (pa.date32(), [date(2024, 2, 29), date(1900, 1, 1), None]),
    (pa.date64(), [date(2024, 2, 29), date(1900, 1, 1), None]),
    (pa.time32("s"), [NOON.time(), None]),
    (pa.timestamp("ns", "UTC"), [NOON, NOON + timedelta(days=1), None]),
    (pa.duration("us"), [timedelta(1), timedelta(0), None]),
    (pa.decimal128(5, 2), [Decimal("1.10"), Decimal("1.1"), Decimal("2.00"), None]),
    (pa.large_string(), ["a", "", None]),
    (pa.string_view(), ["a", "", None]),
    (pa.large_binary(), [b"\xff", b"", None]),
    (pa.dictionary(pa.int8(), pa.string()), ["a", "b", "a", None]),
    (pa.list_(pa.int64()), [[1], [], None]),
    (pa.struct([("x", pa.int64())]), [{"x": 1}, {"x": 2}, None]),
    (pa.null(), [None, None]),
]


@pytest.mark.parametrize(
    ("kind", "values"), KINDS, ids=lambda value: str(value) if isinstance(value, pa.DataType) else ""
)
def test_every_type_is_equal_to_itself_and_to_nothing_else(kind, values):
    schema = pa.schema([("v", kind)])
    whole = table([(value,) for value in values], schema)
    assert (row_diff(whole, whole).added, row_diff(whole, whole).removed) == (0, 0)
    fewer = table([(value,) for value in values[1:]], schema)
    found = row_diff(whole, fewer)
    assert (found.a, found.b, found.added, found.removed) == (len(values), len(values) - 1, 0, 1)


def test_how_a_writer_lays_out_text_is_no_change_of_type():
    layouts = (pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int32(), pa.large_string()))
    tables = [table([("a",), ("b",)], pa.schema([("v", kind)])) for kind in layouts]
    assert {t.columns["v"] for t in tables} == {"string"}
    assert {row_diff(tables[0], other) for other in tables} == {RowDiff(2, 2, 0, 0, 0, ("v",))}


CSV = 'id,"share, of",note\n1,0.5,"two\nlines"\n2,0.25,\n'


def test_the_formats(tmp_path):
    (tmp_path / "a").write_text(CSV)
    (tmp_path / "b").write_bytes(gzip.compress(CSV.encode()))
    (tmp_path / "c").write_text(CSV.replace('"share, of"', "share of").replace(",", "\t"))
    pa.parquet.write_table(
        pa.csv.read_csv(tmp_path / "a", parse_options=pa.csv.ParseOptions(newlines_in_values=True)), tmp_path / "d"
    )
    rows = [{"id": 1, "share": 0.5, "tags": ["x"]}, {"id": 2, "more": None}]
    (tmp_path / "e").write_text("\n".join(json.dumps(row) for row in rows) + "\n\n")
    typed = {"id": "int64", "share, of": "double", "note": "string"}
    for file, name in (("a", "x.csv"), ("b", "x.CSV.gz"), ("d", "x.parquet")):
        found = open_table(tmp_path / file, name)
        assert (found.columns, found.measures, found.count()) == (typed, {"share, of"}, 2)
        assert row_diff(found, open_table(tmp_path / file, name)) == RowDiff(2, 2, 0, 0, 0, ("id",))
    assert list(open_table(tmp_path / "c", "x.tsv").columns) == ["id", "share of", "note"]
    lines = open_table(tmp_path / "e", "x.jsonl")
    assert lines.columns == {"id": "integer", "share": "number", "tags": "array", "more": "null"}
    assert (lines.count(), row_diff(lines, lines).key) == (2, ("id",))
    assert not is_table("model.joblib")


def test_of_csv_is_compared_what_is_written_whatever_its_encoding(tmp_path):
    (tmp_path / "a").write_bytes("id,name\n1,Zoë\n2,007\n".encode("latin-1"))
    (tmp_path / "b").write_bytes("id,name\n1,Zoë\n2,7\n".encode("latin-1"))
    found = row_diff(open_table(tmp_path / "a", "x.csv"), open_table(tmp_path / "b", "x.csv"))
    assert found == RowDiff(2, 2, 0, 0, 1, ("id",))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("x.csv", b""),
        ("x.csv", b"a,a\n1,2\n"),
        ("x.csv", b"a,b\n1\n"),
        ("x.csv.gz", b"a,b\n"),
        ("x.parquet", b"PAR1"),
        ("x.jsonl", b"[1]\n"),
        ("x.jsonl", b"{\n"),
    ],
)
def test_what_is_no_table_is_said_in_one_line(tmp_path, name, content):
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(MissingFile, match=rf"^{name} cannot be read as a table: [^\n]+$"):
        open_table(tmp_path / "file", name).count()


def test_a_table_without_rows(tmp_path):
    (tmp_path / "a").write_text("a,b\n")
    (tmp_path / "b").write_text("a,b\n1,2\n1,2\n")
    empty, full = (open_table(tmp_path / name, "x.csv") for name in "ab")
    assert row_diff(empty, full) == RowDiff(0, 2, 2, 0, None, ())
    assert row_diff(empty, empty) == RowDiff(0, 0, 0, 0, None, ())


PEOPLE = "name;size;note\nJürgen;1.234,5;NA\nZoë;2,5;\n"
AS_WRITTEN = Reading(";", "windows-1252", ",", ".", ("", "NA"))


@pytest.mark.parametrize("encoding", ["windows-1252", "utf-16", "utf-8-sig"])
def test_a_file_that_its_data_set_reads_otherwise_is_read_so(tmp_path, encoding):
    (tmp_path / "a").write_text(PEOPLE, encoding=encoding)
    (tmp_path / "b").write_text("name,size,note\nZoë,2.5,\nJürgen,1234.5,\n", encoding="utf-8")
    a = open_table(tmp_path / "a", "p.csv", replace(AS_WRITTEN, encoding=encoding))
    b = open_table(tmp_path / "b", "p.csv", replace(Reading(), null_values=("", "-")))
    assert list(a.columns) == ["name", "size", "note"]
    assert row_diff(a, b) == RowDiff(2, 2, added=0, removed=0, changed=0, key=("name",))


def test_arrow_and_excel_are_tables_too(tmp_path):
    rows = pa.table({"k": [1, 2], "t": ["a", "NA"]})
    with pa.ipc.new_file(tmp_path / "a", rows.schema) as to:
        to.write_table(rows)
    with xlsxwriter.Workbook(tmp_path / "x.xlsx") as book:
        book.add_worksheet("empty")
        sheet = book.add_worksheet("rows")
        for number, line in enumerate([["k", "t"], [2, "NA"], [1, "a"]]):
            sheet.write_row(number, 0, line)
    words = Reading(sheet="rows", null_values=("", "NA"))
    assert open_table(tmp_path / "a", "a.arrow").count() == 2
    assert open_table(tmp_path / "x.xlsx", "x.xlsx").count() == 2
    sheet = open_table(tmp_path / "x.xlsx", "x.xlsx", words)
    assert [batch.to_pydict()["t"] for batch in sheet.batches(["t"])] == [[None, "a"]]
    with pytest.raises(MissingFile, match=r"x.xlsx cannot be read as a table: it has no sheet 'Rows' .* but rows"):
        open_table(tmp_path / "x.xlsx", "x.xlsx", Reading(sheet="Rows"))


def test_the_parts_of_a_folder_are_one_table_with_what_their_paths_say(tmp_path):
    places = {f"year={year}/a.parquet": tmp_path / str(year) for year in (2025, 2026)}
    for number, place in enumerate(places.values()):
        pa.parquet.write_table(pa.table({"k": [number, number + 10]}), place)
    whole = open_folder(places, "raw")
    assert (whole.count(), whole.columns) == (4, {"k": "int64", "year": "string"})
    fewer = open_folder({"year=2026/a.parquet": tmp_path / "2026"}, "raw")
    assert row_diff(whole, fewer) == RowDiff(4, 2, added=0, removed=2, changed=0, key=("k",))
    pa.parquet.write_table(pa.table({"other": [1]}), tmp_path / "2026")
    with pytest.raises(ValueError, match=r"raw: year=2026/a.parquet has other columns than year=2025/a.parquet"):
        open_folder(places, "raw")


def test_rows_are_compared_without_the_imports_that_take_longest():
    """Arrow's own ways to NumPy import pandas, half a second of a short command."""
    code = """
import io, sys
import pyarrow as pa, pyarrow.csv
from dovetail.compare.table_diff import row_diff
from dovetail.values.tables import arrow_table
def table(text):
    whole = pa.csv.read_csv(io.BytesIO(text))
    return arrow_table(whole.schema, lambda columns: whole.select(list(columns)).to_batches())
found = row_diff(table(b"a,b,c,d\\n1,x,0.5,2020-01-01\\n,y,,\\n"), table(b"a,b,c,d\\n1,x,0.5,2020-01-01\\n,z,,\\n"))
print(found.a, found.b, found.changed, sorted({"pandas", "mlflow"} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "2 2 1 []\n"


def test_numbers_of_a_sheet_keep_their_digits_beside_a_word_as_clean_has_them(tmp_path):
    cells = [1 / 3, "-", -3.5e-13, "007", 2, None, 0.1, "inf", "0.333333333"]
    with xlsxwriter.Workbook(tmp_path / "x.xlsx") as book:
        rows = book.add_worksheet()
        for number, cell in enumerate(["x", *cells]):
            rows.write(number, 0, cell)
            rows.write(number, 1, "k" if number == 0 else 1)
    found = read_sheet(tmp_path / "x.xlsx", Reading(null_values=("-",)))["x"].to_pylist()
    assert found == ["0.3333333333333333", None, "-3.5e-13", "007", "2", None, "0.1", "inf", "0.333333333"]
