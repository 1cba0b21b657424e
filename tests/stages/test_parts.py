"""A raw folder cleaned part by part: the same bytes with any number of workers, the rows that one file would give."""

import csv
import io
import json
import os
import sqlite3
import subprocess
import sys
import time
from contextlib import closing

import polars as pl
import psutil
import pytest
from datasets import AGE, FLOAT, INT, TEXT, config, left_behind, params, stage, tree
from polars.testing import assert_frame_equal

from stages import clean, deliver, ingest
from stages.common.errors import StageError
from stages.modelling.table import read_arrow
from stages.parts import ranges as cutting

OPTIONS = ("--raw", "raw", "--clean", "c", "--rejected", "r", "--metrics", "m.json")
PEOPLE = {**AGE, "name": {"dtype": "str", "nullable": True}}
ROWS = [("Ann, B.", 25), ('"Bo"', 131), ("two\nlines", 30), ("", 7), ("Ed", -1), ("Fu", 9), ("Gö", 41), ("Hi", 55)]


@pytest.fixture(autouse=True)
def one_process(monkeypatch):
    monkeypatch.setenv("PARTS_WORKERS", "1")


def csv_of(rows, names=("name", "age")):
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows([names, *rows])
    return out.getvalue()


def folder_of(where, files):
    where.mkdir()
    for name, content in files.items():
        if isinstance(content, pl.DataFrame):
            content.write_parquet(where / name)
        else:
            (where / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return where


def paths_of(folder):
    return {"clean": folder / "c", "rejected": folder / "r", "metrics": folder / "m.json"}


def cleaned(folder, raw, columns, **settings):
    clean.run("d", params(columns, raw=f"{raw.name}/", **{"part_rows": 3, **settings}), raw=raw, **paths_of(folder))
    return pl.read_parquet(folder / "c"), pl.read_parquet(folder / "r")


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.mark.slow
def test_one_two_and_four_workers_write_the_same_bytes(tmp_path):
    tree(tmp_path, config(PEOPLE, raw="raw/", part_rows=2), "return frame.with_columns(old=nw.col('age') > 26)")
    folder_of(tmp_path / "raw", {f"p{number}.csv": csv_of(ROWS[number:]) for number in range(4)})
    found = []
    for workers in ("1", "2", "4"):
        done = stage(tmp_path, "clean", "d", *OPTIONS, PARTS_WORKERS=workers)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        found.append([contents(tmp_path / "c"), contents(tmp_path / "r"), (tmp_path / "m.json").read_bytes()])
        assert not left_behind(tmp_path)
    assert list(found[0][0]) == [f"part-{number:05}.parquet" for number in range(4 + 4 + 3 + 3)]
    assert found[0] == found[1] == found[2]


def test_the_rows_are_those_of_one_file_and_rejected_ones_say_their_part(job, tmp_path):
    whole = job().run("raw.csv", csv_of(ROWS), PEOPLE)
    raw = folder_of(tmp_path / "parts", {"a.csv": csv_of(ROWS[:5]), "b.csv": csv_of(ROWS[5:]), "_SUCCESS": ""})
    good, bad = cleaned(tmp_path, raw, PEOPLE)
    assert_frame_equal(good, whole.rows)
    assert bad.drop("part").cast({"age": pl.Int64}).rows() == whole.rejected.rows()
    assert bad["part"].to_list() == ["a.csv", "a.csv"]
    assert (tmp_path / "m.json").read_text() == whole.paths["metrics"].read_text()


def test_a_part_that_is_added_changes_none_before_it(tmp_path):
    raw = folder_of(tmp_path / "parts", {"a.csv": csv_of(ROWS[:5]), "b.csv": csv_of(ROWS[5:])})
    cleaned(tmp_path, raw, PEOPLE)
    before = contents(tmp_path / "c")
    (raw / "c.csv").write_text(csv_of(ROWS))
    cleaned(tmp_path, raw, PEOPLE)
    after = contents(tmp_path / "c")
    assert len(before) == 3 < len(after)
    assert before.items() <= after.items()


def test_parts_take_the_place_of_one_file_and_one_file_that_of_parts(tmp_path):
    raw = folder_of(tmp_path / "parts", {"a.csv": csv_of(ROWS)})
    clean.run("d", params(PEOPLE), raw=raw / "a.csv", **paths_of(tmp_path))
    whole = pl.read_parquet(tmp_path / "c")
    assert_frame_equal(cleaned(tmp_path, raw, PEOPLE)[0], whole)
    clean.run("d", params(PEOPLE), raw=raw / "a.csv", **paths_of(tmp_path))
    assert (tmp_path / "c").is_file()
    assert not left_behind(tmp_path)


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl", "a.parquet"])
@pytest.mark.parametrize("rows", [1, 10])
def test_a_unique_column_that_need_not_be_there_is_not_missed(tmp_path, name, rows):
    content = {
        "a.csv": "age\n1\n2\n",
        "a.jsonl": '{"age": 1}\n{"age": 2}\n',
        "a.parquet": pl.DataFrame({"age": [1, 2]}),
    }
    raw = folder_of(tmp_path / "parts", {name: content[name]})
    columns = {**AGE, "id": {**TEXT, "unique": True, "required": False}, "age": {**INT, "unique": True}}
    good, bad = cleaned(tmp_path, raw, columns, part_rows=rows)
    assert (good["age"].to_list(), len(bad)) == ([1, 2], 0)


def test_unique_keys_of_json_lines_may_be_missing_in_a_range(tmp_path):
    lines = ['{"age": 1}', '{"age": 2, "id": "x"}', '{"age": 3}', '{"id": "x", "age": 4}']
    raw = folder_of(tmp_path / "parts", {"a.jsonl": "".join(f"{line}\n" for line in lines)})
    columns = {**AGE, "id": {**TEXT, "unique": True, "required": False, "nullable": True}}
    good, bad = cleaned(tmp_path, raw, columns, part_rows=1)
    assert (good["age"].to_list(), bad["row"].to_list()) == ([1, 3], [2, 4])


def test_a_line_that_is_no_json_is_named_by_its_place_in_the_part(tmp_path):
    raw = folder_of(tmp_path / "parts", {"a.jsonl": '{"age": 1}\n', "b.jsonl": '\n{"age": 2}\n{"age": 3\n'})
    with pytest.raises(StageError, match=r"b.jsonl: line 3 is not JSON"):
        cleaned(tmp_path, raw, AGE, part_rows=1)


JSON_ROWS = {
    "a key that comes late": ['{"a": 1}', '{"a": 2, "b": 1}', '{"a": 3}'],
    "a key that is in no row": ['{"a": 1}', '{"a": 2}'],
    "blank lines": ['{"a": 1}', "", '{"a": 200}', "  ", "\r", '{"b": 4, "a": 4}', "", ""],
    "blank lines first": ["", " ", '{"a": 300}', '{"a": 2, "b": -7}', '{"a": 400, "b": 5}'],
    "keys that no schema names": ['{"a": 1}', '{"x": "y", "a": 2}', '{"z": 0.5, "a": 300, "x": "q"}', '{"a": 4}'],
    "values that do not parse": ['{"a": 1}', '{"a": "?"}', "", '{"a": 2, "b": "7"}', '{"b": 1.5, "a": 3}'],
}
JSON_COLUMNS = {
    "a": {**INT, "checks": {"in_range": {"min_value": 0, "max_value": 99}}},
    "b": {**INT, "nullable": True, "required": False},
}


@pytest.mark.parametrize("chunk", [1, 7, 1 << 20])
@pytest.mark.parametrize("case", JSON_ROWS)
def test_ranges_of_json_lines_give_what_one_file_gives(job, tmp_path, monkeypatch, case, chunk):
    monkeypatch.setattr(cutting, "_CHUNK", chunk)
    lines = [f"{line}\n" for line in JSON_ROWS[case]]
    whole = job().run("raw.jsonl", "".join(lines), JSON_COLUMNS)
    for rows in range(1, len(lines) + 2):
        for cut in {len(lines), 2, 3}:  # in one part, and in two
            place = tmp_path / f"{rows} {cut}"
            place.mkdir()
            parts = {f"{number}.jsonl": "".join(part) for number, part in enumerate((lines[:cut], lines[cut:]))}
            raw = folder_of(place / "parts", {name: text for name, text in parts.items() if text.strip()})
            good, bad = cleaned(place, raw, JSON_COLUMNS, part_rows=rows)
            assert_frame_equal(good, whole.rows)
            rejected = bad.drop("part", *(["row"] if cut < len(lines) else []))
            assert rejected.rows() == whole.rejected.select(rejected.columns).cast(rejected.schema).rows()
            metrics = json.loads(
                (place / "m.json").read_text()
            )  # what unnamed columns look like, goes by the first range
            assert {**metrics, "unnamed": None} == {**whole.metrics, "unnamed": None}
            if cut == len(lines) <= rows:
                assert (place / "c/part-00000.parquet").read_bytes() == whole.paths["clean"].read_bytes()


def test_parquet_parts_give_what_one_file_gives(job, tmp_path):
    rows = pl.DataFrame({"age": [25, 131, 30, 7, -1, 9, 41], "kind": ["a", None, "b", "a", "b", "c", "a"]})
    whole = job().run("raw.parquet", rows, AGE)
    good, bad = cleaned(tmp_path, folder_of(tmp_path / "parts", {"1.parquet": rows[:4], "2.parquet": rows[4:]}), AGE)
    assert_frame_equal(good, whole.rows)
    assert bad.select("part", "row", "age").rows() == [("1.parquet", 2, 131), ("2.parquet", 1, -1)]
    assert len(contents(tmp_path / "c")) == 3


@pytest.mark.parametrize("chunk", [1, 2, 3, 7, 1 << 20])
@pytest.mark.parametrize("rows", [1, 2, 3, 50])
def test_csv_is_cut_between_rows_wherever_the_reading_stops(tmp_path, monkeypatch, chunk, rows):
    monkeypatch.setattr(cutting, "_CHUNK", chunk)
    table = [(f'{"x" * (number % 5)}"\r\n,', number) for number in range(11)] + ROWS
    raw = folder_of(tmp_path / "parts", {"a.csv": csv_of(table), "b.csv": csv_of(table[:1])})
    form = params({"age": INT}).datasets["d"].clean
    with cutting.open_parts(raw, cutting.Format.of(raw / "a.csv", form), tmp_path) as parts:
        found = []
        for one in cutting.ranges(parts, rows):
            with one.opened(tmp_path) as copy:
                lines = list(csv.reader(io.StringIO(copy.file.read_bytes().decode(), newline="")))
            assert lines[0] == ["name", "age"]
            assert len(lines) - 1 == one.rows.rows <= rows
            found += lines[1:]
    assert found == [[name, str(age)] for name, age in [*table, table[0]]]


@pytest.mark.parametrize(
    ("column", "values"),
    [
        (INT, [5, 1, 2, 3, 5, 1, 7, 8]),
        (TEXT, ["a", "b", "a ", "", "c", "ä", "a", "b"]),
        (FLOAT, [0.0, 1.5, -0.0, 2.5, 1.5, 3.0, 4.0, 5.0]),
        ({"dtype": "date"}, [f"2020-01-0{day}" for day in (1, 2, 3, 1, 4, 5, 6, 2)]),
    ],
)
def test_unique_holds_over_all_parts_as_in_one_file(job, tmp_path, column, values):
    columns = {"x": {**column, "nullable": True, "unique": True}, "age": INT}
    rows = [(value, number if number != 3 else "no number") for number, value in enumerate(values)]
    whole = job().run("raw.csv", csv_of(rows, ("x", "age")), columns)
    parts = {f"{number}.csv": csv_of(rows[number : number + 2], ("x", "age")) for number in (0, 2, 4, 6)}
    good, bad = cleaned(tmp_path, folder_of(tmp_path / "parts", parts), columns)
    assert_frame_equal(good, whole.rows)
    assert bad["reason"].to_list() == whole.rejected["reason"].to_list()
    assert any("unique" in reason for reason in bad["reason"])
    assert not left_behind(tmp_path)


TYPED = pl.DataFrame({"age": [1, 2], "more": ["a", "b"]})


@pytest.mark.parametrize(
    ("bad", "content", "said"),
    [
        ("b.csv", "", "b.csv is empty"),
        ("b.csv", "name,age,more\n", "b.csv has no rows"),
        ("b.csv", "name,more,age\nx,1,2\n", "b.csv has the columns name, more, age; a.csv has name, age, more"),
        ("b.csv", "name,age,more\nx,1,2\ny,3", "b.csv does not end with a line's end, so it may be written in part"),
        ("b.csv", 'name,age,more\nx,1,2\n12" y,3,4\nz,5,6\n', """b.csv: line 3: '12" y,3,4' has a quote in a field"""),
        ("b.csv", 'name,age,more\nx",1,2\n"y",3,4\nz",5,6\n', """b.csv: line 2: 'x",1,2' has a quote in a field"""),
        ("b.csv", 'name,age,more\nx,1,2\n"y,3,4\n', "b.csv: line 3 opens a quote that is not closed"),
        ("b.csv", "name,age,more\n" + "x,1,2\n" * 6 + "x,1\n", "b.csv is not a CSV file.*Row #8"),
        (
            "b.csv",
            "name,age,more\nx,1,2\n" * 2,
            "b.csv: column 'more' is String; in the first rows of a.csv it is Int64",
        ),
        ("b.csv", "name,age,more\n" + "x,1,2\n" * 5 + "x,1,\xe9\n", "b.csv: line 7 is not UTF-8"),
        ("b.tsv", "name\tage\tmore\nx\t1\t2\n", "b.tsv is of another format than a.csv"),
        ("b.txt", "x", "b.txt is no part"),
        ("b.parquet", TYPED.with_columns(age=pl.col("age").cast(pl.String)), "b.parquet: column 'age' is String"),
        ("b.parquet", TYPED.rename({"more": "less"}), "b.parquet has the columns age, less; a.parquet has age, more"),
        ("b.parquet", b"PAR1\0\0half of it", "b.parquet is not readable as parquet"),
        ("b.parquet", TYPED.clear(), "b.parquet has no rows"),
    ],
)
def test_a_part_that_is_not_like_the_others_is_refused_by_name(tmp_path, bad, content, said):
    columns = {"age": {**INT, "nullable": True}}
    first = {"a.parquet": TYPED} if bad.endswith(".parquet") else {"a.csv": "name,age,more\nAnn,25,1\n"}
    if isinstance(content, str):
        content = content.encode("latin-1")
    raw = folder_of(tmp_path / "parts", {**first, bad: content})
    with pytest.raises(StageError, match=rf"{raw}/{said}") as refused:
        cleaned(tmp_path, raw, columns)
    assert "\n" not in str(refused.value)
    assert not [path for path in tmp_path.iterdir() if path != raw and path.name != "cleaning"]


def test_more_ranges_than_file_names_sort_are_refused(tmp_path, monkeypatch):
    """`part-100000.parquet` stands before `part-10001.parquet`."""
    monkeypatch.setattr(cutting, "_MOST_RANGES", 2)
    raw = folder_of(tmp_path / "parts", {"a.csv": "age\n1\n2\n", "b.csv": "age\n3\n"})
    with pytest.raises(StageError, match=r"b\.csv: more than 2 ranges of 1 rows, .*; raise clean\.part_rows"):
        cleaned(tmp_path, raw, AGE, part_rows=1)
    assert cleaned(tmp_path, raw, AGE, part_rows=2)[0]["age"].to_list() == [1, 2, 3]


def test_a_folder_in_the_folder_is_refused(tmp_path):
    raw = folder_of(tmp_path / "parts", {"a.csv": "age\n1\n"})
    (raw / "year=2024").mkdir()
    with pytest.raises(StageError, match=r"parts/year=2024 is a folder; the parts of .*parts have to be files"):
        cleaned(tmp_path, raw, AGE)


def test_a_folder_of_csv_files_asks_for_part_rows_where_they_are_not_set(job, tmp_path):
    job()
    raw = folder_of(tmp_path / "parts", {"a.csv": "age\n1\n"})
    with pytest.raises(StageError, match=r"set params\.yaml: datasets\.d\.clean\.part_rows if other files in it"):
        clean.run("d", params(AGE, raw="parts/"), raw=raw, **paths_of(tmp_path))


@pytest.mark.parametrize(
    "body",
    [
        "return frame.with_columns(nw.col('age') - nw.col('age').mean())",
        "return frame.unique('age')",
        "return frame.sort('age', descending=True)",
        "return frame.head(2)",
        "return frame.with_columns(n=nw.len().over('age'))",
    ],
)
def test_a_script_that_looks_beyond_the_row_is_refused(job, tmp_path, body):
    job(body)
    raw = folder_of(tmp_path / "parts", {"a.csv": "age\n1\n2\n9\n", "b.csv": "age\n4\n"})
    with pytest.raises(StageError, match=r"cleaning/d\.py makes other rows of the same ones.*part_rows out"):
        cleaned(tmp_path, raw, AGE)


def test_too_many_rejected_in_all_parts_together_are_refused_with_examples(job, tmp_path):
    job()
    raw = folder_of(tmp_path / "parts", {"a.csv": "age\n1\n2\n", "b.csv": "age\n200\nten\n999\n"})
    with pytest.raises(
        StageError, match=r"parts: 3 of 5 rows are rejected.*in_range\(0, 130\) broken by 2 \(row 1: '200'"
    ):
        cleaned(tmp_path, raw, AGE, max_rejected=0.5)
    assert not (tmp_path / "c").exists()


def test_a_clean_that_is_killed_leaves_no_parts_and_no_workers(tmp_path):
    wait = "import time; time.sleep(600 if __import__('multiprocessing').parent_process() else 0); return frame"
    tree(tmp_path, config(AGE, raw="raw/", part_rows=2), wait)
    folder_of(tmp_path / "raw", {"a.csv": "age\n1\n2\n3\n4\n5\n6\n"})
    running = stage_in_background(tmp_path)
    mine = psutil.Process(running.pid)
    wait_for(lambda: list(tmp_path.glob(".c.*.tmp/*")) and len(mine.children()) >= 2)
    workers = mine.children()
    running.kill()
    running.wait()
    wait_for(lambda: not any(is_running(worker) for worker in workers))
    assert not (tmp_path / "c").exists()
    assert not (tmp_path / "m.json").exists()


def test_a_worker_that_is_killed_ends_the_stage_with_one_line(tmp_path):
    die = "import os; os.kill(os.getpid(), 9) if __import__('multiprocessing').parent_process() else 0; return frame"
    tree(tmp_path, config(AGE, raw="raw/", part_rows=2), die)
    folder_of(tmp_path / "raw", {"a.csv": "age\n1\n2\n3\n4\n5\n6\n"})
    done = stage(tmp_path, "clean", "d", *OPTIONS, PARTS_WORKERS="2")
    assert done.returncode == 3
    assert "one of 2 worker processes was killed" in done.stderr
    assert "PARTS_WORKERS=1" in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "c").exists()
    assert not left_behind(tmp_path)


