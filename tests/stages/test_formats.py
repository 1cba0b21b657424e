"""The formats that people have: packed, in other encodings, with other numbers; Excel, Arrow, folders of Parquet."""

import datetime as dt
import gzip
import re
from functools import partial

import polars as pl
import pytest
import xlsxwriter
from datasets import FLOAT, INT, TEXT, left_behind, params
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import feather, ipc, table

from stages import clean, ingest
from stages.common.errors import StageError
from stages.data.parsing import NumberStyle, parse
from stages.modelling.table import read_arrow

packed = partial(gzip.compress, mtime=0)  # the time of day would stand in the tests' names, another in each worker
TABLE = "name,age\nAnn,25\nBo,-1\n"
RUSSIAN = "имя,город\nИван,Москва\nОльга,Санкт-Петербург\nМария,Новосибирск\n"  # noqa: RUF001  that is the point
COLUMNS = {"name": TEXT, "age": {**INT, "checks": {"ge": 0}}}


def cleaned(job, name, content, columns=COLUMNS, **settings_):
    """The dataset of a raw file with this name and content: bytes, or a function that writes it."""
    raw = job.folder / name
    content(raw) if callable(content) else raw.write_bytes(content)
    clean.run("d", params(columns, raw=name, **settings_), raw=raw, **job.paths)
    assert not left_behind(job.folder)
    return job


def sheet(path, rows, name="data", others=()):
    book = xlsxwriter.Workbook(path)
    day = book.add_format({"num_format": "yyyy-mm-dd"})
    for title, content in ((name, rows), *others):
        page = book.add_worksheet(title)
        for row, cells in enumerate(content):
            for column, cell in enumerate(cells):
                page.write_datetime(row, column, cell, day) if isinstance(cell, dt.date) else page.write(
                    row, column, cell
                )
    book.close()


def parts(path):
    for year in (2023, 2024):
        (path / f"year={year}").mkdir(parents=True)
        pl.DataFrame({"name": [f"a{year}"], "age": [year - 2000]}).write_parquet(path / f"year={year}" / "part.parquet")
    (path / "_SUCCESS").touch()


@pytest.mark.parametrize(
    ("name", "content", "settings_"),
    [
        ("raw.csv.gz", packed(TABLE.encode()), {}),
        ("raw.tsv", TABLE.replace(",", "\t").encode(), {}),
        ("RAW.TSV.gz", packed(TABLE.replace(",", "\t").encode()), {}),
        ("raw.csv", TABLE.encode("utf-16"), {"encoding": "utf-16"}),
        (
            "raw.csv.gz",
            packed(TABLE.replace(",", ";").encode("utf-16")),
            {"encoding": "UTF-16", "separator": ";"},
        ),
        ("raw.csv", TABLE.encode("utf-8-sig"), {"encoding": "utf-8-sig"}),
        ("raw.csv", TABLE.replace("name,age", '"name","age"').encode("utf-8-sig"), {}),
        ("raw.jsonl", b'\xef\xbb\xbf{"name": "Ann", "age": 25}\n{"name": "Bo", "age": -1}', {"encoding": "utf-8-sig"}),
        ("raw.jsonl.gz", packed(b'{"name": "Ann", "age": 25}\n{"name": "Bo", "age": -1}\n'), {}),
        ("raw.xlsx", lambda path: sheet(path, [["name", "age"], ["Ann", 25], ["Bo", -1], [None, None]]), {}),
        ("raw.xlsx", lambda path: sheet(path, [["name", "age"], ["Ann", 25], ["Bo", -1]], others=[("notes", [])]), {}),
        (
            "raw.xlsx",
            lambda path: sheet(path, [["by", "me"]], others=[("b", [["name", "age"], ["Ann", 25], ["Bo", -1]])]),
            {"sheet": "b"},
        ),
        ("raw.arrow", lambda path: pl.DataFrame({"name": ["Ann", "Bo"], "age": [25, -1]}).write_ipc(path), {}),
        ("raw.feather", lambda path: feather.write_feather(table({"name": ["Ann", "Bo"], "age": [25, -1]}), path), {}),
    ],
)
def test_the_same_rows_come_out_of_each_format(job, name, content, settings_):
    done = cleaned(job(), name, content, **settings_)
    assert done.rows.rows() == [("Ann", 25)]
    assert done.rejected["row"].to_list() == [2]
    assert (done.metrics["rows_in"], done.metrics["rows_rejected"]) == (2, 1)


