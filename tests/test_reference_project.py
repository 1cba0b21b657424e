"""The reference project from the outside: a fresh clone, the commands that users type, what they then see."""

import hashlib
import json
import subprocess
import time
import urllib.request

import polars as pl
import pytest
from mlflow_models import WARNINGS, saved_by_mlflow, tree
from project import BIN, Project, copy_tree, free_port, isolate

from dovetail.tracking.model_package import LoggedModel, ModelContent
from dovetail.values.computing import of_machine

pytestmark = [pytest.mark.slow, *WARNINGS]
MODELS = ["diabetes", "iris", "penguins"]


def md5(file):
    return hashlib.md5(file.read_bytes()).hexdigest()


@pytest.fixture(scope="module")
def reproduced(tmp_path_factory):
    """One reproduction for all; what a test changes, it changes in a clone of it."""
    with pytest.MonkeyPatch.context() as patch:
        isolate(tmp_path_factory, patch)
        project = copy_tree(tmp_path_factory.mktemp("reference") / "project")
        project.run("dvc", "repro")
        project.run("git", "add", "-A")
        project.run("git", "commit", "-qm", "reproduced", "--allow-empty")
        project.made = project.run("git", "rev-parse", "HEAD").stdout.strip()
    return project


@pytest.fixture
def clone(reproduced, tmp_path):
    """A fresh clone that shares the DVC cache: its MLflow is empty."""
    cloned = Project(tmp_path / "clone")
    reproduced.run("git", "clone", "-q", ".", str(cloned.root))
    cloned.run("dvc", "cache", "dir", "--local", str(reproduced.root / ".dvc/cache"))
    cloned.run("dvc", "checkout", "-q", "--allow-missing")
    return cloned


@pytest.mark.skipif("avx2" not in of_machine().get("cpu", ""), reason="the recorded bytes are those of AVX2")
def test_a_fresh_clone_makes_the_bytes_that_git_records(reproduced):
    """dvc.lock and metrics are in git: to reproduce leaves nothing to commit, on any such machine."""
    assert reproduced.run("git", "diff", "--stat", f"{reproduced.made}~1", reproduced.made).stdout == ""


@pytest.mark.parametrize(
    "settings",
    [
        {"OMP_NUM_THREADS": "4", "OPENBLAS_NUM_THREADS": "4", "OPENBLAS_CORETYPE": "Zen"},
        {"OMP_NUM_THREADS": "2", "OPENBLAS_CORETYPE": "Nehalem", "ARROW_USER_SIMD_LEVEL": "SSE4_2"},
    ],
    ids=["threads", "an old kernel"],
)
def test_whatever_the_environment_says_of_threads_and_kernels_the_bytes_are_the_same(clone, settings):
    stages = ["clean@penguins", "split@penguins", "train@penguins", "train@diabetes", "evaluate@penguins"]
    clone.run("dvc", "repro", "-q", "-sf", *stages, **settings)
    assert clone.run("git", "status", "--porcelain").stdout == ""


@pytest.mark.parametrize("stage", ["train@iris", "clean@people"])
def test_a_stage_uses_what_it_declares_and_nothing_else(reproduced, stage):
    assert reproduced.json("doctor", "--trace", stage)["problems"] == []


def test_nothing_is_broken_after_a_reproduction(reproduced):
    assert reproduced.json("doctor")["problems"] == []


def test_one_run_and_one_staged_version_for_each_model(reproduced):
    shown = reproduced.store()
    runs = {run.data.tags["mlflow.runName"].rpartition("-")[0]: run for run in shown.runs()}
    assert sorted(runs) == MODELS
    assert shown.aliases() == {name: {"staging": 1} for name in MODELS}
    iris = runs["iris"]
    assert iris.info.status == "FINISHED"
    assert iris.data.params["models.iris.train.params.n_estimators"] == "100"
    assert iris.data.metrics["accuracy"] >= 0.9
    assert iris.data.metrics["accuracy_low"] < iris.data.metrics["accuracy"] < iris.data.metrics["accuracy_high"]
    assert iris.data.metrics["clean.rows_in"] == 150
    datasets = {i.dataset.name: i.dataset.digest for i in iris.inputs.dataset_inputs}
    assert {"data/raw/iris.parquet", "data/clean/iris.parquet", "data/split/iris/train.parquet"} <= set(datasets)
    assert datasets["data/clean/iris.parquet"] == md5(reproduced.root / "data/clean/iris.parquet")
    images = [f.path for f in shown.client.list_artifacts(iris.info.run_id, "plots/iris")]
    assert {"plots/iris/confusion.png", "plots/iris/roc.png", "plots/iris/importance.png"} <= set(images)
    assert "plots/diabetes/residuals.png" in [
        f.path for f in shown.client.list_artifacts(runs["diabetes"].info.run_id, "plots/diabetes")
    ]


