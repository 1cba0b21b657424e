"""Clean: the broken rows aside with their reasons, the others through the dataset's script, all or nothing."""

import datetime as dt
import re
import shutil
import time
from ast import literal_eval

import polars as pl
import pytest
from datasets import AGE, INT, ROOT, TEXT, Cleaned, config, left_behind, params, stage, tree
from polars.testing import assert_frame_equal

from stages import clean
from stages.common.errors import StageError
from stages.common.params import load_params
from stages.rows import kernel

OPTIONS = ("--raw", "raw.csv", "--clean", "c.parquet", "--rejected", "r.parquet", "--metrics", "m.json")


def project(folder):
    shutil.copytree(ROOT / "src" / "stages", folder / "src" / "stages", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "params.yaml", folder)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["polars", "pandas"])
def test_people_come_out_as_in_the_tutorial(tmp_path, engine):
    project(tmp_path)
    params = (tmp_path / "params.yaml").read_text()
    (tmp_path / "params.yaml").write_text(params.replace("engine: polars", f"engine: {engine}", 1))
    shutil.copy(ROOT / "data" / "sources" / "people.csv", tmp_path / "raw.csv")
    done = stage(tmp_path, "clean", "people", *OPTIONS)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    rows = pl.read_parquet(tmp_path / "c.parquet").rows(named=True)
    assert rows == [
        {"name": "Alice", "age": 25, "age_group": "young"},
        {"name": "David", "age": 22, "age_group": "young"},
    ]


def test_a_person_of_thirty_is_adult(tmp_path):
    raw = tmp_path / "raw.csv"
    raw.write_text("name,age\nCarol,30\nEve,29\n")
    done = Cleaned(tmp_path)
    clean.run("people", load_params(ROOT / "params.yaml"), raw=raw, **done.paths)
    assert done.rows["age_group"].to_list() == ["adult", "young"]


def test_metrics_count_rows_missing_values_and_reasons(job):
    done = job("return frame.filter(nw.col('age') > 1)").run(
        "raw.csv", "name,age\nAnn,25\nBo,131\n,200\nDi,1\n", {"name": TEXT, **AGE}
    )
    assert done.metrics == {
        "rows_in": 4,
        "rows_out": 1,
        "rows_rejected": 2,
        "rows_dropped": 1,
        "share_rejected": 0.5,
        "missing": {"name": 1},
        "reasons": {"name: not_nullable": 1, "age: in_range(0, 130)": 2},
    }


def test_columns_that_the_schema_does_not_name_are_reported(job, capsys):
    columns = {
        "na": ["1.5", "NA", "2"],
        "comma": ["1.234,56", "7,5", "8,0"],
        "money": ["$1,000", "$2", "$3.50"],
        "day": ["01/02/2020", "02/02/2020", "03/02/2020"],
        "same": ["a", "a", "a"],
        "gone": ["", "", ""],
        "big": ["12345678901234567890123", "2", "3"],
        "plain": ["b", "c", "b"],
        "id": ["u1", "u2", "u3"],
        "code": ["00123", "7", "00123"],
        "*": ["1", "2", "1"],
    }
    rows = [";".join([str(row), *(column[row % 3] for column in columns.values())]) for row in range(60)]
    rows = [line.replace(";u", f";{number}u") for number, line in enumerate(rows)]
    done = job().run("raw.csv", "\n".join([";".join(["x", *columns]), *rows, ""]), {"x": INT}, separator=";")
    report = done.metrics["unnamed"]
    assert {name: column.get("looks_like") for name, column in report.items()} == {
        "na": "numbers, beside 'NA'",
        "comma": "numbers with a decimal comma",
        "money": "amounts of money",
        "day": "dates",
        "same": "a constant",
        "gone": "nearly all missing",
        "big": "whole numbers beyond 64 bits",
        "plain": None,
        "id": "an id: no value comes twice",
        "code": "text: '00123' is read as a number, without its zeros",
        "*": None,
    }
    assert report["plain"] == {"type": "String"}
    assert "'money': String, looks like amounts of money" in capsys.readouterr().out