WRITERS = {
    "csv": lambda rows, path: rows.write_csv(path),
    "csv.gz": lambda rows, path: path.write_bytes(packed(rows.write_csv().encode())),
    "jsonl": lambda rows, path: rows.write_ndjson(path),
    "parquet": lambda rows, path: rows.write_parquet(path),
    "arrow": lambda rows, path: rows.write_ipc(path),
}


@pytest.mark.parametrize("part_rows", [None, 1])
@pytest.mark.parametrize("ending", WRITERS)
def test_a_path_is_no_pattern(job, tmp_path, monkeypatch, ending, part_rows):
    """As one `a[1]` is `a1`, which is there, too."""
    monkeypatch.setenv("PARTS_WORKERS", "1")
    for folder, name, word in (("a[1]", "b[1]", "Ann"), ("a1", "b1", "another"), ("a1", "b[1]", "another")):
        (tmp_path / folder).mkdir(exist_ok=True)
        WRITERS[ending](pl.DataFrame({"name": [word], "age": [25]}), tmp_path / folder / f"{name}.{ending}")
    raw = tmp_path / "a[1]" if part_rows else tmp_path / "a[1]" / f"b[1].{ending}"
    paths = {option: tmp_path / "out[1]" / path.name for option, path in job().paths.items()}
    columns = {"name": {**TEXT, "unique": True}, "age": INT}
    given = params(columns, raw="raw/" if part_rows else f"raw.{ending}", part_rows=part_rows)
    clean.run("d", given, raw=raw, **paths)
    assert read_arrow(paths["clean"], "clean@d")["name"].to_pylist() == ["Ann"]


def test_a_folder_of_parquet_files_is_one_table_with_its_partitions(job):
    for name in ("raw.parquet", "raw[1].parquet"):
        done = cleaned(job(), name, parts)
        assert done.rows.rows() == [("a2023", 23, 2023), ("a2024", 24, 2024)]


def test_a_folder_is_copied_whole(tmp_path):
    parts(tmp_path / "a.parquet")
    ingest.run("d", params(), source=tmp_path / "a.parquet", raw=tmp_path / "raw" / "a.parquet")
    assert len(list((tmp_path / "raw" / "a.parquet").rglob("*.parquet"))) == 2


def test_numbers_of_a_sheet_keep_their_digits_beside_a_word(job, tmp_path):
    """Excel's reader makes text of such a column, and writes nine digits after the point of each number."""
    cells = [1 / 3, "-", -3.5e-13, "007", 1e21, 2, None, True, 0.1, "inf", "0.333333333"]
    sheet(tmp_path / "raw.xlsx", [["x", "k"], *([cell, 1] for cell in cells)])
    columns = {"x": {"dtype": "str", "nullable": True}}
    clean.run("d", params(columns), raw=tmp_path / "raw.xlsx", **(done := job()).paths)
    assert done.rows["x"].to_list() == [
        *("0.3333333333333333", "-", "-3.5e-13", "007", "1000000000000000000000", "2", None),
        *("true", "0.1", "inf", "0.333333333"),
    ]
    columns["x"]["dtype"] = "float64"
    clean.run("d", params(columns, null_values=["-"]), raw=tmp_path / "raw.xlsx", **(done := job()).paths)
    assert done.rows["x"].to_list() == [1 / 3, None, -3.5e-13, 7, 1e21, 2, None, 0.1, float("inf"), 0.333333333]


def test_text_in_another_encoding_keeps_its_letters(job):
    for encoding, word in (
        ("windows-1252", "größe €"),
        ("shift_jis", "日本"),
        ("cp1251", "Москва"),
        ("latin-1", "ñandú"),
    ):
        done = cleaned(job(), "raw.csv", f"x,{word}\n1,{word}\n".encode(encoding), {"x": INT}, encoding=encoding)
        assert done.rows.rows(named=True) == [{"x": 1, word: word}]