def test_the_data_half_gives_the_rows_that_the_readme_promises(reproduced):
    people = pl.read_parquet(reproduced.root / "data/clean/people.parquet")
    assert people.rows() == [("Alice", 25, "young"), ("David", 22, "young")]
    metrics = json.loads((reproduced.root / "metrics/clean/people.json").read_text())
    assert (metrics["rows_in"], metrics["rows_out"], metrics["rows_rejected"]) == (4, 2, 0)
    assert metrics["missing"] == {"name": 1, "age": 1}
    assert (reproduced.root / "data/delivered/people.csv").is_file()


def test_the_second_repro_does_nothing(reproduced):
    assert "Running stage" not in reproduced.run("dvc", "repro").stdout


def test_git_is_clean_after_repro_of_what_is_committed(clone):
    clone.run("dvc", "repro")
    assert clone.run("git", "status", "--porcelain").stdout == ""


def test_a_clone_with_the_lock_file_fills_its_empty_mlflow_and_trains_nothing(reproduced, clone):
    done = clone.run("dvc", "repro", "register@iris", "register@penguins", "register@diabetes")
    assert "Running stage 'register@iris'" in done.stdout
    assert "Running stage 'train" not in done.stdout
    prints = [{r.data.tags["dovetail.fingerprint"] for r in p.store().runs()} for p in (reproduced, clone)]
    assert prints[0] == prints[1]
    assert clone.store().aliases() == {name: {"staging": 1} for name in MODELS}


def test_forced_stages_give_the_same_bytes_and_double_nothing(clone):
    clone.run("dvc", "repro", "register@iris")
    before = md5(clone.root / "models/iris.joblib")
    clone.run("dvc", "repro", "--force", "register@iris")
    assert md5(clone.root / "models/iris.joblib") == before
    assert clone.store().counts() == (1, 1)


def test_an_experiment_with_changed_code_and_params_runs_its_own_tree_and_is_in_the_real_store(clone):
    clone.replace("src/stages/cleaning/iris.py", "def clean(", "MARK = 1\n\n\ndef clean(")
    clone.replace(
        "src/stages/train.py", "def run(", 'from pathlib import Path as _P\n\n_P("models").mkdir(exist_ok=True)\n'
        '_P("models/marker.txt").write_text(__file__)\nprint("trained by", __file__)\n\n\ndef run(',
    )  # fmt: skip
    done = clone.run("dvc", "exp", "run", "--temp", "-S", "models.iris.train.params.n_estimators=50", "register@iris")
    trained_by = next(line for line in done.stdout.splitlines() if line.startswith("trained by"))
    assert ".dvc/tmp/exps" in trained_by
    (run,) = clone.store().runs()
    assert run.data.params["models.iris.train.params.n_estimators"] == "50"
    assert clone.store().versions() == []


def test_old_data_come_back_with_their_old_model_and_their_old_version(clone):
    clone.run("dvc", "repro", "register@iris")
    old, model = clone.run("git", "rev-parse", "HEAD").stdout.strip(), md5(clone.root / "models/iris.joblib")
    clean = md5(clone.root / "data/clean/iris.parquet")
    clone.replace("src/stages/cleaning/iris.py", "return ", "frame = frame.head(140)\n    return ")
    clone.run("dvc", "repro", "register@iris")
    clone.commit("fewer rows")
    assert md5(clone.root / "data/clean/iris.parquet") != clean
    clone.run("git", "checkout", "-q", old)
    clone.run("dvc", "checkout", "-q", "--allow-missing")
    assert (md5(clone.root / "data/clean/iris.parquet"), md5(clone.root / "models/iris.joblib")) == (clean, model)
    clone.run("dvc", "repro", "register@iris")
    assert clone.json("register", "iris")[0]["version"] == 1
    assert clone.store().counts() == (2, 2)


def test_a_version_is_rebuilt_byte_for_byte_in_an_environment_of_its_own(reproduced):
    answer = reproduced.json("reproduce", "iris", "--fresh-env")
    assert (answer["verdict"], answer["version"], answer["inputs"]) == ("identical", 1, [])
    assert [stage["name"].partition("@")[0] for stage in answer["stages"]] == [
        "fetch", "clean", "split", "train", "evaluate",
    ]  # fmt: skip
    assert len(answer["outputs"]) == 12
    assert answer["environment"]["changed"] == []
    assert {"dovetail-ml", "mlflow"} & set(answer["environment"]["unpinned"]) == {"dovetail-ml"}
    assert reproduced.run("git", "status", "--porcelain").stdout == ""


def test_a_raw_file_versioned_with_dvc_add_needs_no_source(clone):
    clone.write("data/raw/pets.csv", "name,legs\nRex,4\nTweety,2\n,4\n")
    clone.run("dvc", "add", "-q", "data/raw/pets.csv")
    clone.replace(
        "params.yaml", "datasets:\n", "datasets:\n  pets:\n    raw: data/raw/pets.csv\n    schema: {columns: {name: "
        "{dtype: str}, legs: {dtype: int64}}}\n    clean: {max_rejected: 0.5}\n    deliver: []\n",
    )  # fmt: skip
    clone.run("dvc", "repro", "deliver@pets")
    assert pl.read_parquet(clone.root / "data/clean/pets.parquet").rows() == [("Rex", 4), ("Tweety", 2)]
    assert pl.read_parquet(clone.root / "data/rejected/pets.parquet")["reason"].to_list() == ["name: not_nullable"]


