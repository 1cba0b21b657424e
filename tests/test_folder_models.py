"""Folders of MLflow's flavors whose model is not one file: only where the machine's owner trusts their loader."""

import filecmp
import json
import shutil

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import templates
from project import copy_of, set_aside
from serving import Server

from dovetail.models import trusted_loaders
from dovetail.serving.log import served_rows

TRUSTED = {trusted_loaders.TRUSTED: "mlflow.pyfunc.model"}
TRAIN = """
import shutil
import mlflow, pandas, yaml
from mlflow.models import infer_signature

class Rule(mlflow.pyfunc.PythonModel):
    def __init__(self, least):
        self.least = least

    def predict(self, context, model_input, params=None):
        return (model_input["u"] > self.least).map({True: "b", False: "a"}).to_numpy()

rule, rows = Rule(yaml.safe_load(open("params.yaml"))["wrong"] + 3), pandas.read_csv("train.csv")[["u", "v"]]
shutil.rmtree("m.joblib", ignore_errors=True)
mlflow.pyfunc.save_model("m.joblib", python_model=rule, input_example=rows.head(2), pip_requirements=["pandas"],
    signature=infer_signature(rows, rule.predict(None, rows)))
"""
ROWS = {"dataframe_split": {"columns": ["u", "v"], "data": [[1, 2], [6, 2]]}}
PREDICT = (
    "import json, mlflow, pandas; m = mlflow.pyfunc.load_model('models:/m@production'); "
    "print(json.dumps(list(m.predict(pandas.DataFrame({'u': [1, 6], 'v': [2, 2]})))))"
)


def _package(project):
    """The folder in MLflow's store that holds the pickled class."""
    (pickle,) = (project.root / "mlruns").rglob("python_model.pkl")
    return pickle.parent


def _files(folder):
    return sorted(file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file())


@pytest.fixture(scope="module")
def _template(tmp_path_factory):
    def make(folder):
        project = copy_of(templates.judged(tmp_path_factory), folder / "judged")
        project.write("train.py", TRAIN)
        project.replace("judge.py", 'joblib.load("m.joblib")', '__import__("mlflow").pyfunc.load_model("m.joblib")')
        project.replace("dvc.yaml", "card: card.json, ", "")
        project.run("dvc", "repro", "-q", "judge")
        project.commit("a folder")
        set_aside(project)

    return templates.made_once(tmp_path_factory, "folder-model", make) / "judged"


@pytest.fixture
def written(_template, tmp_path):
    """The judged project, whose script now writes a pyfunc model with code of its own; not yet registered."""
    return copy_of(_template, tmp_path / "judged")


@pytest.fixture
def promoted(written):
    """The same, in production."""
    written.run("dvc", "repro", "-q", **TRUSTED)
    written.commit("registered")
    written.run("dovetail", "promote", "m", **TRUSTED)
    return written


def test_a_loader_that_is_not_trusted_here_is_refused_and_the_next_command_changes_that(written):
    refused = written.run("dovetail", "register", code=2).stderr
    assert refused.count("\n") == 1
    assert "m.joblib is not a model that can be served: it is an MLflow model of a class of its author's" in refused
    assert "mlflow.pyfunc.model, which loads it, can run any code" in refused
    assert "next: export DOVETAIL_TRUSTED_LOADERS=mlflow.pyfunc.model" in refused
    assert not list((written.root / "mlruns").rglob("python_model.pkl"))
    written.run("dovetail", "register", code=2, **{trusted_loaders.TRUSTED: "mlflow.pytorch, mlflow.keras"})
    (done,) = written.json("register", **TRUSTED)
    assert (done["version"], done["aliases"]) == (2, ["staging"])
    same = filecmp.cmpfiles(
        written.root / "m.joblib", _package(written), _files(written.root / "m.joblib"), shallow=False
    )
    assert same == (_files(_package(written)), [], [])


@pytest.mark.slow
def test_it_is_promoted_shown_rebuilt_and_served_as_any_other(promoted):
    assert json.loads(promoted.run("python", "-c", PREDICT).stdout.splitlines()[-1]) == ["a", "b"]
    shown = promoted.json("lineage", "m", **TRUSTED)
    assert shown["artifact"]["verified"]
    assert shown["artifact"]["md5"].endswith(".dir")
    assert promoted.json("doctor", **TRUSTED)["problems"] == []
    told = promoted.run("dovetail", "doctor", code=1).stdout
    assert "m/2 @production @staging cannot be loaded" in told
    assert "next: export DOVETAIL_TRUSTED_LOADERS=mlflow.pyfunc.model" in told
    assert promoted.json("reproduce", "m", **TRUSTED)["verdict"] == "same-predictions"
    with Server(promoted, **TRUSTED) as server:
        assert server.predict(ROWS).json == {"predictions": ["a", "b"]}
        assert server.predict({"dataframe_split": {"columns": ["u"], "data": [[1]]}}).status == 422
    shutil.rmtree(promoted.root / "mlruns")
    (promoted.root / "mlflow.db").unlink()
    promoted.run("dovetail", "sync", **TRUSTED)
    assert _files(_package(promoted)) == _files(promoted.root / "m.joblib")
    assert promoted.json("doctor", **TRUSTED)["problems"] == []


@pytest.mark.slow
def test_one_changed_file_of_the_package_is_found_out_and_repaired(promoted):
    package = _package(promoted)
    before = (package / "requirements.txt").read_bytes()
    (package / "requirements.txt").write_text("pandas==0.0.1\n")
    (package / "more.py").write_text("")
    assert "pickle.digest" in promoted.run("dovetail", "promote", "m", "--dry-run", **TRUSTED).stdout
    server = Server(promoted, wait=False, **TRUSTED)
    with server:
        assert server.process.wait(60) != 0
        assert "is not what was registered" in server.process.stderr.read().decode()
    promoted.run("dovetail", "sync", "--repair", **TRUSTED)
    assert (package / "requirements.txt").read_bytes() == before
    assert not (package / "more.py").exists()


@pytest.mark.slow
def test_what_a_model_prints_is_no_part_of_an_answer(written):
    written.replace("train.py", "        return (model_input", '        print("step 1/1")\n        return (model_input')
    written.run("dvc", "repro", "-q", **TRUSTED)
    written.commit("it prints")
    assert written.json("promote", "m", **TRUSTED)["promoted"]


@pytest.mark.slow
def test_what_a_model_answers_as_a_series_is_kept_as_values(written):
    written.replace("train.py", '({True: "b", False: "a"}).to_numpy()', '({True: "b", False: "a"})')
    written.run("dvc", "repro", "-q", "judge", **TRUSTED)
    written.commit("a model that answers with a Series")
    (done,) = written.json("register", **TRUSTED)
    with Server(written, ref=f"m/{done['version']}", **TRUSTED) as server:
        assert server.predict(ROWS).json == {"predictions": [{"u": "a"}, {"u": "b"}]}  # as MLflow's server
        assert server.end() == 0
    assert served_rows.read(written.root / "monitoring/m")["prediction"].to_pylist() == ["a", "b"]
    pq.write_table(pa.table({"u": [1, 6, 2], "v": [2, 2, 2]}), written.root / "rows.parquet")
    asked = ["predict", f"m/{done['version']}", "--data", "rows.parquet", "--out", "scored"]
    written.run("dovetail", *asked, **TRUSTED)
    assert pq.read_table(written.root / "scored")["prediction"].to_pylist() == ["a", "b", "a"]
