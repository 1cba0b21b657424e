"""Models in the formats of their own libraries: registered with MLflow's flavor, checked, loaded, promoted, served."""

import gzip
import hashlib
import importlib
import io
import json
import lzma
import pickle
import zipfile

import mlflow
import numpy as np
import pandas as pd
import pytest
from project import facts

import dovetail
from dovetail.errors import MissingFile
from dovetail.joblib_model import UnreadableError
from dovetail.models import mlflow_folder
from dovetail.models.reader import read
from dovetail.repo import saved_model
from dovetail.repo.dvc_values import Model
from dovetail.serving.engine.model_process import ServedModel
from dovetail.tracking import model_package
from dovetail.tracking.model_package import LoggedModel, ModelContent
from dovetail.values.lineage import FileRef


@pytest.fixture
def makes(small):
    """Let the training stage write another model."""

    def write(statement):
        small.replace("train.py", 'joblib.dump(model, "out/m.joblib")', statement)
        small.run("dvc", "repro", "-q", "train")
        return small

    return write


TABLE = pd.DataFrame({"u": [0.0, 1.0, 0.0, 1.0] * 9, "v": [1.0, 2.0, 3.0, 4.0] * 9})
LABELS = [0, 1, 0, 1] * 9


def _lightgbm(kind):
    import lightgbm

    return kind(lightgbm)(n_estimators=3, verbose=-1, min_child_samples=1).fit(TABLE, LABELS).booster_


def _catboost(kind):
    import catboost

    return getattr(catboost, kind)(iterations=3, verbose=0, allow_writing_files=False).fit(TABLE, LABELS)


def _xgboost(raw, kind=None):
    import xgboost

    if kind:
        return bytes(getattr(xgboost, kind)(n_estimators=3).fit(TABLE, LABELS).get_booster().save_raw(raw))
    data = xgboost.DMatrix(TABLE, LABELS)
    return bytes(xgboost.train({"objective": "binary:logistic"}, data, 3).save_raw(raw))


def _onnx():
    from skl2onnx import to_onnx
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression().fit(TABLE.to_numpy("float32"), LABELS)
    return to_onnx(model, TABLE[:1].to_numpy("float32"), options={"zipmap": False}).SerializeToString()


def _saved(model, tmp_path):
    model.save_model(str(tmp_path / "saved"))
    return (tmp_path / "saved").read_bytes()


MAKE = {
    "lightgbm classifier": lambda path: _saved(_lightgbm(lambda lib: lib.LGBMClassifier), path),
    "lightgbm regressor": lambda path: _saved(_lightgbm(lambda lib: lib.LGBMRegressor), path),
    "xgboost json": lambda _: _xgboost("json", "XGBClassifier"),
    "xgboost ubj": lambda _: _xgboost("ubj", "XGBRegressor"),
    "xgboost booster": lambda _: _xgboost("ubj"),
    "catboost classifier": lambda path: _saved(_catboost("CatBoostClassifier"), path),
    "catboost regressor": lambda path: _saved(_catboost("CatBoostRegressor"), path),
    "onnx": lambda _: _onnx(),
}
CARD = {
    "inputs": [{"name": name, "dtype": "float64", "nullable": False} for name in TABLE.columns],
    "output": {"dtype": "float64"},
    "example": {"columns": list(TABLE.columns), "data": [[0.0, 1.0]]},
}


@pytest.mark.parametrize("kind", MAKE)
@pytest.mark.filterwarnings("default")  # of MLflow's own when a flavor is imported
def test_mlflow_loads_what_dovetail_registers_by_pyfunc_and_by_the_librarys_own_flavor(tmp_path, kind):
    content = MAKE[kind](tmp_path)
    (tmp_path / "m.bin").write_bytes(content)
    package = tmp_path / "package"
    package.mkdir()
    md5 = hashlib.md5(content, usedforsecurity=False).hexdigest()
    model_package.save(package, ModelContent(tmp_path / "m.bin", md5, CARD, ["pandas==3.0.0"]), LoggedModel("", "", ""))
    assert (package / "data/m.bin").read_bytes() == content
    flavor = kind.split()[0]
    native = importlib.import_module(f"mlflow.{flavor}").load_model(str(package))
    assert type(native).__module__.split(".")[0] == flavor
    found = mlflow.pyfunc.load_model(str(package)).predict(TABLE)
    assert len(found) == len(TABLE)
    served = ServedModel(package, md5, ())
    served.warm()
    ((well, answer),) = served.predict("predict", [len(TABLE)], {name: list(TABLE[name]) for name in TABLE})
    assert well
    assert np.allclose(json.loads(answer), found)
    (package / "data/m.bin").write_bytes(content + b"\n")
    with pytest.raises(Exception, match="is not what was registered"):
        mlflow.pyfunc.load_model(str(package))