@pytest.mark.parametrize(
    ("encoding", "text", "guesses"),
    [
        ("cp1252", "Name,Straße\nMüller,Königsstraße\nGröße,Äpfel für Jörg\n", {"windows-1252"}),
        ("cp1250", "imię,miasto\nŁukasz,Łódź\nŻaneta,Kraków\nŚwiętosława,Gdańsk\n", {"windows-1250"}),
        ("cp1251", RUSSIAN, {"windows-1251"}),
        ("shift_jis", "名前,都市\n太郎,東京\n花子,大阪\nさくら,札幌\n", {"shift_jis"}),
        ("utf-16", "name,größe\na,1\n", {"utf-16"}),
    ],
)
def test_the_refusal_guesses_the_encoding(job, encoding, text, guesses):
    with pytest.raises(
        StageError, match=r"line 1 is not UTF-8: .*params\.yaml: datasets\.d\.clean\.encoding"
    ) as refusal:
        cleaned(job(), "raw.csv", text.encode(encoding), {"x": INT})
    assert str(refusal.value).rpartition(" ")[2] in guesses


def test_numbers_are_read_as_the_file_writes_them(job):
    lines = [
        "x;n;word;empty;i",
        "1.234,56;1,5;a1;;1.000",
        "7;-2;1,5x;;2",
        ",5;3e2;2;;3",
        "12.34;1,0;b;;4",
        "1.5;1,0;c;;5",
    ]
    done = cleaned(
        job(), "raw.csv", "\n".join(lines).encode(), {"x": FLOAT, "i": INT}, separator=";", decimal=",", thousands="."
    )
    assert done.rows.rows() == [
        (1234.56, 1.5, "a1", None, 1000),
        (7.0, -2.0, "1,5x", None, 2),
        (0.5, 300.0, "2", None, 3),
    ]
    assert done.rejected.select("row", "x", "reason").rows() == [
        (4, "12.34", "x: dtype(float64)"),
        (5, "1.5", "x: dtype(float64)"),
    ]


@settings(deadline=None, max_examples=200)
@given(
    value=st.integers(-(10**9), 10**9) | st.decimals(-(10**6), 10**6, places=2),
    style=st.sampled_from([(",", "."), (",", " "), (".", ","), (".", "'"), (",", ""), (".", "_")]),
)
def test_a_number_means_the_same_in_each_style(value, style):
    decimal, thousands = style
    written = f"{value:,}".translate(str.maketrans({",": thousands, ".": decimal}))
    read = pl.select(parse(pl.lit(written), pl.Float64, NumberStyle(decimal, thousands))).item()
    assert read == float(value)


