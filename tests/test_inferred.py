"""What `new` and `add-data` see in a file: a type for each column, nothing guessed that the file itself says."""

import datetime as dt
import gzip
import json
from decimal import Decimal

import pandas as pd
import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet
import pytest
import xlsxwriter

from dovetail.errors import UserError
from dovetail.scaffold.inferred import infer

CLASSES = ["a", "b"] * 20


def seen(file, target="y"):
    """The type and the warning of each column, and how the file is written."""
    found = infer(file, target)
    return {column.name: (column.dtype, column.warning) for column in found.columns}, found.reading


def text(tmp_path, header, row, rows=40):
    file = tmp_path / "d.csv"
    file.write_text("\n".join([header, *(row(number) for number in range(rows))]) + "\n")
    return seen(file)


def test_json_says_what_is_text_and_what_a_number(tmp_path):
    rows = [
        {"zip": f"0012{n % 7}", "created_at": 1700000000 + n % 9, "day": "2024-01-02T03:04", "n": n % 3 or None, "y": y}
        for n, y in enumerate(CLASSES)
    ]
    (tmp_path / "d.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    columns, _ = seen(tmp_path / "d.jsonl")
    assert {name: kind for name, (kind, _) in columns.items()} == {
        "zip": "str", "created_at": "int64", "day": "str", "n": "int64", "y": "str",
    }  # fmt: skip


@pytest.mark.parametrize("ending", ["parquet", "arrow"])
def test_decimals_and_dates_of_arrow_have_a_type(tmp_path, ending):
    file, table = tmp_path / f"d.{ending}", pa.table(
        {
            "price": [Decimal(f"{n % 7}.50") for n in range(40)],
            "count": pa.array([Decimal(n % 7) for n in range(40)], pa.decimal128(38, 0)),
            "huge": pa.array([Decimal(10**30 + n % 7) for n in range(40)], pa.decimal128(38, 0)),
            "day": [dt.date(2024, 1, 1 + n % 20) for n in range(40)],
            "none": pa.nulls(40),
            "list": [[1]] * 40,
            "y": CLASSES,
        }
    )  # fmt: skip
    if ending == "parquet":
        pa.parquet.write_table(table, file)
    else:
        with pa.ipc.new_file(file, table.schema) as content:
            content.write_table(table)
    columns, _ = seen(file)
    assert {name: kind for name, (kind, _) in columns.items()} == {
        "price": "float64", "count": "int64", "huge": "float64", "day": "date", "none": "float64", "list": "",
        "y": "str",
    }  # fmt: skip
    assert infer(file, "price").classes is False
    with pytest.raises(UserError, match="'day' holds date, neither numbers nor classes"):
        infer(file, "day")


def test_a_word_among_the_numbers_of_a_sheet_is_a_missing_value(tmp_path):
    with xlsxwriter.Workbook(tmp_path / "d.xlsx") as book:
        sheet = book.add_worksheet()
        sheet.write_row(0, 0, ["whole", "real", "zip", "y"])
        for n, y in enumerate(CLASSES, start=1):
            sheet.write(n, 0, "-" if n == 3 else n % 7)
            sheet.write(n, 1, "?" if n == 5 else n / 4)
            sheet.write_string(n, 2, f"0{n % 7}")
            sheet.write(n, 3, y)
    columns, reading = seen(tmp_path / "d.xlsx")
    assert {name: kind for name, (kind, _) in columns.items()} == {
        "whole": "int64", "real": "float64", "zip": "str", "y": "str",
    }  # fmt: skip
    assert reading.null_values == ("", "-", "?")


def test_a_word_of_text_that_is_read_as_missing_is_told(tmp_path):
    file = tmp_path / "d.csv"
    pd.DataFrame({"x": ["None", "red"] * 20, "z": ["NA", "1"] * 20, "y": ["None", "b", "b", "c"] * 10}).to_csv(
        file, index=False
    )
    columns, _ = seen(file)
    assert "'None' (20 rows) read as missing: null_values under clean" in columns["x"][1]
    assert "'None' (10 rows) read as missing: null_values under clean" in columns["y"][1]
    assert "null_values" not in columns["z"][1]


@pytest.mark.parametrize(
    ("row", "kinds", "how"),
    [
        (lambda n: f"{n + 1}.234;{n % 7},5;a", ("int64", "float64"), (",", ".")),
        (lambda n: f"{n + 1}.234;{n % 7 + 1}.234,5;a", ("int64", "float64"), (",", ".")),
        (lambda n: f"1.{n % 7};{n % 7},5;a", ("float64", "str"), (".", "")),  # 1.5 is no number with this comma
        (lambda n: f"{n % 7}.234;1,{n % 7}00;a", ("float64", "int64"), (".", ",")),
        (lambda n: f"{n % 7}.234;z;a", ("float64", "str"), (".", "")),
    ],
)
def test_a_dot_is_between_thousands_where_another_column_says_so(tmp_path, row, kinds, how):
    columns, reading = text(tmp_path, "pop;quote;y", lambda n: row(n).removesuffix("a") + CLASSES[n])
    assert (columns["pop"][0], columns["quote"][0]) == kinds
    assert (reading.decimal, reading.thousands) == how


def test_datetime_is_advised_for_what_the_stages_read(tmp_path):
    def row(n):
        return f"2020-01-0{n % 7 + 1}T10,2020-01-01 10:0{n % 7}Z,2020-01-01 10:00:0{n % 7}+02,{CLASSES[n]}"

    columns, _ = text(tmp_path, "hours,minutes,zoned,y", row)
    assert columns["minutes"][1] == columns["zoned"][1] == "looks like dates: dtype datetime"
    assert "the cleaning script can read them" in columns["hours"][1]


def test_whole_numbers_with_a_fraction_of_zeros_stay_the_same(tmp_path):
    columns, _ = text(tmp_path, "x,y", lambda n: f"{2**53 + 1 + 2 * (n % 7)}.0,{CLASSES[n]}")
    assert columns["x"][0] == "int64"
    found = infer(tmp_path / "d.csv", "x")
    assert found.columns[0].dtype == "int64"
    columns, reading = text(tmp_path, "x;z;y", lambda n: f"12.345.678.901.234.{567 + n},00;1,5;{CLASSES[n]}")
    assert (columns["x"][0], columns["z"][0], reading.decimal, reading.thousands) == ("int64", "float64", ",", ".")


@pytest.mark.parametrize(
    ("number", "kind", "said"),
    [
        ("9223372036854775807", "int64", ""),
        ("-9223372036854775808", "int64", ""),
        ("9223372036854775808", "str", "whole numbers beyond 64 bits: text"),
        ("-9223372036854775809", "str", "whole numbers beyond 64 bits: text"),
        ("6.022e23", "float64", ""),
    ],
)
def test_a_whole_number_is_one_of_64_bits(tmp_path, number, kind, said):
    columns, _ = text(tmp_path, "x,y", lambda n: f"{number if n % 4 else n % 3 or ''},{CLASSES[n]}")
    assert columns["x"] == (kind, said)


def test_values_of_parquet_that_the_type_does_not_hold(tmp_path):
    """Neither is int64 there: the stages would reject each row, or Python has no such date."""
    rows = {"small": [1, 2] * 20, "large": [1, 2**64 - 1] * 20}
    table = pa.table({**{name: pa.array(values, pa.uint64()) for name, values in rows.items()}, "y": CLASSES})
    pa.parquet.write_table(table, tmp_path / "d.parquet")
    assert [column.dtype for column in infer(tmp_path / "d.parquet", "y").columns] == ["int64", "float64", "str"]
    far = pa.table({"x": pa.array([4_000_000] * 40, pa.int32()).cast(pa.date32()), "y": CLASSES})
    pa.parquet.write_table(far, tmp_path / "d.parquet")
    with pytest.raises(UserError, match=r"d\.parquet cannot be read as a table: .*out of range"):
        infer(tmp_path / "d.parquet", "y")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("5", "line 41 is 5, no object such as"),
        ("null", "line 41 is None, no object"),
        ("[1]", r"line 41 is \[1\], no object"),
        ('"é"', "line 41 is 'é', no object"),
        ("{", "line 41 is no JSON: Expecting property name"),
        ("[" * 200_000, "line 41 is no JSON: "),
    ],
)
def test_a_line_that_is_no_object_is_named(tmp_path, line, said):
    rows = [json.dumps({"x": n, "y": y}) for n, y in enumerate(CLASSES)]
    (tmp_path / "d.jsonl").write_text("\n".join([*rows, line, ""]))
    with pytest.raises(UserError, match=said) as refusal:
        infer(tmp_path / "d.jsonl", "y")
    assert "\n" not in refusal.value.message


def test_a_cell_may_be_of_any_length(tmp_path):
    columns, _ = text(tmp_path, "x,y", lambda n: f"{'q' * 200_000 if n == 3 else 'q'},{CLASSES[n]}")
    assert columns["x"][0] == "str"


def damaged(content):
    packed = bytearray(gzip.compress(content, mtime=0))
    packed[60:90] = bytes(30)
    return bytes(packed)


def test_what_cannot_be_read_is_one_line(tmp_path):
    rows = "".join(f'{{"x": {n * 7919 % 1000}, "y": "a"}}\n' for n in range(4000)).encode()
    twice = pa.schema([("x", pa.int64()), ("x", pa.int64()), ("y", pa.string())])
    with pa.ipc.new_file(tmp_path / "d.arrow", twice) as content:
        content.write_batch(pa.record_batch([[1], [2], ["a"]], schema=twice))
    for name, said in {
        "d.csv.gz": "decompress",
        "d.jsonl.gz": "decompress",
        "d.arrow": "two columns are named 'x'",
    }.items():
        if name.endswith(".gz"):
            (tmp_path / name).write_bytes(damaged(rows))
        with pytest.raises(UserError, match=said) as refusal:
            infer(tmp_path / name, "y")
        assert "\n" not in refusal.value.message
