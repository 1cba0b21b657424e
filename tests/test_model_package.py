"""The folder that MLflow loads is the one that `mlflow.pyfunc.save_model` would have written."""

import hashlib

import joblib
import pytest
from mlflow_models import WARNINGS, saved_by_mlflow, tree

from dovetail.tracking.model_package import LoggedModel, ModelContent, example_of, save

pytestmark = WARNINGS
CARD = {
    "inputs": [
        {"name": "length", "dtype": "float64", "nullable": True},
        {"name": "count", "dtype": "int64", "nullable": False},
        {"name": "sex", "dtype": "str", "nullable": True},
    ],
    "output": {"dtype": "str"},
    "example": {"columns": ["length", "count", "sex"], "data": [[1.5, 2, "f"], [None, 3, None]]},
}
REQUIREMENTS = ("joblib==1.6.0", "mlflow==3.17.2")


def content(folder, value, **changed):
    joblib.dump(value, file := folder / "m.joblib")
    md5 = hashlib.md5(file.read_bytes()).hexdigest()
    return ModelContent(**{"file": file, "md5": md5, "card": CARD, "requirements": REQUIREMENTS, **changed})


@pytest.mark.parametrize(
    "changed",
    [{}, {"card": None}, {"card": {**CARD, "example": None}}, {"allow": ("mine",), "requirements": ("joblib==1.6.0",)}],
    ids=["card", "no card", "no example", "a package of the user's"],
)
def test_it_is_what_mlflow_itself_would_save(tmp_path, changed):
    one, place = content(tmp_path, [1], **changed), LoggedModel("m-1", "r-1", "file:///there")
    save(tmp_path / "ours", one, place)
    saved_by_mlflow(tmp_path / "theirs", one, place)
    assert tree(tmp_path / "ours") == tree(tmp_path / "theirs")


def test_the_next_model_with_the_same_card_shares_nothing_else_with_the_last(tmp_path):
    save(tmp_path / "first", content(tmp_path, [1], allow=("mine",)), LoggedModel("m-1", "r-1", "file:///there"))
    one, place = content(tmp_path, ["longer"] * 9), LoggedModel("m-2", "r-2", "file:///elsewhere")
    save(tmp_path / "ours", one, place)
    saved_by_mlflow(tmp_path / "theirs", one, place)
    assert tree(tmp_path / "ours") == tree(tmp_path / "theirs")


def test_a_model_that_is_written_protected_as_in_the_cache_of_dvc_is_laid_over_twice(tmp_path):
    one, place = content(tmp_path, [1]), LoggedModel("m-1", "r-1", "file:///there")
    one.file.chmod(0o444)
    for _ in range(2):
        save(tmp_path / "ours", one, place)
    assert (tmp_path / "ours/data/m.joblib").stat().st_mode & 0o200


@pytest.mark.parametrize("name", ["model", "file", "data"])
def test_a_models_file_may_have_any_name(tmp_path, name):
    one = content(tmp_path, [1])
    named = ModelContent(one.file.rename(tmp_path / name), one.md5, one.card, one.requirements)
    save(tmp_path / "ours", named, LoggedModel("m-1", "r-1", "file:///there"))
    assert (tmp_path / "ours/data" / name).read_bytes() == (tmp_path / name).read_bytes()


TYPES = {
    "date": ("date", ["2024-01-01", None, "9999-12-31"], "datetime64[us]"),
    "time": ("datetime", ["2024-01-01T10:00:00", None, "2024-01-01T10:00:00.5"], "datetime64[us]"),
    "whole": ("int64", [1, None, 3], "float64"),
    "small": ("int32", [1, None, 3], "float64"),
    "short": ("float32", [1.5, None, 2.5], "float32"),
    "truth": ("bool", [True, None, False], "object"),
    "text": ("str", ["a", None, "b"], "str"),
}


def described(names):
    return {
        "inputs": [{"name": name, "dtype": TYPES[name][0], "nullable": True} for name in names],
        "output": {"dtype": "float64"},
        "example": {"columns": list(names), "data": [[TYPES[name][1][row] for name in names] for row in range(3)]},
    }


@pytest.mark.parametrize("name", TYPES)
def test_a_column_of_any_type_in_which_values_are_missing_is_taken(tmp_path, name):
    from mlflow.models import Model

    example = example_of(card := described([name]))
    assert str(example[name].dtype) == TYPES[name][2]
    save(tmp_path / "ours", content(tmp_path, [1], card=card), LoggedModel("m-1", "r-1", "file:///there"))
    stored = Model.load(str(tmp_path / "ours"))
    assert len(stored.load_input_example(str(tmp_path / "ours"))) == len(example) == (2 if name == "date" else 3)


def test_an_example_of_dates_that_mlflow_cannot_hold_is_none():
    card = described(["date"]) | {"example": {"columns": ["date"], "data": [["9999-12-31"]]}}
    assert example_of(card) is None


def test_booleans_that_the_model_gets_as_numbers_are_named_for_the_server(tmp_path):
    import numpy as np
    from sklearn.dummy import DummyRegressor

    from dovetail.serving.engine.model_process import ServedModel

    inputs = [{"name": "a", "dtype": "float64", "nullable": True, "boolean": True}, CARD["inputs"][0]]
    card = {"inputs": inputs, "output": {"dtype": "float64"}}
    one = content(tmp_path, DummyRegressor().fit(np.zeros((2, 2)), [1.0, 2.0]), card=card)
    save(tmp_path / "ours", one, LoggedModel("m-1", "r-1", "file:///there"))
    columns = ServedModel(tmp_path / "ours", one.md5, ()).signature.columns
    assert {column.name: column.boolean for column in columns} == {"a": True, "length": False}