def test_a_number_of_workers_that_is_none_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("PARTS_WORKERS", "many")
    raw = folder_of(tmp_path / "parts", {"a.csv": "age\n1\n"})
    with pytest.raises(StageError, match="PARTS_WORKERS = 'many' is no number"):
        cleaned(tmp_path, raw, AGE)


def test_ingest_looks_at_each_part_and_copies_the_folder(tmp_path):
    raw = folder_of(tmp_path / "source", {"a.csv": "age\n1\n", "b.csv": "age\n2\n"})
    ingest.run("s", params(AGE, raw="raw/"), source=raw, raw=tmp_path / "raw")
    assert contents(tmp_path / "raw") == contents(raw)
    (raw / "b.csv").write_text("age\n2,3\n")
    with pytest.raises(StageError, match=r"source/b\.csv is not a CSV file"):
        ingest.run("s", params(AGE, raw="raw/"), source=raw, raw=tmp_path / "raw")


def test_parts_are_delivered_as_one_table(job, tmp_path):
    job()
    targets = [{"path": str(tmp_path / "to.csv")}, {"path": str(tmp_path / "to.parquet")},
               {"table": "people", "url": f"sqlite:///{tmp_path}/to.db"}]  # fmt: skip
    raw = folder_of(tmp_path / "parts", {"a.csv": "age\n1\n2\n3\n4\n", "b.csv": "age\n5\n"})
    cleaned(tmp_path, raw, AGE)
    deliver.run("d", params(AGE, targets), clean=tmp_path / "c", receipt=tmp_path / "receipt.json")
    assert (tmp_path / "to.csv").read_text() == "age\n1\n2\n3\n4\n5\n"
    assert pl.read_parquet(tmp_path / "to.parquet")["age"].to_list() == [1, 2, 3, 4, 5]
    assert read_arrow(tmp_path / "c", "clean@d")["age"].to_pylist() == [1, 2, 3, 4, 5]
    with closing(sqlite3.connect(tmp_path / "to.db")) as database:
        assert database.execute("SELECT age FROM people").fetchall() == [(age,) for age in range(1, 6)]


def stage_in_background(folder):
    command = [sys.executable, "src/stages", "clean", "d", *OPTIONS]
    return subprocess.Popen(command, cwd=folder, env={**os.environ, "PARTS_WORKERS": "2"})


def is_running(process):
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def wait_for(condition, seconds=120):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)
