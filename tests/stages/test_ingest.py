"""Ingest: a byte copy of a readable file, or a refusal that names file, line and remedy."""

import polars as pl
import pytest
from datasets import left_behind, params, stage, tree

from stages import ingest
from stages.common.errors import StageError
from stages.common.params import Params
from stages.data import raw_check


def run(source, raw, separator=","):
    content = params(raw=str(raw), separator=separator)
    assert isinstance(content, Params)
    ingest.run("d", content, source=source, raw=raw)
    return raw.read_bytes()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", b"name,age\r\nAlice,25\r\nBob,\r\n"),
        ("a.csv", b'\xef\xbb\xbfname,note\nAlice,"two\nlines, one cell"\n'),
        ("a.jsonl", b'{"a": 1}\n\n{"a": null, "b": [1]}\n'),
    ],
)
def test_a_readable_file_is_copied_byte_for_byte(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    assert run(tmp_path / name, tmp_path / "raw" / name) == content


def test_a_parquet_file_is_copied_byte_for_byte(tmp_path):
    pl.DataFrame({"a": [1, None]}).write_parquet(tmp_path / "a.parquet")
    assert run(tmp_path / "a.parquet", tmp_path / "raw.parquet") == (tmp_path / "a.parquet").read_bytes()


def test_the_separator_is_the_one_of_the_dataset_that_reads_the_file(tmp_path):
    (tmp_path / "a.csv").write_text("a;b\n1,5;2\n3;4\n")  # with commas it would be ragged
    assert run(tmp_path / "a.csv", tmp_path / "raw.csv", separator=";")
    with pytest.raises(StageError, match="separated by ','"):
        run(tmp_path / "a.csv", tmp_path / "other.csv")


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.csv", b"", ["a.csv", "empty"]),
        ("a.csv", b"name,age\n", ["a.csv", "no rows"]),
        ("a.csv", b"name,age\nAlice,25\nBob\n", ["a.csv", "#3", "Bob"]),
        ("a.csv", b"name,age\nAlice,25\nBob,1,2\n", ["a.csv", "#3", "Bob,1,2"]),
        ("a.csv", b"name,name\nAlice,25\n", ["a.csv", "line 1", "'name'"]),
        ("a.csv", b"1,2\n3,4\n", ["a.csv", "line 1", "1,2"]),
        ("a.csv", b"name,age\nAl\xff\xfe,25\n", ["a.csv", "line 2", "UTF-8"]),
        ("a.csv", b'name,age\nAl,1\nBob,"2\nAl,3\n', ["a.csv", "line 3 opens a quote that is not closed"]),
        ("a.csv", b'name,age\nAl,1\n"Bob,2\nAl,3\n', ["a.csv", "line 3 opens a quote that is not closed"]),
        ("a.csv", b'name,age\n"Al\nBob","1', ["a.csv", "line 3 opens a quote that is not closed"]),
        ("a.jsonl", b'{"a": 1}\n{"a": \n', ["a.jsonl", "line 2"]),
        ("a.jsonl", b'{"a": 1}\n[1]\n', ["a.jsonl", "line 2", "[1]"]),
        ("a.jsonl", b'{"a": "\xff"}\n', ["a.jsonl", "line 1"]),
        ("a.parquet", b"PAR1 and then something else PAR1", ["a.parquet", "parquet"]),
    ],
)
def test_a_malformed_file_is_refused_with_its_place(tmp_path, name, content, words):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(StageError) as refusal:
        run(tmp_path / name, tmp_path / "raw" / name)
    assert all(word in str(refusal.value) for word in words), refusal.value
    assert "\n" not in str(refusal.value)
    assert not list(tmp_path.glob("raw/*"))


LONG = b"y" * 5_000_000


@pytest.mark.parametrize("row", [LONG, b'"' + b"a,b\r\n" * 1_000_000 + b'"'])
def test_a_cell_may_be_of_any_length(tmp_path, row):
    (tmp_path / "a.csv").write_bytes(b"name,text\nAl,a\nBob," + row + b"\nCy,c\n")
    assert run(tmp_path / "a.csv", tmp_path / "raw.csv")
    with (tmp_path / "a.csv").open("ab") as file:
        file.write(b"Di,1,2\n")
    with pytest.raises(StageError, match=r"Row #5: Expected 2 columns, got 3: Di,1,2"):
        run(tmp_path / "a.csv", tmp_path / "raw.csv")


def test_a_row_that_is_longer_than_any_is_refused_with_its_line(tmp_path, monkeypatch):
    monkeypatch.setattr(raw_check, "_LONGEST_ROW", 3 << 20)
    (tmp_path / "a.csv").write_bytes(b"name,text\nAl,a\nBob," + LONG + b"\n")
    with pytest.raises(StageError, match=r"a\.csv: line 3 begins a row of more than 3 MiB; close the quote in it, or"):
        run(tmp_path / "a.csv", tmp_path / "raw.csv")


def test_a_parquet_file_without_rows_is_refused(tmp_path):
    pl.DataFrame({"a": []}).write_parquet(tmp_path / "a.parquet")
    with pytest.raises(StageError, match="no rows"):
        run(tmp_path / "a.parquet", tmp_path / "raw.parquet")


def test_a_missing_source_ends_with_2_in_one_line(tmp_path):
    tree(tmp_path, {"sources": {}, "datasets": {}, "models": {}})
    done = stage(tmp_path, "ingest", "d", "--source", "gone.csv", "--raw", "raw.csv")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("ingest@d: gone.csv is missing")
    assert done.stderr.count("\n") == 1


def test_a_refused_file_leaves_the_older_raw_file(tmp_path):
    (tmp_path / "a.csv").write_text("a,b\n1,2\n")
    raw = tmp_path / "raw.csv"
    before = run(tmp_path / "a.csv", raw)
    (tmp_path / "a.csv").write_text("a,b\n1\n")
    with pytest.raises(StageError):
        run(tmp_path / "a.csv", raw)
    assert raw.read_bytes() == before
    assert not left_behind(tmp_path)
