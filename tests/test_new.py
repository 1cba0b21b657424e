"""A project of its own from a data file; test_demo.py goes on with one."""

import gzip
import re
import subprocess
import sys
import zipfile

import numpy as np
import pandas as pd
import pytest
import yaml
from project import ROOT

from dovetail.errors import OutsideError, UserError
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
    assert (found.rows, found.separator, len(found.columns)) == (ROWS, "", 6)
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
        ("latin.csv", "y", "is not UTF-8"),
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
        "latin": "x,y\n1,ä\n2,ö\n",
    }.items():  # fmt: skip
        (tmp_path / f"{name}.csv").write_text(text, encoding="latin-1")
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
    with pytest.raises(UserError, match="is there, and not empty"):
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
    assert copied == {*tracked.stdout.split(), "params.schema.json", ".gitignore", ".dvcignore"} - own
