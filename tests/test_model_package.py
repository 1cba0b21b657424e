"""The folder that MLflow loads is the one that `mlflow.pyfunc.save_model` would have written."""

import hashlib

import joblib
import pytest
from saved import WARNINGS, saved_by_mlflow, tree

from dovetail.tracking.model_package import LoggedModel, ModelContent, save

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
