"""A project of its own from a data file; test_demo.py goes on with one."""

import gzip
import re
import subprocess
import sys
import zipfile

import numpy as np
import pandas as pd
import pytest
import xlsxwriter
import yaml
from fuzzing import drawn
from hypothesis import strategies as st
from project import ROOT

from dovetail.errors import OutsideError, UserError
from dovetail.render.new import made
from dovetail.scaffold.inferred import infer
from dovetail.scaffold.new import NewRequest, new
from stages.common.params import load_params

ROWS = 120


def rows():
    """A class that goes by two columns, with an id, missing values in words, and a column of one value."""
    draw = np.random.default_rng(0)
    size, colour = draw.normal(size=ROWS), draw.choice(["red", "green"], ROWS)
    return pd.DataFrame(
        {
            "Row id": [f"r{number}" for number in range(ROWS)],
            "size (cm)": np.where(draw.random(ROWS) < 0.1, np.nan, size.round(3)),
            "colour": colour,
            "count": draw.integers(0, 50, ROWS),
            "version": 1,
            "y": np.where((size > 0) == (colour == "red"), "yes", "no"),
        }
    )


def params_of(tmp_path, table, target, name="data.csv", **how):
    file = tmp_path / name
    table.to_csv(file, index=False, **how)
    answer = new(NewRequest(tmp_path / "p", file, target))
    load_params(tmp_path / "p/params.yaml")  # as the stages read it
    return answer, yaml.safe_load((tmp_path / "p/params.yaml").read_text())


def test_what_was_seen_in_the_data_stands_in_params_yaml(tmp_path):
    answer, params = params_of(tmp_path, rows(), "y", na_rep="n/a")
    columns = params["datasets"]["data"]["schema"]["columns"]
    assert {name: column["dtype"] for name, column in columns.items()} == {
        "Row id": "str", "size (cm)": "float64", "colour": "str", "count": "int64", "version": "int64", "y": "str",
    }  # fmt: skip
    assert [name for name, column in columns.items() if column.get("nullable")] == ["size (cm)"]
    assert params["datasets"]["data"]["clean"]["null_values"] == ["", "n/a"]
    model = params["models"]["data"]
    assert (model["train"]["estimator"], model["split"]["drop"]) == (
        "sklearn.ensemble.RandomForestClassifier",
        ["Row id"],
    )
    warnings = {column.name: column.warning for column in answer.columns if column.warning}
    assert warnings == {"Row id": "another value in each row: dropped where others remain", "version": "one value only"}
    text = (tmp_path / "p/params.yaml").read_text()
    assert "  # one value only\n" in text


def test_rows_without_a_target_may_be_rejected(tmp_path):
    table = rows()
    table.loc[:11, "y"] = None
    _, params = params_of(tmp_path, table, "y")
    assert params["datasets"]["data"]["clean"]["max_rejected"] == pytest.approx(0.11)
    assert "nullable" not in params["datasets"]["data"]["schema"]["columns"]["y"]


def found_in(tmp_path, name, content):
    """The types, warnings and reading of a file with these bytes, and that the stages take the block."""
    (tmp_path / name).write_bytes(content)
    answer = new(NewRequest(tmp_path / "p", tmp_path / name, "y", name="d"))
    params = load_params(tmp_path / "p/params.yaml")
    columns = {column.name: (column.dtype, column.warning) for column in answer.columns}
    return columns, params.datasets["d"].clean


def lines(header, row, rows=40):
    return "\n".join([header, *(row(number) for number in range(rows))]) + "\n"