@pytest.mark.slow
def test_a_version_in_its_librarys_format_is_staged_promoted_and_restored_to_the_same_package(makes):
    project = makes(
        "import catboost, pandas as pd; catboost.CatBoostClassifier(iterations=3, verbose=0, allow_writing_files=False)"
        ".fit(pd.DataFrame({'u': [0., 1.] * 9}), [0, 1] * 9).save_model('out/m.joblib')"
    )
    assert project.json("register")[0]["aliases"] == ["staging"]
    project.run("dvc", "repro", "-q")
    project.commit("catboost")
    assert project.json("promote", "m")["promoted"]
    (before,) = project.store().versions()
    load = (
        "import mlflow, pandas as pd; "
        "print(mlflow.pyfunc.load_model('models:/m@production').predict(pd.DataFrame({'u': [1.]})))"
    )
    uri = f"sqlite:///{project.root}/mlflow.db"
    assert project.run("python", "-c", load, MLFLOW_TRACKING_URI=uri).stdout.strip() == "[1]"
    project.run("rm", "-r", "mlflow.db", "mlruns")
    project.json("sync")
    restored = {v.version: facts(v)["dovetail.package"] for v in project.store().versions()}
    assert restored[project.store().aliases()["m"]["production"]] == facts(before)["dovetail.package"]