def test_too_many_rejected_rows_end_the_stage_with_counts_and_examples(tmp_path):
    tree(tmp_path, config({**AGE, "name": TEXT}, max_rejected=0.5))
    (tmp_path / "raw.csv").write_text("name,age\nAnn,200\nBo,-1\n,131\nDi,999\nEd,1\n")
    done = stage(tmp_path, "clean", "d", *OPTIONS)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1
    assert "raw.csv: 4 of 5 rows are rejected, more than datasets.d.clean.max_rejected = 0.5" in done.stderr
    assert "age: in_range(0, 130) broken by 4 (row 1: 200, row 2: -1, row 3: 131); name: not_nullable" in done.stderr
    assert not list(tmp_path.glob("*.parquet"))
    assert not (tmp_path / "m.json").exists()
    assert not left_behind(tmp_path)


def test_a_share_at_the_limit_passes(job):
    assert job().run("raw.csv", "age\n1\n200\n", AGE, max_rejected=0.5).metrics["share_rejected"] == 0.5
    rows = "".join(f"{200 if row < 29 else row}\n" for row in range(100))
    assert (
        job().run("raw.csv", f"age\n{rows}", AGE, max_rejected=0.29).metrics["rows_rejected"] == 29
    )  # 0.29 * 100 < 29


@pytest.mark.parametrize(
    ("made", "kind"),
    [("period_range('2020', periods=2, freq='M')", "pandas.period"), ("interval_range(0, 2)", "pandas.interval")],
)
def test_a_type_that_pandas_alone_has_is_refused(job, made, kind):
    """To who does not know it a period is a number of months."""
    body = f"import pandas; return nw.from_native(nw.to_native(frame).assign(p=pandas.{made}))"
    with pytest.raises(StageError, match=rf"column 'p' holds values of the type {kind}; make text or dates of it"):
        job(body).run("raw.csv", "t\na\nb\n", {"t": TEXT}, engine="pandas")


def test_a_named_index_of_pandas_is_a_column_and_one_without_a_name_is_refused(job):
    done = job("return nw.from_native(nw.to_native(frame).set_index('t'))").run(
        "raw.csv", "x,t\n1,a\n2,b\n", {"x": INT, "t": TEXT}, engine="pandas"
    )
    assert done.rows.to_dicts() == [{"t": "a", "x": 1}, {"t": "b", "x": 2}]
    with pytest.raises(StageError, match=r"its index has no name, so that 'a' would be lost: frame\.index\.name"):
        job("return nw.from_native(nw.to_native(frame).set_index('t').rename_axis(None))").run(
            "raw.csv", "x,t\n1,a\n2,b\n", {"x": INT, "t": TEXT}, engine="pandas"
        )


def test_nothing_left_is_refused(job):
    done = job("return frame.filter(nw.col('x') > 9)")
    with pytest.raises(
        StageError, match=r"nothing is left of the 2 rows of .*raw\.csv: 0 rejected, 2 dropped by .*/d\.py"
    ):
        done.run("raw.csv", "x\n1\n2\n", {"x": INT})
    assert done.written == []


@pytest.mark.parametrize(
    ("raw", "content", "said"),
    [
        ("raw.csv", "", "raw.csv is empty"),
        ("raw.csv", "x\n1,2\n", "raw.csv is not a CSV file separated by ','"),
        ("raw.csv", "x\n", "nothing is left of the 0 rows"),
        ("raw.jsonl", '{"x": 1}\n{"x": \n', "raw.jsonl: line 2 is not JSON: "),
        ("raw.parquet", "PAR1", "raw.parquet is not readable as parquet"),
    ],
)
def test_a_malformed_file_is_refused(job, raw, content, said):
    done = job()
    with pytest.raises(StageError, match=re.escape(said)):
        done.run(raw, content, {"x": INT})
    assert done.written == []