def test_a_new_model_is_a_block_and_nothing_else(clone):
    block = """models:
  small:
    data: iris
    target: species
    split: {test_size: 0.3, seed: 1}
    train: {estimator: sklearn.tree.DecisionTreeClassifier}
    gates: {accuracy: {max: 0.1}}
"""
    clone.replace("params.yaml", "models:\n", block)
    clone.run("dvc", "repro", "register@small")
    assert [v.name for v in clone.store().versions()] == ["small"]
    assert clone.store().aliases() == {"small": {}}  # the gates in the block were asked


def test_a_misspelt_key_stops_the_pipeline_in_one_line_and_mlflow_is_untouched(clone):
    clone.replace("params.yaml", "test_size: 0.2", "test_sise: 0.2")
    done = clone.run("dvc", "repro", "split@iris", code=255)
    assert "params.yaml: unknown key 'models.iris.split.test_sise'" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (clone.root / "mlflow.db").exists()


def test_mlflow_loads_what_was_registered_and_refuses_what_was_tampered_with(clone):
    clone.run("dvc", "repro", "register@iris")
    code = (
        "import mlflow, pandas as pd; m = mlflow.pyfunc.load_model('models:/iris@staging');"
        "x = pd.DataFrame({'sepal_length': [5.1], 'sepal_width': [3.5], 'petal_length': [1.4], 'petal_width': [0.2]});"
        "print(m.predict(x)[0], m.predict(x, params={'method': 'predict_proba'})[0].argmax(), m.metadata.signature)"
    )
    done = clone.run("python", "-c", code)
    assert done.stdout.startswith("setosa 0 ")
    (stored,) = (clone.root / "mlruns").rglob("iris.joblib")
    stored.chmod(0o644)
    stored.write_bytes(stored.read_bytes() + b"x")
    assert "is not what was registered" in clone.run("python", "-c", code, code=1).stderr


@pytest.mark.parametrize("name", MODELS)
def test_the_registered_files_are_what_mlflow_itself_would_save(reproduced, tmp_path, name):
    (file,) = (reproduced.root / "mlruns").rglob(f"{name}.joblib")
    registered = tree(file.parents[1])
    files, said = registered
    card = json.loads((reproduced.root / f"models/{name}.json").read_text())
    content = ModelContent(file, md5(file), card, files["requirements.txt"].decode().splitlines())
    saved_by_mlflow(tmp_path / "model", content, LoggedModel(said["model_id"], said["run_id"], said["artifact_path"]))
    assert tree(tmp_path / "model") == registered


def test_mlflow_serves_what_is_staged(reproduced):
    port = free_port()
    command = [BIN / "mlflow", "models", "serve", "-m", "models:/penguins@staging", "--env-manager", "local"]
    environment = {"PATH": f"{BIN}:/usr/bin:/bin", "MLFLOW_TRACKING_URI": f"sqlite:///{reproduced.root}/mlflow.db"}
    with subprocess.Popen([*command, "-p", str(port)], env=environment, cwd=reproduced.root) as server:
        try:
            card = json.loads((reproduced.root / "models/penguins.json").read_text())
            rows = {"dataframe_split": card["example"]}
            assert ask(port, rows) == {"predictions": card["predictions"]}
            shares = ask(port, {**rows, "params": {"method": "predict_proba"}})["predictions"]
            assert shares == [pytest.approx(row) for row in card["probabilities"]]
        finally:
            server.terminate()


def ask(port, body, *, patience=300):
    """POST to a server that may still be starting."""
    url = f"http://127.0.0.1:{port}/invocations"
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    for _ in range(patience):
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return json.load(answer)
        except urllib.error.HTTPError:
            raise
        except OSError:
            time.sleep(1)
    raise AssertionError(f"nothing answered at {url}")


def test_mlflow_run_works_and_leaves_its_own_run_alone(clone):
    clone.run("mlflow", "run", ".", "--env-manager", "local", "-P", "target=register@iris",
              MLFLOW_TRACKING_URI=f"sqlite:///{clone.root}/mlflow.db")  # fmt: skip
    ours = [run for run in clone.store().runs() if "dovetail.fingerprint" in run.data.tags]
    assert len(ours) == 1
    assert clone.store().aliases() == {"iris": {"staging": 1}}


@pytest.mark.parametrize("command", [["metrics", "show"], ["plots", "show"], ["exp", "show", "--md"]])
def test_dvc_shows_something_useful(reproduced, command):
    done = reproduced.run("dvc", *command)
    assert "accuracy" in done.stdout or "index.html" in done.stdout