@pytest.mark.parametrize(
    ("content", "kind", "said", "settings"),
    [
        (lines("x;y", lambda n: f"{n % 7},5;{'ab'[n % 2]}"), "float64", "", {"separator": ";", "decimal": ","}),
        (lines("x;y", lambda n: f"1.{n % 7}00,5;{'ab'[n % 2]}"), "float64", "", {"decimal": ",", "thousands": "."}),
        (lines("x,y", lambda n: f'"{n % 7},000",{"ab"[n % 2]}'), "int64", "", {"decimal": ".", "thousands": ","}),
        (lines("x,y", lambda n: f'"1,{n % 7}",{"1.5" if n % 2 else "2.5"}'), "str", "looks like amounts", {}),
        (lines("x,y", lambda n: f"{n % 7 if n % 5 else '-'},{'ab'[n % 2]}"), "int64", "", {"null_values": ["", "-"]}),
        (lines("x,y", lambda n: f"{'-Inf' if n == 3 else n % 7},{'ab'[n % 2]}"), "int64", "infinite in 1 rows",
         {"null_values": ["", "-Inf"]}),
        (lines("x,y", lambda n: f"{'oops' if n == 5 else n % 7},{'ab'[n % 2]}", 200), "int64", "'oops' (row 6) no num",
         {"max_rejected": 0.015}),
        (lines("x,y", lambda n: f"{'unknown' if n % 9 == 0 else n},{'ab'[n % 2]}"), "str", "'unknown' (row 1)", {}),
        (lines("x,y", lambda n: f"0{n % 7}1,{'ab'[n % 2]}"), "str", "leading zeros", {}),
        (lines("x,y", lambda n: f"{10**20 + n % 7},{'ab'[n % 2]}"), "str", "beyond 64 bits", {}),
        (lines("x,y", lambda n: f"{2**62 + n % 7},{'ab'[n % 2]}"), "int64", "", {}),
        (lines("x,y", lambda n: f"{n % 7 + 1}/3/2026,{'ab'[n % 2]}"), "str", "not as dtype datetime", {}),
        (lines("x,y", lambda n: f"red{' ' * (n % 2)},{'ab'[n % 2]}"), "str", "differ by blanks alone", {}),
        (lines("x,y", lambda n: f"{['TRUE', 'false', ''][n % 3]},{'ab'[n % 2]}"), "bool", "", {}),
    ],
)  # fmt: skip
def test_how_a_text_file_is_written_is_seen(tmp_path, content, kind, said, settings):
    columns, clean = found_in(tmp_path, "d.csv", content.encode())
    assert columns["x"][0] == kind
    assert said in columns["x"][1] if said else not columns["x"][1]
    assert {key: getattr(clean, key) for key in settings} == settings


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (["2024-01-02T10:00:00Z", "2024-01-03T10:00:00+02:00"], "looks like dates: dtype datetime"),
        (["2024-01-02", "02.01.2024"], "looks like dates, not as dtype datetime has them"),
    ],
)
def test_dates_of_several_time_zones_or_forms_are_seen(tmp_path, values, said):
    pd.DataFrame({"t": values * 30, "y": ["a", "b", "b"] * 20}).to_csv(tmp_path / "d.csv", index=False)
    (column,) = (column for column in infer(tmp_path / "d.csv", "y").columns if column.name == "t")
    assert said in column.warning


def test_what_is_said_of_many_columns_fits_on_a_screen():
    columns = [{"name": f"c{number}", "dtype": "int64", "warning": "one value only"} for number in range(98)]
    answer = {"project": "p", "model": "m", "estimator": "e", "rows": 9, "columns": columns, "committed": True}
    lines = made(answer).splitlines()
    assert (len(lines), lines[-2]) == (23, "  and 78 other columns of which params.yaml says something")


# What spreadsheets and exports hold that is almost something else.
_WORDS = (
    "",
    " ",
    "NA",
    "nan",
    "-",
    "inf",
    "-0",
    "1e999",
    "1_000",
    "1.234,56",
    "$1,000",
    "(5)",
    "5-",
    "12%",
    "0x1F",
    "007",
    "TRUE",
    "yes",
    "2024-01-02",
    "2024-01-02T10:00:00Z",
    "2024-01-02T10:00:00+02:00",
    "2024-13-45",
    "0000-00-00",
    "9999-12-31",
    "02.01.2024",
    "1/2/24",
    "24:00",
    "10:30 PM",
    "99999999999999999999",
    "ä",
    "🦊",
    "a\nb",
    'q"uote',
    "\u202e",
    "=1+1",
    "\x7f",
)


@pytest.mark.fuzz
def test_whatever_the_cells_hold_it_is_a_table_or_refused_in_one_line(tmp_path, pytestconfig):
    words = st.tuples(*[st.sampled_from(_WORDS)] * 3)

    @drawn(pytestconfig, st.lists(words, min_size=1, max_size=60), st.sampled_from(["x", " x", "", "y"]))
    def infers(rows, name):
        pd.DataFrame(rows, columns=[name, "z", "y"]).to_csv(tmp_path / "d.csv", index=False)
        said = ""
        try:
            infer(tmp_path / "d.csv", "y")
        except UserError as error:
            said = error.message
        assert said.isprintable()

    infers()


@pytest.mark.parametrize(
    ("encoding", "written"), [("cp1252", "windows-1252"), ("utf-16", "utf-16"), ("utf-8-sig", "utf-8")]
)
def test_an_encoding_is_seen(tmp_path, encoding, written):
    text = lines("größe,😀,y" if "utf" in encoding else "größe,é,y", lambda n: f"{n % 7},schön,{'ab'[n % 2]}")
    columns, clean = found_in(tmp_path, "d.csv", text.encode(encoding))
    assert (next(iter(columns)), clean.encoding) == ("größe", written)


