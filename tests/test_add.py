"""Another data set and another model, in a project of `dovetail new` and in this one: blocks are added, no more."""

import json

import numpy as np
import pandas as pd
import pytest
import yaml
from next_commands import ends
from project import Project, copy_tree

import dovetail
from dovetail.errors import UserError
from dovetail.render.add import addition
from dovetail.scaffold.new import NewRequest, new
from stages.common.params import load_params

ROWS = 120


@pytest.fixture
def made(tmp_path):
    """A project of `dovetail new`, and a file beside it that it does not know."""
    draw = np.random.default_rng(0)
    x = draw.normal(size=ROWS)
    first = pd.DataFrame({"x": x, "y": np.where(x > 0, "a", "b")})
    first.to_csv(tmp_path / "first.csv", index=False)
    other = {"id": [f"r{n}" for n in range(ROWS)], "size, m": x, "price": 3 * x + draw.normal(size=ROWS) / 9}
    pd.DataFrame(other).to_csv(tmp_path / "More of it.csv", index=False, sep=";")
    new(NewRequest(tmp_path / "p", tmp_path / "first.csv", "y"))
    project = Project(tmp_path / "p")
    project.replace("params.yaml", "models:\n", "models: # mine\n")
    project.commit("made")
    return project


def only_added(project, before):
    """Whether every line that was there is there, in its order; the lines that are new."""
    lines, new_lines = iter(before.splitlines()), []
    wanted = next(lines, None)
    for line in (project.root / "params.yaml").read_text().splitlines():
        if line == wanted:
            wanted = next(lines, None)
        else:
            new_lines.append(line)
    assert wanted is None
    return new_lines


@pytest.mark.slow
def test_a_file_and_a_model_of_it_are_added_and_reproduced(made):
    before, file = (made.root / "params.yaml").read_text(), "../More of it.csv"
    done = made.run("dovetail", "add-data", "prices", "--data", file, code=1)
    assert '+        "size, m": {dtype: float64}' in done.stdout
    assert "next: run the same command again with --yes" in done.stderr
    assert made.run("git", "status", "--porcelain").stdout == ""
    answer = made.json("add-data", "prices", "--data", file, "--target", "price", "--yes")
    assert (answer["written"], answer["copied"]) == (True, "data/raw/prices.csv")
    assert (made.root / "data/raw/prices.csv.dvc").is_file()
    added = made.json("add-model", "prices", "--data", "prices", "--target", "price", "--yes")
    assert [change["path"] for change in added["changes"]] == ["params.yaml", "dvc.yaml"]
    made.run("dovetail", "add-model", "flat", "--data", "prices", "--estimator", "sklearn.linear_model.Ridge", "--yes")
    assert "    gates: {}  # besides" in only_added(made, before)[-1]
    for again in (("add-data", "prices", "--data", file), ("add-model", "flat", "--data", "prices")):
        assert made.run("dovetail", *again).stdout.endswith(": nothing to do\n")
    made.run("dvc", "repro", "-q")
    made.commit("more")
    assert {name: set(aliases) for name, aliases in made.store().aliases().items()} == {
        "first": {"staging"}, "prices": {"staging"}, "flat": {"staging"},
    }  # fmt: skip
    assert json.loads((made.root / "metrics/flat.json").read_text())["r2"] > 0.9
    assert made.json("doctor")["problems"] == []


def test_the_python_api_adds_the_same(made, tmp_path):
    repository = dovetail.open(made.root)
    shown = repository.add_data("prices", tmp_path / "More of it.csv")
    assert not shown.written
    assert repr(repository.add_data("prices", tmp_path / "More of it.csv", yes=True)) == (
        "<AddAnswer prices: 1 files written>"
    )
    repository.add_model("prices", "prices", "price", yes=True)
    params = load_params(made.root / "params.yaml")
    assert params.models["prices"].split.drop == ["id"]
    assert list(yaml.safe_load((made.root / "dvc.yaml").read_text())["artifacts"]) == ["first", "prices"]
    assert repository.add_model("prices", "prices").changes == ()