def test_a_missing_file_is_refused(job):
    done = job()
    with pytest.raises(StageError, match=r"gone\.csv is missing"):
        clean.run("d", params({"x": INT}), raw=done.folder / "gone.csv", **done.paths)


@pytest.mark.parametrize(("other", "hint"), [("diabetic", ""), ("dd", "; did you mean dd.py?")])
def test_without_a_script_rows_go_through_as_they_are(tmp_path, other, hint):
    tree(tmp_path, config({"x": INT}))
    scripts = tmp_path / "src" / "stages" / "cleaning"
    (scripts / "d.py").rename(scripts / f"{other}.py")
    (tmp_path / "raw.csv").write_text("x,t\n1,a\n1,a\n-1,\n")
    done = stage(tmp_path, "clean", "d", *OPTIONS)
    assert done.stdout.startswith(
        f"clean@d: there is no src/stages/cleaning/d.py, so rows go through as they are{hint}\n"
    )
    assert pl.read_parquet(tmp_path / OPTIONS[OPTIONS.index("--clean") + 1]).rows() == [(1, "a"), (1, "a"), (-1, None)]


def test_a_script_without_its_function_is_refused_with_an_example(tmp_path):
    tree(tmp_path, config({"x": INT}))
    script = tmp_path / "src" / "stages" / "cleaning" / "d.py"
    script.write_text("def cleaned(frame):\n    return frame\n")
    (tmp_path / "raw.csv").write_text("x\n1\n")
    done = stage(tmp_path, "clean", "d", *OPTIONS)
    said, _, example = done.stderr.partition("\n")
    assert said == "clean@d: src/stages/cleaning/d.py has no function `clean`; write one, for example:"
    script.write_text(example)
    assert stage(tmp_path, "clean", "d", *OPTIONS).returncode == 0


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("return frame.nope()", "d.py failed: AttributeError"),
        ("return frame.select('nope')", "d.py failed: ColumnNotFoundError"),
        ("return 1 / 0", "d.py failed: ZeroDivisionError: division by zero"),
        ("return None", "d.py failed: TypeError"),
        ("return (", "d.py failed: SyntaxError"),
        ("import nope", "d.py failed: ModuleNotFoundError: No module named 'nope'"),
        ("return frame.with_columns(nw.col('t').cast(nw.Int64))", "d.py failed: InvalidOperationError"),
    ],
)
@pytest.mark.parametrize("engine", ["polars", "pandas"])
def test_a_failing_script_is_named_with_its_error(job, body, said, engine):
    done = job(body)
    with pytest.raises(StageError) as refusal:
        done.run("raw.csv", "x,t\n1,a\n", {"x": INT, "t": TEXT}, engine=engine)
    message = str(refusal.value)
    assert said.split(":")[0] in message if engine == "polars" else "d.py failed: " in message
    assert "\n" not in message
    assert done.written == []


def test_a_pass_that_failed_leaves_no_file_behind_however_long_its_sinks_go_on(tmp_path):
    bad = pl.LazyFrame({"t": ["x"] * 3}).with_columns(pl.col("t").cast(pl.Int64))
    for _ in range(150):
        with pytest.raises(pl.exceptions.PolarsError), kernel.own_file(tmp_path / "c") as own:
            pl.collect_all([bad.sink_parquet(own, lazy=True), pl.LazyFrame({"a": [1]})], engine="streaming")
    time.sleep(0.1)
    assert list(tmp_path.iterdir()) == []


MIXED = pl.DataFrame(
    {
        "i": [1, None, 3],
        "f": [1.5, None, 2.0],
        "t": ["a", None, "ü"],
        "b": [True, None, False],
        "d": [dt.date(2020, 1, 1), None, dt.date(2021, 1, 1)],
        "s": pl.Series(["2020-01-01 02:03:04.000005", None, "2021-01-01 00:00:00"]).str.to_datetime(time_unit="us"),
    }
)
DERIVE = (
    "return frame.with_columns(g=nw.when(nw.col('i') > 2).then(nw.lit('x')), h=nw.col('f') * 2).filter(nw.col('f') > 0)"
)