@pytest.mark.parametrize("name", ["d.xlsx", "d.feather", "d.parquet"])
def test_typed_files_are_taken_and_what_no_model_takes_is_left_out(tmp_path, name):
    table = pd.DataFrame({"x": range(40), "y": ["a", "b"] * 20}).assign(x=lambda t: t.x % 7)
    if name == "d.xlsx":
        with xlsxwriter.Workbook(tmp_path / name) as book:
            book.add_worksheet("notes").write(0, 0, "see the other sheet")
            sheet = book.add_worksheet("data")
            for row, cells in enumerate([list(table.columns), *table.to_numpy().tolist()]):
                sheet.write_row(row, 0, cells)
    elif name == "d.feather":
        table.to_feather(tmp_path / name)
    else:
        table.assign(long=pd.Timedelta(1, "D")).set_index("x").to_parquet(tmp_path / name)
    columns, clean = found_in(tmp_path, name, (tmp_path / name).read_bytes())
    assert (columns["x"][0], columns["y"][0]) == ("int64", "str")
    assert clean.sheet == ("data" if name == "d.xlsx" else None)
    assert columns.get("long", ("",))[0] == ""
    drop = load_params(tmp_path / "p/params.yaml").models["d"].split.drop
    assert drop == (["long"] if name == "d.parquet" else [])


HOSTILE = ["no", "a: b", "#", "${x}", "{curly}", "quote'\"", "über", "1", "- dash", "a\tb", "models.data", "%"]


def test_column_names_of_any_kind_are_written_so_that_they_are_read_again(tmp_path):
    table = pd.DataFrame({name: range(40) for name in HOSTILE}) % 7
    _, params = params_of(tmp_path, table.assign(target=[0.5 * n for n in range(40)]), "target")
    assert list(params["datasets"]["data"]["schema"]["columns"]) == [*HOSTILE, "target"]


@pytest.mark.parametrize(
    ("values", "classes"),
    [
        (["a", "b"], True),
        ([0, 1], True),
        ([True, False], True),
        ([1.5, 2.5], False),
        (range(40), False),
        ([1.0, 2.0], True),
    ],
    ids=["text", "few numbers", "truths", "fractions", "many numbers", "whole floats"],
)
def test_a_target_of_few_values_is_a_class(tmp_path, values, classes):
    pd.DataFrame({"x": range(40), "y": (list(values) * 40)[:40]}).to_csv(tmp_path / "d.csv", index=False)
    assert infer(tmp_path / "d.csv", "y").classes is classes


@pytest.mark.parametrize("name", ["d.csv", "d.tsv", "d.csv.gz", "d.parquet", "d.jsonl"])
def test_each_format_is_read_and_keeps_its_ending(tmp_path, name):
    table = rows()
    file = tmp_path / name
    if name.endswith(".parquet"):
        table.to_parquet(file)
    elif name.endswith(".jsonl"):
        table.to_json(file, orient="records", lines=True)
    else:
        text = table.to_csv(index=False, sep="\t" if "tsv" in name else ",").encode()
        file.write_bytes(gzip.compress(text) if name.endswith(".gz") else text)
    found = infer(file, "y")
    assert (found.rows, found.reading.separator, len(found.columns)) == (ROWS, "", 6)
    new(NewRequest(tmp_path / "p", file, "y", name="Mine!"))
    assert (tmp_path / "p/data/raw" / name.replace("d.", "mine.")).is_file()