@pytest.mark.parametrize(
    ("call", "said", "following"),
    [
        (("add_data", "a b", "more"), "'a b' cannot be a name", "dovetail add-data a_b --data"),
        (("add_model", "importance", "first"), "'importance' cannot be a name", "dovetail add-model data_importance"),
        (("add_data", "first", "more"), "datasets.first already exists", "dovetail add-data first_2 --data"),
        (("add_data", "other", "gone.csv"), "there is no file", "dovetail add-data other --data FILE"),
        (("add_data", "other", "more", "cost"), "has no column 'cost'; it has: id, size, m, price", ""),
        (("add_model", "other", "fist"), "has no data set 'fist'; there are: first", "dovetail add-data fist --data"),
        (("add_model", "first", "first", "x"), "models.first already exists", "dovetail add-model first_2 --data"),
        (("add_model", "other", "first", "z"), "has no column 'z'; it has: x, y", ""),
        (("add_model", "other", "first", "y", "Ridge"), "'Ridge' is not an import path", "sklearn.linear_model"),
    ],
)
def test_what_cannot_be_added_is_refused_and_nothing_is_written(made, tmp_path, call, said, following):
    verb, name, of, *more = call
    of = tmp_path / "More of it.csv" if of == "more" else of
    with pytest.raises(UserError) as refusal:
        getattr(dovetail.open(made.root), verb)(name, of, *more, yes=True)
    assert said in refusal.value.message
    assert following in refusal.value.next_command
    assert made.run("git", "status", "--porcelain").stdout == ""


def test_a_file_below_data_raw_whose_name_a_command_would_take_apart_is_copied(made, tmp_path):
    inside = made.root / "data/raw/More of it.csv"
    inside.write_bytes((tmp_path / "More of it.csv").read_bytes())
    answer = dovetail.open(made.root).add_data("prices", inside, yes=True)
    assert answer.copied == "data/raw/prices.csv"
    assert load_params(made.root / "params.yaml").datasets["prices"].raw == "data/raw/prices.csv"
    assert dovetail.open(made.root).add_data("prices", inside).changes == ()


def test_a_model_of_data_in_parts_goes_by_the_first_and_names_each_column_that_is_dropped(made, tmp_path):
    repository = dovetail.open(made.root)
    repository.add_data("prices", tmp_path / "More of it.csv", yes=True)
    folder = made.root / "data/clean/prices.parquet"
    folder.mkdir(parents=True)
    rows = pd.DataFrame({"id": [f"r{n}" for n in range(40)], "long": pd.Timedelta(1, "D"), "x": 0.5, "price": 1.5})
    rows.loc[0, ["x", "price"]] = 2.5
    for number in range(2):
        rows.to_parquet(folder / f"part-0000{number}.parquet")
    answer = repository.add_model("prices", "prices", "price")
    assert [(column.name, column.dtype) for column in answer.columns] == [("id", "str"), ("long", "")]
    assert "drop: [id, long]" in answer.changes[0].diff()
    assert "  long: of a type that no model takes: dropped" in addition(answer.as_json())


def test_a_model_of_data_whose_target_nobody_said_asks_for_it(made, tmp_path):
    repository = dovetail.open(made.root)
    repository.add_data("prices", tmp_path / "More of it.csv", yes=True)
    with pytest.raises(UserError, match=r"which column of prices is to be predicted\? It has: id, size, m, price"):
        repository.add_model("prices", "prices")


def test_rows_that_are_nowhere_yet_are_brought(made):
    (made.root / "data/raw/first.csv").unlink()
    ends(made, "add-model other --data first", "the rows of first are not there yet")


def test_a_repository_that_is_no_such_project_is_told_what_to_do(small):
    done = small.run("dovetail", "add-data", "x", "--data", "data.csv", code=2)
    assert "was not made by `dovetail new`" in done.stderr
    assert "dovetail init" in done.stderr


@pytest.mark.slow
def test_this_repository_takes_them_and_keeps_its_comments(tmp_path):
    project = copy_tree(tmp_path / "reference")
    before = (project.root / "params.yaml").read_text()
    ends(project, "add-model tree --data iris", "the rows of iris are not there yet")
    project.run(
        "dovetail", "add-model", "tree", "--data", "iris", "--estimator", "sklearn.tree.DecisionTreeClassifier", "--yes"
    )
    pd.DataFrame({"x": range(40), "y": [0.5 * n for n in range(40)]}).to_csv(tmp_path / "d.csv", index=False)
    project.run("dovetail", "add-data", "lines", "--data", str(tmp_path / "d.csv"), "--yes")
    project.run("dovetail", "add-model", "lines", "--data", "lines", "--target", "y", "--yes")
    only_added(project, before)
    project.run("dvc", "repro", "-q", "register@tree", "register@lines")
    assert {"tree", "lines"} <= set(project.store().aliases())
