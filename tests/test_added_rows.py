"""Rows that are added to a table look like those that are there, and change none of them."""

import gzip
import json
from types import SimpleNamespace

import pandas as pd
import pyarrow as pa
import pyarrow.parquet
import pytest

from dovetail.errors import UserError
from dovetail.retraining.append_rows import append_rows
from dovetail.retraining.raw_tables import DVC, GIT, RawTable, choose_table, tables_in
from dovetail.retraining.table_shape import fit, read, shape_of
from dovetail.values.lineage import FileRef
from dovetail.values.reading import Reading

TEXT = "id,size,when,note\n007,1,2026-01-01,\n008,2,2026-01-02,NA\n"


def add(raw, new, label=None):
    shape = shape_of(raw, raw.name)
    append_rows(raw, fit(read(new, shape, {}), shape, new.name, label))


def test_csv_goes_over_as_it_is_written(tmp_path):
    raw, new = tmp_path / "raw.csv", tmp_path / "new.tsv"
    raw.write_text(TEXT)
    new.write_text('size\tid\tnote\twhen\n2.50\t009\t"a, b"\t2026-01-03\n\t010\tNA\t\n')
    add(raw, new)
    assert raw.read_text() == TEXT + '009,2.50,2026-01-03,"a, b"\n010,,,NA\n'


def test_parquet_into_csv(tmp_path):
    raw, new = tmp_path / "raw.csv", tmp_path / "new.parquet"
    raw.write_text(TEXT)
    pd.DataFrame({"id": [9], "size": [float("nan")], "when": ["2026-01-03"], "note": [None]}).to_parquet(new)
    add(raw, new)
    assert raw.read_text() == TEXT + "9,,2026-01-03,\n"


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
def test_into_parquet_in_its_own_types(tmp_path, ending):
    raw, new = tmp_path / "raw.parquet", tmp_path / f"new.{ending}"
    kinds = pd.Series(["a", "b", "a"], dtype="category")
    pd.DataFrame({"n": pd.Series([1, 2, 3], dtype="int16"), "x": [0.5, 1.5, 2.5], "k": kinds}).to_parquet(raw)
    before = pa.parquet.read_schema(raw)
    rows = [{"n": 4, "x": 3.0, "k": "c"}, {"n": 5, "x": None, "k": "a"}]
    if ending == "csv":
        new.write_text("k,x,n\nc,3,4\na,,5\n")
    elif ending == "jsonl":
        new.write_text("\n".join(json.dumps(row) for row in rows))
    else:
        pa.parquet.write_table(pa.Table.from_pylist(rows), new)
    add(raw, new)
    assert pa.parquet.read_schema(raw).equals(before, check_metadata=True)
    assert pa.parquet.read_table(raw).to_pylist()[3:] == rows
    assert len(pd.read_parquet(raw)) == 5


def test_json_lines_and_compressed_files(tmp_path):
    raw, new = tmp_path / "raw.jsonl.gz", tmp_path / "new.jsonl"
    raw.write_bytes(gzip.compress(b'{"a": 1.5, "b": "x"}\n'))
    new.write_text('{"b": "y", "a": 2}\n')
    add(raw, new)
    assert [json.loads(line) for line in gzip.decompress(raw.read_bytes()).splitlines()] == [
        {"a": 1.5, "b": "x"},
        {"a": 2, "b": "y"},
    ]
    new.write_text('{"b": 3, "a": 2}\n')
    with pytest.raises(
        UserError, match=r"column b does not fit raw.jsonl.gz, which holds string there: it has integer"
    ):
        add(raw, new)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(
    ("there", "after"),
    [
        ("a,b\n1,x\n2,y", "\n3,z\n"),
        ("a,b\r\n1,x\r\n2,y", "\r\n3,z\r\n"),
        ("a,b\n1,x\n2,y\n", "3,z\n"),
        ("a,b", "\n3,z\n"),
        ('{"a": 1, "b": "x"}', '\n{"a": 3, "b": "z"}\n'),
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_a_last_line_without_an_end_gets_one(tmp_path, packed, there, after, encoding):
    raw = tmp_path / f"raw.{'jsonl' if there[0] == '{' else 'csv'}{'.gz' if packed else ''}"
    raw.write_bytes(gzip.compress(there.encode(encoding)) if packed else there.encode(encoding))
    new = pa.table({"a": [3], "b": ["z"]})
    append_rows(raw, new, Reading(encoding=encoding))
    content = gzip.decompress(raw.read_bytes()) if packed else raw.read_bytes()
    assert content.decode(encoding) == there + after


def test_what_a_file_is_a_link_to_stays_as_it_is(tmp_path):
    cached, raw, new = tmp_path / "cached", tmp_path / "raw.csv", tmp_path / "new.csv"
    cached.write_text("a\n1\n")
    raw.hardlink_to(cached)
    new.write_text("a\n2\n")
    add(raw, new)
    assert (cached.read_text(), raw.read_text()) == ("a\n1\n", "a\n1\n2\n")


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ({"n": [1.5], "k": ["a"]}, "column n does not fit raw.parquet, which holds int64 there"),
        ({"n": [1], "k": [None]}, "row 1 has no k, which is the label"),
        ({"n": [None], "k": ["a"]}, "column n has missing values, raw.parquet takes none"),
        ({"n": [], "k": []}, "holds no rows"),
    ],
)
def test_what_does_not_fit_is_said(tmp_path, rows, said):
    raw, new = tmp_path / "raw.parquet", tmp_path / "new.parquet"
    schema = pa.schema([pa.field("n", pa.int64(), nullable=False), pa.field("k", pa.string())])
    pa.parquet.write_table(pa.table({"n": [1], "k": ["x"]}, schema=schema), raw)
    pa.parquet.write_table(pa.table(rows), new)
    with pytest.raises(UserError, match=said):
        add(raw, new, "k")