@pytest.mark.parametrize(
    ("data", "target", "says"),
    [
        ("missing.csv", "y", "there is no file"),
        ("d.csv", "z", "has no column 'z'; it has: x, y"),
        ("d.txt", "y", "its name ends in none of"),
        ("broken.parquet", "y", "cannot be read as a table"),
        ("header.csv", "y", "it has no rows"),
        ("gone.csv", "y", "'y' has no value in any row"),
        ("constant.csv", "y", "'y' is 'a' in each row"),
        ("twice.csv", "y", "two columns are named 'x'"),
        ("short.csv", "y", "line 3 has 1 cells, the first line has 2"),
        ("blank.csv", "y", "line 3 is blank"),
        ("index.csv", "y", "column 1 has no name"),
        ("data.csv", "1", "line 1, '0,1', is data"),
        ("units.csv", "y", "line 2 of"),
        ("old.csv", "y", r"its lines end in \r alone"),
        ("blanks.csv", "y", "has no column 'y'; it has ' y'"),
        ("ids.csv", "y", "'y' is text, and another one in each row"),
        ("empty.csv", "y", "cannot be read as a table"),
    ],
)
def test_what_cannot_be_is_refused_and_nothing_is_written(tmp_path, data, target, says):
    pd.DataFrame({"x": [1, 2], "y": [1, 2]}).to_csv(tmp_path / "d.csv", index=False)
    (tmp_path / "d.txt").write_text("x,y\n1,2\n")
    (tmp_path / "broken.parquet").write_bytes(b"PAR1")
    (tmp_path / "empty.csv").write_text("")
    for name, text in {
        "header": "x,y\n", "gone": "x,y\n1,\n2,NA\n", "constant": "x,y\n1,a\n2,a\n", "twice": "x,x,y\n1,2,a\n3,4,b\n",
        "short": "x,y\n1,a\n2\n", "blank": "x,y\n1,a\n\n2,b\n", "index": ",y\n1,a\n2,b\n", "data": "0,1\n1,2\n3,4\n",
        "units": "x,z,y\ncm,kg,\n" + "1,2,a\n3,4,b\n" * 9, "old": "x,y\r1,a\r2,b\r", "blanks": "x, y\n1,a\n2,b\n",
        "ids": "x,y\n" + "".join(f"1,k{n}\n" for n in range(30)),
    }.items():  # fmt: skip
        (tmp_path / f"{name}.csv").write_bytes(text.encode())
    with pytest.raises(UserError, match=re.escape(says)):
        new(NewRequest(tmp_path / "p", tmp_path / data, target))
    assert not (tmp_path / "p").exists()


@pytest.mark.parametrize(
    ("name", "block"),
    [
        ("2024", "data_2024"),
        ("no", "data_no"),
        ("Größe 2.0", "grosse_2"),
        ("数据", "data"),
        ("_x_", "x"),
        ("NULL", "data_null"),
        ("importance", "data_importance"),
    ],
)
def test_a_file_of_any_name_becomes_a_block_that_the_stages_take(tmp_path, name, block):
    rows().to_csv(tmp_path / f"{name}.csv", index=False)
    assert new(NewRequest(tmp_path / "p", tmp_path / f"{name}.csv", "y")).model == block
    load_params(tmp_path / "p/params.yaml")
    assert list(yaml.safe_load((tmp_path / "p/dvc.yaml").read_text())["artifacts"]) == [block]


def test_a_git_that_cannot_be_run_leaves_nothing_behind(tmp_path, monkeypatch):
    rows().to_csv(tmp_path / "d.csv", index=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(OutsideError, match="git init"):
        new(NewRequest(tmp_path / "p", tmp_path / "d.csv", "y"))
    assert not (tmp_path / "p").exists()


def test_a_folder_that_is_not_empty_stays_as_it_is(tmp_path):
    pd.DataFrame({"x": [1, 2], "y": [1, 2]}).to_csv(tmp_path / "d.csv", index=False)
    with pytest.raises(UserError, match="already exists and is not empty"):
        new(NewRequest(tmp_path, tmp_path / "d.csv", "y"))
    assert [file.name for file in tmp_path.iterdir()] == ["d.csv"]


def test_the_template_travels_in_the_wheel_and_is_found_there(tmp_path):
    build = f"import hatchling.build; print(hatchling.build.build_wheel({str(tmp_path)!r}))"
    done = subprocess.run([sys.executable, "-c", build], cwd=ROOT, capture_output=True, text=True, check=True)
    with zipfile.ZipFile(tmp_path / done.stdout.split()[-1]) as wheel:
        wheel.extractall(tmp_path / "installed")
    code = (
        "from dovetail.scaffold import template; from pathlib import Path; import sys;"
        "project = Path(sys.argv[1]); project.mkdir(); template.copy_to(project); print(template.pipeline())"
    )
    found = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "p")], cwd=tmp_path, capture_output=True, text=True, check=True,
        env={"PYTHONPATH": str(tmp_path / "installed"), "PATH": ""},
    )  # fmt: skip
    assert yaml.safe_load(found.stdout)["stages"].keys() >= {"clean", "train", "register"}
    assert "artifacts" not in yaml.safe_load(found.stdout)
    copied = {file.relative_to(tmp_path / "p").as_posix() for file in (tmp_path / "p").rglob("*") if file.is_file()}
    tracked = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "src/stages"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    own = {f"src/stages/cleaning/{name}.py" for name in ("diabetes", "iris", "penguins", "people")}
    others = {"params.schema.json", ".gitignore", ".dvcignore", "scripts/stage_deps.py"}
    assert copied == {*tracked.stdout.split(), *others} - own
