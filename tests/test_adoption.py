"""Repositories as they are: adopted by an `artifacts:` entry and a `register` stage, nothing else."""

import hashlib
import pickle
import shutil

import pytest
from project import Project, facts
from sklearn.dummy import DummyRegressor
from templates import made_once

pytestmark = pytest.mark.slow

DATA = """
import pathlib
raw = pathlib.Path("data/raw")
rows = [line for file in sorted(raw.glob("*.csv")) for line in file.read_text().splitlines()[1:]]
rows += pathlib.Path("data/extra.csv").read_text().splitlines()[1:]
pathlib.Path("data/features").mkdir(parents=True, exist_ok=True)
pathlib.Path("data/features/train.csv").write_text("\\n".join(["a,b", *rows]) + "\\n")
"""

TRAIN = """
import json, pathlib, pickle
import numpy, yaml
from sklearn.linear_model import LinearRegression
rate = yaml.safe_load(open("config/train.yaml"))["rate"]
rows = numpy.loadtxt("data/features/train.csv", delimiter=",", skiprows=1)
model = LinearRegression().fit(rows[:, :1], rows[:, 1] * rate)
pathlib.Path("models").mkdir(exist_ok=True)
pathlib.Path("models/model.pkl").write_bytes(pickle.dumps(model))
pathlib.Path("models/about.txt").write_text("a line")
live = pathlib.Path("dvclive/plots/metrics")
live.mkdir(parents=True, exist_ok=True)
pathlib.Path("dvclive/metrics.json").write_text(json.dumps({"train": {"loss": rate / 10}, "step": 1}))
(live / "loss.tsv").write_text(f"step\\tloss\\n0\\t1\\n1\\t{rate / 10}\\n")
pathlib.Path("dvclive/params.yaml").write_text("epochs: 2\\nrate: 1e-05\\n")
pathlib.Path("dvclive/dvc.yaml").write_text(
    "params: [params.yaml]\\nmetrics: [metrics.json]\\nplots: [{plots/metrics: {x: step}}]\\n"
)
"""

PIPELINE = """
stages:
  prepare:
    cmd: python src/prepare.py
    deps: [src, data/raw, data/extra.csv]
    params: [seed]
    outs: [data/features]
  train:
    cmd: python src/train.py
    deps: [src, data/features]
    params: [rate, {config/train.yaml: [rate, when, shuffle]}]
    outs: [models, {dvclive: {cache: false}}]
metrics: [dvclive/metrics.json]
plots: [{dvclive/plots/metrics: {x: step}}]
params: [dvclive/params.yaml]
artifacts:
  raw: {path: data/raw, type: dataset}
  features: {path: data/features}
"""

ADOPTED = """
  register:
    cmd: dovetail register line
    deps: [models, dvclive]
    outs: [{mlruns/receipts/line.json: {cache: false}}]
artifacts:
  line: {path: models/model.pkl, type: model}
"""

SECOND = """
import json, pathlib, pickle, yaml
from sklearn.dummy import DummyRegressor
rate = yaml.safe_load(open("../params.yaml"))["rate"]
pathlib.Path("../out").mkdir(exist_ok=True)
model = DummyRegressor(strategy="constant", constant=rate).fit([[0]], [0])
pathlib.Path("../out/dict.pickle").write_bytes(pickle.dumps(model))
pathlib.Path("../out/scores.yaml").write_text(yaml.safe_dump({"test": {"accuracy": 0.75}, "ok": True}))
pathlib.Path("../out/curve.csv").write_text("x,y\\n1,2\\n")
"""

SUBFOLDER = """
stages:
  train:
    wdir: code
    cmd: python second.py
    deps: [second.py, ../../data/features]
    params: [../params.yaml: [rate]]
    outs: [../out/dict.pickle, {../out/scores.yaml: {cache: false}}, ../out/curve.csv]
  register:
    cmd: dovetail register second
    deps: [out/dict.pickle, out/scores.yaml, out/curve.csv]
    outs: [{../mlruns/receipts/second.json: {cache: false}}]
metrics: [out/scores.yaml]
plots:
  - the curve: {x: {out/curve.csv: x}, y: {out/curve.csv: y}}
artifacts:
  second: {path: out/dict.pickle, type: model, meta: {gates: {test.accuracy: {min: 0.5}}}}
"""


def md5(file):
    return hashlib.md5(file.read_bytes()).hexdigest()