def test_of_several_tables_one_is_chosen_and_else_all_are_named():
    one, other = (RawTable(FileRef(path, "0"), keeper, path) for path, keeper in (("a.csv", GIT), ("b.csv", DVC)))
    assert choose_table([one, other], "b.csv", "m") is other
    assert choose_table([one], None, "m") is one
    with pytest.raises(UserError, match=r"m reads several raw tables; there are: a.csv, b.csv; next: .* --into PATH"):
        choose_table([one, other], None, "m")
    with pytest.raises(UserError, match=r"m reads no table that rows can be added to"):
        choose_table([], None, "m")


@pytest.mark.parametrize("ending", ["csv", "csv.gz"])
@pytest.mark.parametrize("encoding", ["windows-1252", "utf-16", "utf-8-sig"])
def test_rows_go_over_as_the_data_set_reads_its_file(tmp_path, encoding, ending):
    how = Reading(";", encoding, ",", ".", ("", "NA"))
    text = "name;size;n\r\nZoë;1.234,5;NA\r\n"
    raw, new, typed = tmp_path / f"raw.{ending}", tmp_path / "new.csv", tmp_path / "typed.parquet"
    raw.write_bytes(gzip.compress(text.encode(encoding)) if ending.endswith("gz") else text.encode(encoding))
    new.write_bytes("size;name;n\n2.000,5;Jürgen;NA\n".encode(encoding))
    pd.DataFrame({"size": [0.25], "name": ["Ö"], "n": [7]}).to_parquet(typed)
    for file in (new, typed):
        shape = shape_of(raw, raw.name, how)
        append_rows(raw, fit(read(file, shape, {}), shape, file.name, "name"), how)
    content = gzip.decompress(raw.read_bytes()) if ending.endswith("gz") else raw.read_bytes()
    assert content.decode(encoding) == text + "Jürgen;2.000,5;NA\r\nÖ;0,25;7\r\n"


def test_a_character_that_the_file_cannot_hold_is_said_and_nothing_is_written(tmp_path):
    raw, new, how = tmp_path / "raw.csv", tmp_path / "new.parquet", Reading(encoding="windows-1252")
    raw.write_text("a\nö\n", encoding="windows-1252")
    pd.DataFrame({"a": ["ж"]}).to_parquet(new)
    shape = shape_of(raw, raw.name, how)
    with pytest.raises(UserError, match=r"'ж' cannot be written in windows-1252, as raw.csv is; next: "):
        append_rows(raw, fit(read(new, shape, {}), shape, new.name, None), how)
    assert raw.read_bytes() == "a\nö\n".encode("windows-1252")


def test_arrow_takes_rows_and_workbooks_give_them(tmp_path):
    raw, new = tmp_path / "raw.feather", tmp_path / "new.xlsx"
    pd.DataFrame({"n": pd.Series([1], dtype="int16"), "k": ["x"]}).to_feather(raw)
    pd.DataFrame({"k": ["y"], "n": [2]}).to_excel(new, index=False, engine="xlsxwriter")
    add(raw, new, "k")
    assert pd.read_feather(raw).to_dict("list") == {"n": [1, 2], "k": ["x", "y"]}


def test_a_workbook_gets_no_rows_and_its_message_says_what_to_do():
    book = RawTable(FileRef("data/raw/s.xlsx", "0"), DVC, "data/raw/s.xlsx")
    with pytest.raises(UserError, match=r"s.xlsx is a workbook, .* then: dvc add data/raw/s.xlsx && dvc repro"):
        choose_table([book], None, "m")


def test_a_partitioned_folder_gets_no_rows_where_none_says_which_part():
    folder = RawTable(FileRef("data/raw/s", "0.dir"), DVC, "data/raw/s")
    tree = SimpleNamespace(listing=lambda _: [FileRef("data/raw/s/year=2026/a.parquet", "1")], tracked={})
    with pytest.raises(UserError, match=r"data/raw/s is partitioned by year, .* dvc add data/raw/s && dvc repro"):
        tables_in(tree, folder)


def test_numbers_of_another_kind_of_text_file_are_not_taken_for_thousands(tmp_path):
    raw, new, how = tmp_path / "raw.csv", tmp_path / "new.tsv", Reading(";", decimal=",", thousands=".")
    raw.write_text("k;x\na;1.000,5\n")
    new.write_text("k\tx\nb\t2.500\n")
    with pytest.raises(UserError, match=r"new.tsv may write numbers otherwise than raw.csv, .* next: give the rows"):
        read(new, shape_of(raw, raw.name, how), {})