@pytest.mark.parametrize("body", ["return frame", DERIVE])
def test_both_engines_write_equal_bytes(job, body):
    dtypes = {"i": "int64", "f": "float64", "t": "str", "b": "bool", "d": "date", "s": "datetime"}
    columns = {name: {"dtype": dtype, "nullable": True} for name, dtype in dtypes.items()}
    both = [
        job(body).run("raw.parquet", MIXED, columns, engine=engine).paths["clean"].read_bytes()
        for engine in ("polars", "pandas")
    ]
    assert_frame_equal(*map(pl.read_parquet, both))
    assert both[0] == both[1]


@pytest.mark.slow
def test_the_same_rows_give_the_same_bytes_with_any_number_of_threads(tmp_path):
    tree(tmp_path, config({"x": {**INT, "checks": {"lt": 299_990}}, "t": TEXT}), "return frame.drop_nulls()")
    pl.select(x=pl.int_range(300_000), t=pl.int_range(300_000).cast(pl.String)).write_csv(tmp_path / "raw.csv")
    bytes_of = []
    for threads in ("1", "3"):
        assert stage(tmp_path, "clean", "d", *OPTIONS, POLARS_MAX_THREADS=threads).returncode == 0
        bytes_of.append([(tmp_path / name).read_bytes() for name in ("c.parquet", "r.parquet", "m.json")])
    assert bytes_of[0] == bytes_of[1]
    assert pl.read_parquet(tmp_path / "c.parquet")["x"].to_list() == list(range(299_990))  # in their order


@pytest.mark.slow
@pytest.mark.parametrize("name", ["iris", "penguins", "diabetes"])
def test_the_projects_datasets_come_out_whole_and_typed(tmp_path, name):
    project(tmp_path)
    assert stage(tmp_path, "fetch", name, "--raw", "raw.parquet").returncode == 0
    options = [option.replace("raw.csv", "raw.parquet") for option in OPTIONS]
    done = stage(tmp_path, "clean", name, *options)
    assert (done.returncode, done.stderr) == (0, "")
    rows = pl.read_parquet(tmp_path / "c.parquet")
    expected = {
        "iris": (150, ["sepal_length", "sepal_width", "petal_length", "petal_width", "species"], 0),
        "penguins": (342, ["species", "island", *PENGUIN, "sex", "year"], 9),
        "diabetes": (442, ["age", "sex", "bmi", "bp", "s1", "s2", "s3", "s4", "s5", "s6", "progression"], 0),
    }
    missing = sum(rows.null_count().row(0))
    assert (rows.height, rows.columns, missing) == expected[name]


PENGUIN = ["bill_length_mm", "bill_depth_mm", "flipper_length_mm", "body_mass_g"]


def test_a_pass_that_failed_writes_no_more_into_what_the_next_one_makes(job, tmp_path):
    """Polars' sinks go on for a moment after an error: each pass has files of its own."""
    log = tmp_path / "seen"
    body = f"""
    import pathlib, time
    time.sleep(0.3)  # what is left of a pass before this one has written by then
    names = [one.name for one in pathlib.Path({str(tmp_path / "out")!r}).iterdir()]
    with open({str(log)!r}, "a") as log:
        log.write(repr(names) + chr(10))
    return frame"""
    lines = "".join(f'{{"a": {number}}}\n' for number in range(500)) + '{"a": "x"}\n'
    done = job(body).run("raw.jsonl", lines, {"a": {"dtype": "int64"}}, max_rejected=0.5)
    seen = [literal_eval(line) for line in log.read_text().splitlines()]
    assert len(seen) == 2
    assert not [name for name in seen[1] if name.startswith(".clean") and name.count(".tmp") == 1]
    assert (len(done.rows), len(done.rejected)) == (500, 1)