REFUSED = {
    "CatBoost garbage": (b"CBM1garbage", "it begins like a model of catboost, which cannot read it"),
    "LightGBM garbage": (b"tree\ngarbage", "it begins like a model of lightgbm, which cannot read it"),
    "XGBoost cut": (b'{"learner":{"attributes":{', "it begins like a model of xgboost, which cannot read it"),
    "ONNX garbage": (b"\x08\x08\x12garbage", "it begins like a model of onnx, which cannot read it"),
    "one byte": (b"\x08", "it is neither a pickle"),
    "JSON": (b'{"a": 1}', "it is JSON of no model that is known here"),
    "HDF5": (
        b"\x89HDF\r\n\x1a\n" + bytes(99),
        "it is an HDF5 file without a Keras model: weights, or data; next: let the stage write ONNX",
    ),
    "safetensors": (b"\x40\0\0\0\0\0\0\0" + b'{"w":{"dtype":"F32"}}', "it is a safetensors file: weights without"),
    "GGUF": (b"GGUF\3\0\0\0", "it is a GGUF file"),
    "old XGBoost": (b"binf" + bytes(99), "it is XGBoost's old binary format"),
    "HTML": (b"<!doctype html><title>404</title>", "it is a page of HTML or XML"),
    "LFS pointer": (b"version https://git-lfs.github.com/spec/v1\n", "it is the pointer of Git LFS, not the file"),
    "tar": (b"a" * 257 + b"ustar" + bytes(400), "it is an archive; next: put the model's own file there"),
    "table": (b"PAR1" + bytes(99), "it is a Parquet table"),
    "nothing": (b"", "it is empty"),
    "tar.gz": (gzip.compress(bytes(257) + b"ustar" + bytes(250)), "it is an archive"),
    "PNG": (b"\x89PNG\r\n\x1a\n" + bytes(9), "it is an image"),
    "Core ML": (b"\x08\x01\x12" + bytes(9), "or a model of Core ML"),
    "CatBoost packed": (gzip.compress(b"CBM1" + bytes(99)), "it is a model of catboost, packed"),
    "LightGBM of Windows": (b"tree\r\nversion=v4\r\n", "the line ends of Windows, which LightGBM cannot read"),
    "LightGBM cut": (b"tree\nversion=v4\ntree_sizes=308 348\n\nTree=0", "cannot read it: its end is missing"),
    "operations of old": (b"(i__main__\nMine\n.", "it holds an operation of old pickles"),
    "text": (b"# train.csv\na,b\n", "it is a text file, which begins '# train.csv'; next: write an estimator"),
    "text of Windows": ("\ufeffü,b\r\n1,2\r\n".encode(), "it is a text file, which begins 'ü,b'"),
    "bytes": (b"\x01\x02\xff\x00", "it is neither a pickle nor a file of another kind that is known here"),
    "tar.xz": (lzma.compress(bytes(257) + b"ustar" + bytes(250)), "it is an archive"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_a_file_that_is_no_model_is_refused_by_what_it_is(kind):
    content, why = REFUSED[kind]
    with pytest.raises(UnreadableError) as refused:
        read(content)
    assert why in f"{refused.value}; next: {getattr(refused.value, 'next_command', '')}"


def test_a_refusal_is_one_line_with_the_remedy_and_nothing_is_written(makes):
    project = makes("pathlib.Path('out/m.joblib').write_bytes(b'tree\\ngarbage')")
    done = project.run("dovetail", "register", code=2)
    assert "out/m.joblib is not a model that can be served: it begins like a model of lightgbm" in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (project.root / "mlruns/receipts").exists()


ZIPS = {
    "torch weights": (
        ["archive/data.pkl", "archive/version"],
        "it is a PyTorch file of weights, without the class of their model",
    ),
    "TorchScript": (["m/data.pkl", "m/constants.pkl", "m/code/__torch__/m.py"], "it is a TorchScript model"),
    "torch.export": (["m/archive_format", "m/models/model.json"], "it is a program of torch.export"),
    "Keras": (["metadata.json", "config.json", "model.weights.h5"], "it is a Keras model"),
    "archive": (["a.joblib", "b.joblib"], "it is a zip archive of 2 files"),
}


@pytest.mark.parametrize("kind", ZIPS)
def test_an_archive_is_refused_by_what_is_in_it(kind):
    names, why = ZIPS[kind]
    with zipfile.ZipFile(packed := io.BytesIO(), "w") as archive:
        for name in names:
            archive.writestr(name, "x")
    with pytest.raises(UnreadableError, match=why):
        read(packed.getvalue())


def test_several_pickles_in_one_file_are_refused():
    with pytest.raises(UnreadableError, match="it holds more than one pickle"):
        read(pickle.dumps([1]) + pickle.dumps([2]))


def test_an_onnx_model_whose_weights_are_in_files_beside_it_is_refused():
    with pytest.raises(UnreadableError, match="its weights are in files beside it"):
        read(_onnx() + b"\x0a\x08location\x12\x01w")


def test_a_name_that_promises_another_format_is_said(small):
    small.replace("train.py", 'joblib.dump(model, "out/m.joblib")', "open('out/m.cbm', 'w').write('garbage')")
    for path in ("dvc.yaml",):
        small.write(path, (small.root / path).read_text().replace("out/m.joblib", "out/m.cbm"))
    small.run("dvc", "repro", "-q", "train")
    done = small.run("dovetail", "register", code=2)
    assert "out/m.cbm is not a model that can be served: its name says CatBoost, which it is not" in done.stderr


def test_columns_go_by_their_names():
    import lightgbm

    table = TABLE.rename(columns={"u": "a b"})
    booster = lightgbm.LGBMRegressor(n_estimators=2, verbose=-1).fit(table, table["a b"]).booster_
    model = read(booster.model_to_string().encode())
    assert (model.predict(table[["v", "a b"]]) == booster.predict(table)).all()


FOLDER = (
    "import mlflow, pandas as pd; from sklearn.linear_model import LogisticRegression; "
    "x = pd.DataFrame({'u': [0., 1.] * 9}); m = LogisticRegression().fit(x, ['a', 'b'] * 9); "
    "import shutil; shutil.rmtree('out/m.joblib', ignore_errors=True); "
    "mlflow.sklearn.save_model(m, 'out/m.joblib', signature=mlflow.models.infer_signature(x, m.predict(x)), "
    "input_example=x[:2], pip_requirements=['scikit-learn==1.6.0'])"
)


@pytest.mark.slow
def test_a_folder_that_mlflow_wrote_is_registered_with_its_signature_and_example(makes):
    project = makes(FOLDER)
    (done,) = project.json("register")
    assert done["aliases"] == ["staging"]
    stored = sorted(path.name for path in (project.root / "mlruns").rglob("data/*"))
    assert stored == ["model.skops"]
    (made,) = (project.root / "mlruns").rglob("data/model.skops")
    assert made.read_bytes() == (project.root / "out/m.joblib/model.skops").read_bytes()
    said = (made.parents[1] / "MLmodel").read_text()
    assert '"name": "u"' in said
    assert (made.parents[1] / "input_example.json").exists()


def test_a_folder_of_a_flavor_that_is_no_one_file_is_refused_by_its_name(makes):
    project = makes(
        "import os; os.makedirs('out/m.joblib', exist_ok=True); open('out/m.joblib/MLmodel', 'w').write("
        "'flavors: {pytorch: {model_data: data}, python_function: {loader_module: mlflow.pytorch}}')"
    )
    done = project.run("dovetail", "register", code=2)
    assert "an MLflow model of pytorch, and mlflow.pytorch, which loads it, can run any code" in done.stderr
    assert done.stderr.count("\n") == 1
    broken = project.run("dovetail", "register", code=2, DOVETAIL_TRUSTED_LOADERS="mlflow.pytorch")
    assert "is not a model that can be served" in broken.stderr
    assert broken.stderr.count("\n") == 1


def test_a_folder_whose_loader_is_its_authors_is_not_read_by_the_file_in_it():
    of_mlflow = {"sklearn": {"pickled_model": "m.skops"}, "python_function": {"loader_module": "mlflow.sklearn"}}
    of_its_author = {**of_mlflow, "python_function": {"loader_module": "mine"}}
    assert mlflow_folder.model_file({"flavors": of_mlflow}) == "m.skops"
    assert mlflow_folder.model_file({"flavors": of_its_author}) is None


@pytest.mark.parametrize(
    ("names", "what"),
    [(("config.json", "model.safetensors"), "Hugging Face"), (("saved_model.pb", "variables/x"), "TensorFlow")],
)
def test_a_folder_is_refused_by_what_it_is(names, what):
    inside = [FileRef(f"out/m/{name}", "0" * 32) for name in names]
    with pytest.raises(MissingFile, match=what) as refused:
        saved_model.model_file(None, Model("m", "out/m"), inside)
    assert "ONNX" in refused.value.next_command


@pytest.mark.parametrize(
    ("flavors", "named"),
    [
        ({"tensorflow": {"model_type": "keras"}, "python_function": {}}, "tensorflow"),
        ({"transformers": {"task": "x"}, "python_function": {}}, "transformers"),
        ({"python_function": {"python_model": "python_model.pkl"}}, "pickled by cloudpickle with its code"),
        ({"python_function": {"loader_module": "mine"}}, "python_function alone"),
    ],
)
def test_folders_of_other_flavors_name_no_file_and_are_told_by_their_flavor(flavors, named):
    assert mlflow_folder.model_file({"flavors": flavors}) is None
    assert named in mlflow_folder.flavors_of({"flavors": flavors})


@pytest.mark.parametrize(
    "mlmodel",
    [None, 5, [], {"flavors": []}, {"flavors": {"sklearn": 5}}, {"flavors": {"sklearn": {"pickled_model": ["x"]}}},
     {"flavors": {"sklearn": {"pickled_model": "../../secret"}}}],
)  # fmt: skip
def test_an_mlmodel_that_is_none_names_no_file_and_no_card(mlmodel):
    assert mlflow_folder.model_file(mlmodel) is None
    assert mlflow_folder.card_of(mlmodel, None, "") is None
    assert mlflow_folder.example_file(mlmodel) is None


@pytest.mark.slow
def test_doctor_and_status_name_a_version_that_an_alias_names_and_that_cannot_be_loaded(small):
    small.run("dvc", "repro", "-q")
    (stored,) = (small.root / "mlruns").rglob("data/m.joblib")
    stored.write_bytes(b"CBM1garbage")
    client = small.store().client
    md5 = hashlib.md5(b"CBM1garbage", usedforsecurity=False).hexdigest()
    client.set_model_version_tag("m", "1", "dovetail.model.md5", md5)
    what = [problem["what"] for problem in small.json("doctor", code=1)["problems"]]
    assert any("m/1 @staging cannot be loaded: it begins like a model of catboost" in one for one in what)
    problems = small.json("status", code=1)["models"][0]["problems"]
    assert any("version 1 cannot be loaded: it begins like a model of catboost" in str(one) for one in problems)


@pytest.mark.slow
def test_status_reads_a_version_once_and_again_after_a_package_was_installed(small, tmp_path, monkeypatch):
    """What was read and loads is written down: to read nothing writes nothing."""
    file = small.root / ".dvc/tmp/dovetail-models-that-load.json"

    def read():
        return file.stat().st_ino, len(json.loads(file.read_text()))

    packages = tmp_path / "packages"
    packages.mkdir()
    monkeypatch.setenv("PYTHONPATH", str(packages))
    small.run("dvc", "repro", "-q", PYTHONPATH=str(packages))
    small.commit("registered")
    repository = dovetail.open(small.root)
    registered = read()
    assert repository.status().models[0].in_sync
    assert read() == registered  # `register` read it
    file.write_text("[5")
    assert repository.status().models[0].in_sync
    once = read()
    assert once[1] == 1
    assert repository.status().models[0].in_sync
    assert read() == once
    (packages / "new.py").write_text("")
    assert repository.status().models[0].in_sync
    assert read()[1] == 2
    assert small.run("git", "status", "--porcelain").stdout == ""