def make(root):
    """A repository that knows nothing of Dovetail, with two pipelines, three kinds of data, GTO's tags; it adopts."""
    project = Project(root / "repo")
    project.root.mkdir()
    (root / "outside.csv").write_text("a,b\n9,18\n")
    project.run("git", "init", "-q")
    project.run("dvc", "init", "-q")
    project.write("data/raw/one.csv", "a,b\n1,2\n2,4\n")
    project.write("data/raw/two.csv", "a,b\n3,6\n")
    project.write("src/prepare.py", DATA)
    project.write("src/train.py", TRAIN)
    project.write("params.yaml", "seed: 1\nrate: 3\n")
    project.write("config/train.yaml", "rate: 1\nwhen: 12:30\nshuffle: 'yes'\n")
    project.write("dvc.yaml", PIPELINE)
    project.write("sub/code/second.py", SECOND)
    project.write("sub/params.yaml", "rate: 2\n")
    before, _, rest = SUBFOLDER.partition("  register:\n")
    project.write("sub/dvc.yaml", before + rest[rest.index("metrics:") : rest.index("artifacts:")])
    project.run("dvc", "add", "-q", "data/raw")
    project.run("dvc", "import-url", "-q", str(root / "outside.csv"), "data/extra.csv")
    project.run("dvc", "repro", "-q", "-R", ".")
    project.commit("as people have it")
    project.run("git", "tag", "-am", "one", "line@v1.0.0")
    project.run("git", "tag", "-am", "one", "line#prod#1")
    # That was all before Dovetail; what follows is what adoption takes, and nothing else.
    project.replace("dvc.yaml", "metrics:", ADOPTED.partition("artifacts:")[0].lstrip("\n") + "metrics:")
    project.replace("dvc.yaml", "artifacts:\n", "artifacts:" + ADOPTED.partition("artifacts:")[2])
    project.write("sub/dvc.yaml", SUBFOLDER)
    with (project.root / ".gitignore").open("a") as ignore:
        ignore.write("/mlflow.db*\n/mlruns/\n")
    project.commit("adopted")
    project.run("dvc", "remote", "add", "-q", "-d", "store", str(root / "remote"))
    project.run("dvc", "push", "-q")
    project.run("dvc", "repro", "-q", "-R", ".")
    project.commit("registered")
    project.run("git", "tag", "-am", "two", "line@v1.1.0")


@pytest.fixture(scope="session")
def adopted(tmp_path_factory):
    """A repository that has adopted Dovetail. Only read; what a test changes, it changes in a copy."""
    return Project(made_once(tmp_path_factory, "adopted", make) / "repo")


@pytest.fixture
def copy(adopted, tmp_path):
    """The adopted repository without its MLflow."""
    shutil.copytree(
        adopted.root, tmp_path / "copy", symlinks=True, ignore=shutil.ignore_patterns("mlflow.db", "mlruns")
    )
    return Project(tmp_path / "copy")


def test_nothing_is_trained_again_and_both_models_are_shown(adopted):
    shown = adopted.store()
    runs = {run.info.run_name.rpartition("-")[0]: run for run in shown.runs()}
    assert set(runs) == {"line", "second"}
    assert shown.aliases() == {"line": {"staging": 1}, "second": {"staging": 1}}
    line, second = runs["line"], runs["second"]
    assert line.data.params == {
        "seed": "1", "rate": "3", "config/train.yaml:rate": "1", "when": "12:30", "shuffle": "yes",
        "dvclive/params.yaml:rate": "1e-05", "epochs": "2",
    }  # fmt: skip
    assert line.data.metrics == {"train.loss": 0.1, "step": 1.0}
    assert {i.dataset.name: i.tags[0].value for i in line.inputs.dataset_inputs} == {
        "data/features": "training", "data/raw": "source", "data/extra.csv": "source"
    }  # fmt: skip
    assert [f.path for f in shown.client.list_artifacts(line.info.run_id, "dvclive/plots/metrics")] == [
        "dvclive/plots/metrics/loss.tsv"
    ]
    assert second.data.params == {"seed": "1", "rate": "2"}
    assert second.data.metrics == {"test.accuracy": 0.75, "ok": 1.0}
    assert {i.dataset.name for i in second.inputs.dataset_inputs} == {"data/features", "data/raw", "data/extra.csv"}
    assert [f.path for f in shown.client.list_artifacts(second.info.run_id, "sub/out")] == ["sub/out/curve.csv"]


def test_the_bytes_are_the_pickles_and_mlflow_loads_and_predicts(adopted):
    (stored,) = (adopted.root / "mlruns").rglob("model.pkl")
    assert md5(stored) == md5(adopted.root / "models/model.pkl")
    code = (
        "import mlflow, numpy; m = mlflow.pyfunc.load_model('models:/line@staging');"
        "print(m.predict(numpy.array([[5.0]])).round(6), m.metadata.signature)"
    )
    assert adopted.run("python", "-c", code).stdout.split() == ["[10.]", "None"]