@pytest.mark.parametrize(
    ("name", "content", "settings_", "said"),
    [
        ("raw.csv.gz", b"no gzip", {}, r"raw\.csv\.gz is not readable as gz"),
        ("raw.csv.gz", packed(TABLE.encode())[:-9], {}, r"raw\.csv\.gz is not readable as gz"),
        ("raw.csv.gz", packed(b""), {}, r"raw\.csv\.gz is empty"),
        ("raw.csv.gz", packed(b"name,age\nAnn\n"), {}, r"raw\.csv\.gz is not a CSV file"),
        (
            "raw.csv",
            TABLE.encode() + b"\xff",
            {"encoding": "utf-16"},
            r"is not utf-16 \(.*; correct .*d\.clean\.encoding",
        ),
        ("raw.csv", b"name;age\nAnn;25\n", {}, r"'name;age' is one column, .*datasets\.d\.clean\.separator, .*';'"),
        ("raw.csv", b"name\tage\nAnn\t25\n", {}, r"\.separator, perhaps to a tab"),
        (
            "raw.csv",
            b"\xef\xbb\xbf" + TABLE.encode(),
            {"encoding": "cp1252"},
            r"is UTF-8 by its first bytes, not cp1252",
        ),
        ("raw.csv", b"name,age\rAnn,25\r", {}, r"its lines end in \\r alone, .*tr '\\r' '\\n'"),
        (
            "raw.parquet",
            lambda p: pl.DataFrame({"name": [dt.timedelta(1)], "age": [1]}).write_parquet(p),
            {},
            r"column 'name' is Duration.*, which cannot be String",
        ),
        ("raw.csv", b'name,"a\nge"\nA,1\n', {}, r"no column 'age', only name, 'a\\nge'"),
        ("raw.tsv", b"name,age\nAnn,25\n", {}, r"\.separator, perhaps to ','"),
        ("raw.csv", b"name, Age\nAnn,25\n", {}, r"no column 'age', only name,  Age; it has ' Age': correct the file"),
        (
            "raw.csv",
            b"name,age\nAnn,NA\nBo,25\n",
            {"max_rejected": 0},
            r"if 'NA' means missing, set .*null_values to \['', 'NA'\]",
        ),
        (
            "raw.csv",
            b'name,age\nAnn,"1,000"\n',
            {"max_rejected": 0},
            r"if numbers are written so, set .*\.decimal and \.thousands",
        ),
        ("raw.xlsx", b"PK", {}, r"raw\.xlsx is not readable as xlsx"),
        (
            "raw.xlsx",
            lambda p: sheet(p, [["a"]], others=[("b", [["c"]])]),
            {},
            r"has several sheets: data, b; set .*d\.clean\.sheet",
        ),
        ("raw.xlsx", lambda p: sheet(p, [["a"]]), {"sheet": "b"}, r"has no sheet 'b'; correct .*\.sheet: data"),
        ("raw.xlsx", lambda p: sheet(p, []), {}, r"raw\.xlsx is empty"),
        ("raw.xlsx", lambda p: sheet(p, [["name", None, "age"], ["A", 1, 2]]), {}, r"first row: column 2 has no name"),
        ("raw.xlsx", lambda p: sheet(p, [["age", "age"], [1, 2]]), {}, r"two columns are named 'age'"),
        (
            "raw.xlsx",
            lambda p: sheet(p, [["name", "age"], ["a", 1], [], ["b", 2]]),
            {},
            r"sheet 'data': row 3 is blank",
        ),
        ("raw.csv", b"name,a\0ge\nAnn,1\n", {}, r"the column name 'a\\x00ge' holds a NUL; rename"),
        ("raw.parquet", lambda p: pl.DataFrame({"\0": [1]}).write_parquet(p), {}, r"holds a NUL"),
        ("raw.jsonl", b'{"name": "a", "age": 1}\n[1]\n', {}, r"line 2 is \[1\], not an object"),
        ("raw.jsonl", b'{"name": "a", "age": 1, "age": 2}\n', {}, r"line 1 is not JSON: the key 'age' is there twice"),
        ("raw.jsonl", b'{"name": "a", "age": NaN}\n', {}, r"line 1 is not JSON: NaN is no JSON, write null"),
        ("raw.jsonl", b'\xef\xbb\xbf{"name": "a", "age": 1}\n', {}, r"byte order mark; set .*encoding to utf-8-sig"),
        ("raw.jsonl", '{"name": "ä", "age": 1}\n'.encode("cp1252"), {}, r"line 1 is not UTF-8: .*encoding, perhaps to"),
        ("raw.arrow", b"ARROW1 and more", {}, r"raw\.arrow is not readable as arrow"),
        ("raw.feather", b"FEA1", {}, r"raw\.feather is not readable as arrow"),
        ("raw.parquet", lambda p: p.mkdir(), {}, r"is a folder without a \.parquet file"),
    ],
)
def test_what_is_not_that_format_is_refused_with_the_setting_that_helps(job, name, content, settings_, said):
    done = job()
    with pytest.raises(StageError) as refusal:
        cleaned(done, name, content, **settings_)
    assert re.search(said, str(refusal.value)), refusal.value
    assert "\n" not in str(refusal.value)
    assert done.written == []
    assert not left_behind(done.folder)


def test_two_arrow_columns_of_a_name_are_refused(job):
    def twice(path):
        rows = table([[1], [2]], names=["age", "age"])
        with ipc.new_file(path, rows.schema) as file:
            file.write_table(rows)

    with pytest.raises(StageError, match="two columns are named 'age'"):
        cleaned(job(), "raw.arrow", twice)


@pytest.mark.parametrize("encoding", ["base64", "nope", "undefined"])
def test_an_encoding_that_is_none_is_refused(encoding):
    with pytest.raises(ValueError, match=r"is no encoding of text that Python knows"):
        params(encoding=encoding)
