"""The digest of a package: one for what is loaded, how and with which packages, wherever and whenever it was saved."""

import py_compile
import shutil

import pytest
from mlflow_models import WARNINGS

from dovetail.tracking.model_package import LoggedModel, ModelContent, save
from dovetail.tracking.package_digest import package_digest

pytestmark = WARNINGS
CARD = {
    "inputs": [{"name": "a", "dtype": "float64", "nullable": False}],
    "output": {"dtype": "str"},
    "example": {"columns": ["a"], "data": [[1.0]]},
}


@pytest.fixture(scope="module")
def packages(tmp_path_factory):
    folder = tmp_path_factory.mktemp("package")
    (folder / "m.joblib").write_bytes(b"the model")
    content = ModelContent(folder / "m.joblib", "9" * 32, CARD, ["joblib==1.6.0"])
    for name, place in (
        ("one", LoggedModel("m-1", "r1", "file:///one")),
        ("two", LoggedModel("m-2", "r2", "s3://b/two")),
    ):
        (folder / name).mkdir()
        save(folder / name, content, place)
    return folder


def test_ids_addresses_times_and_mlflows_own_version_do_not_count(packages):
    again = packages / "again"
    shutil.copytree(packages / "two", again)
    mlmodel = again / "MLmodel"
    mlmodel.write_text(mlmodel.read_text().replace("mlflow_version: ", "mlflow_version: 9.").replace("3.11", "3.12"))
    (again / "registered_model_meta").write_text("model_name: m\n")
    assert package_digest(packages / "one") == package_digest(packages / "two") == package_digest(again)


@pytest.mark.parametrize(
    ("file", "change"),
    [
        ("data/m.joblib", lambda text: text + "!"),
        ("code/joblib_model.py", lambda text: text + "\nimport os"),
        ("MLmodel", lambda text: text.replace("loader_module: joblib_model", "loader_module: os")),
        ("MLmodel", lambda text: text.replace("dovetail.pickle.allow: []", "dovetail.pickle.allow: [os]")),
        ("MLmodel", lambda text: text.replace("double", "string")),
        ("MLmodel", lambda text: "x: &x [1]\ny: *x\n" + text),
        ("MLmodel", lambda text: text + "flavors: [\n"),
        ("requirements.txt", lambda text: text + "evil\n"),
        ("python_env.yaml", lambda text: text.replace("-r requirements.txt", "evil")),
        ("conda.yaml", lambda text: text.replace("mlflow==", "evil==")),
        ("input_example.json", lambda text: text.replace("1.0", "2.0")),
        ("code/more.py", lambda _: "import os"),
        ("compiled/model.onnx", lambda _: "onnx"),
    ],
)
def test_whatever_decides_what_is_loaded_counts(packages, tmp_path, file, change):
    other = tmp_path / "other"
    shutil.copytree(packages / "one", other)
    (other / file).parent.mkdir(exist_ok=True)
    before = (other / file).read_text() if (other / file).exists() else ""
    (other / file).write_text(change(before))
    assert (other / file).read_text() != before
    assert package_digest(other) != package_digest(packages / "one")


def test_a_link_does_not_stand_in_for_a_file(packages, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(packages / "one", other)
    moved = tmp_path / "elsewhere.py"
    (other / "code/joblib_model.py").rename(moved)
    (other / "code/joblib_model.py").symlink_to(moved)
    assert package_digest(other) != package_digest(packages / "one")


def test_what_python_compiles_beside_the_loader_does_not_count_unless_it_would_be_run_unseen(packages, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(packages / "one", other)
    source = other / "code/joblib_model.py"
    py_compile.compile(str(source))
    assert package_digest(other) == package_digest(packages / "one")
    py_compile.compile(str(source), invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH)
    assert package_digest(other) != package_digest(packages / "one")


def test_one_file_can_be_left_out(packages, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(packages / "one", other)
    (other / "compiled").mkdir()
    (other / "compiled/model.onnx").write_text("onnx")
    assert package_digest(other, without="compiled/model.onnx") == package_digest(packages / "one")