def test_status_and_lineage_answer_for_both(adopted):
    models = adopted.json("status", code=1)["models"]
    # A tag from before Dovetail says it, of a commit that today's entry reads.
    assert [(m["model"], problem) for m in models for problem in m["problems"]] == [
        ("line", {"what": "@prod names nothing in MLflow, line#prod#1 says version 1", "next": "dovetail sync"})
    ]
    assert {m["model"]: m["workspace"]["pushed"] for m in models} == {"line": True, "second": True}
    up = adopted.json("lineage", "line")
    assert up["artifact"]["verified"] is True
    assert [s["name"] for s in up["stages"]] == ["prepare", "train"]
    data = {entry["path"]: entry for entry in up["data"]}
    assert data["data/extra.csv"]["origin"].endswith("outside.csv")
    assert data["data/raw"]["origin"] is None
    assert data["data/raw"]["available"] == ["cache", "remote"]
    assert [s["name"] for s in adopted.json("lineage", "second")["stages"]] == ["prepare", "sub/dvc.yaml:train"]
    down = adopted.json("lineage", "data/raw")
    assert [v["model"] for v in down["versions"]] == ["line", "second"]
    assert adopted.json("lineage", "line@v1.1.0:line")["version"] == 1


def test_a_deleted_store_comes_back_from_the_commits(adopted, copy):
    def view(project):
        shown = project.store()
        runs = sorted((r.data.tags["dovetail.fingerprint"], r.data.metrics, r.data.params) for r in shown.runs())
        files = [f.path for r in shown.runs() for f in shown.client.list_artifacts(r.info.run_id, "dvclive/plots")]
        return runs, [(v.name, v.version, v.tags["dovetail.model.md5"]) for v in shown.versions()], files

    answer = copy.json("sync")
    assert answer["problems"] == []
    assert answer["runs"]["created"] == 2
    assert view(copy) == view(adopted)


def test_a_folder_stands_for_the_one_model_in_it(copy):
    copy.replace("dvc.yaml", "path: models/model.pkl", "path: models")
    assert copy.json("register", "line")[0]["version"] == 1
    assert copy.store().versions()[0].tags["dovetail.model.md5"] == md5(copy.root / "models/model.pkl")


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (
            lambda p: p.replace("dvc.yaml", "path: models/model.pkl", "path: data/raw"),
            "the folder data/raw of model 'line'",
        ),
        (lambda p: p.replace("dvc.yaml", "  line: {", "  second: {"), "dvc.yaml and sub/dvc.yaml both declare"),
        (lambda p: p.replace("dvc.yaml", "  line: {", "  _line: {"), "declares a model '_line'"),
        (lambda p: (p.root / "dvc.lock").unlink(), "is made by the stage train, which dvc.lock does not record"),
        (lambda p: p.write("models/about.txt", "another"), "is not what dvc.lock records"),
        (lambda p: p.write("data/extra.csv.dvc", "outs: 3"), "data/extra.csv.dvc"),
    ],
    ids=["no model in folder", "same name twice", "no name", "no dvc.lock", "folder changed", "spoilt .dvc"],
)
def test_what_cannot_be_told_is_refused_in_one_line(copy, spoil, says):
    spoil(copy)
    done = copy.run("dovetail", "register", "line", code=2)
    assert says in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (copy.root / "mlflow.db").exists()


def test_a_model_by_dvc_add_with_metrics_that_a_script_wrote(small):
    small.run("rm", "-rf", "out", "dvc.yaml", "dvc.lock")
    model = DummyRegressor(strategy="constant", constant=1).fit([[0]], [0])
    (small.root / "model.pkl").write_bytes(pickle.dumps(model))
    small.run("dvc", "add", "-q", "model.pkl")
    small.write("dvclive/metrics.json", '{"loss": 0.5}')
    small.write("dvclive/plots/metrics/loss.tsv", "step\tloss\n0\t1\n")
    small.write("dvclive/dvc.yaml", "metrics: [metrics.json]\nplots: [{plots/metrics: {x: step}}]\n")
    small.write("dvc.yaml", """
stages:
  register:
    cmd: dovetail register by-hand
    deps: [model.pkl, dvclive/metrics.json, dvclive/plots/metrics]
    outs: [{mlruns/receipts/by-hand.json: {cache: false}}]
artifacts:
  by-hand: {path: model.pkl, type: model, meta: {gates: {signature: {required: true}}}}
""")  # fmt: skip
    small.run("dvc", "repro", "-q")
    small.commit("trained by hand")
    shown = small.store()
    (run,) = shown.runs()
    assert run.data.metrics == {"loss": 0.5}
    assert [f.path for f in shown.client.list_artifacts(run.info.run_id, "dvclive/plots/metrics")]
    assert facts(shown.versions()[0])["dovetail.signature"].startswith("none")
    assert shown.aliases() == {"by-hand": {}}
    (answer,) = small.json("register")
    assert [(gate["name"], gate["passed"]) for gate in answer["gates"]] == [("signature", False)]
    small.run("rm", "-rf", "mlflow.db", "mlruns")
    assert small.json("sync")["problems"] == []
    restored = {run.data.tags["dovetail.fingerprint"] for run in small.store().runs()}
    assert run.data.tags["dovetail.fingerprint"] in restored
    assert len(restored) == 2  # with the model of the commit before
    assert small.json("status")["models"][0]["workspace"]["committed"] is True
