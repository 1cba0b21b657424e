"""A run that a training script opens itself is the model's run: adopted and completed, never doubled."""

import pytest
from project import TRAIN, facts

pytestmark = pytest.mark.slow

LIVE = """
import mlflow
mlflow.set_experiment("mine")
with mlflow.start_run(run_name="live"):
    mlflow.log_param("train.w", "seven")
    for step in range(3):
        mlflow.log_metric("loss", 1 / (step + 1), step=step)
        mlflow.log_metric("accuracy", step / 10, step=step)
"""

SEVERAL = """
import mlflow
for fold in range(2):
    with mlflow.start_run(run_name=f"fold {fold}"):
        mlflow.log_metric("loss", fold)
with mlflow.start_run(run_name="final"):
    with mlflow.start_run(run_name="child", nested=True):
        mlflow.log_metric("loss", 5)
"""

KEEPS_THE_BETTER = """
import mlflow, mlflow.pyfunc
class Echo(mlflow.pyfunc.PythonModel):
    def predict(self, model_input: list[str]) -> list[str]:
        return model_input
with mlflow.start_run(run_name="better"):
    LOG
with mlflow.start_run(run_name="worse"):
    pathlib.Path("out/other.joblib").write_bytes(pathlib.Path("out/m.joblib").read_bytes()[::-1])
    mlflow.log_artifact("out/other.joblib")
pathlib.Path("out/other.joblib").unlink()
"""

TWO_MODELS = """
import mlflow
with mlflow.start_run(run_name="of n"):
    joblib.dump(DummyRegressor(strategy="constant", constant=w + 1).fit([[0.0]], [0.0]), "out/n.joblib")
    mlflow.log_artifact("out/n.joblib")
with mlflow.start_run(run_name="of m"):
    mlflow.log_artifact("out/m.joblib")
"""

JUDGE = """
import json, mlflow
with mlflow.start_run(run_name="judging"):
    mlflow.log_metric("judged", 0.5)
json.dump({"judged": 0.5}, open("judged.json", "w"))
"""

AUTOLOG = """
import mlflow, numpy
from sklearn.linear_model import LogisticRegression
mlflow.sklearn.autolog(log_input_examples=False, log_model_signatures=False)
LogisticRegression().fit(numpy.array([[0.0], [1.0], [2.0], [3.0]]), [0, 0, 1, 1])
"""

MEASURED = """
import mlflow, time
with mlflow.start_run() as run:
    time.sleep(0.5)
    while not MEASURED <= mlflow.get_run(run.info.run_id).data.metrics.keys():
        time.sleep(0.1)
"""

FAILS = """
import mlflow, pathlib
with mlflow.start_run(run_name="broken" if pathlib.Path("broken").exists() else "whole"):
    assert not pathlib.Path("broken").exists()
"""


def tracking(project, script):
    project.write("train.py", TRAIN + script)
    return project


def by_name(project):
    return {run.info.run_name: run for run in project.store().runs()}


def test_it_is_completed_keeps_its_own_place_times_and_values_and_a_repeat_is_no_second_run(small):
    tracking(small, LIVE).run("dvc", "repro", "-q")
    shown = small.store()
    (run,), (version,) = shown.runs(), shown.versions()
    assert version.run_id == run.info.run_id
    assert run.info.run_name == "live"
    assert shown.client.get_experiment(run.info.experiment_id).name == "mine"
    assert run.info.status == "FINISHED"
    assert run.data.params == {"train.w": "seven"}
    assert run.data.metrics == {"loss": pytest.approx(1 / 3), "accuracy": 0.7, "size.rows": 2.0}
    assert len(shown.client.get_metric_history(run.info.run_id, "loss")) == 3
    assert [i.dataset.name for i in run.inputs.dataset_inputs] == ["data.csv"]
    assert facts(run)["dovetail.dvc.stage"] == "train"
    assert small.json("lineage", "m")["run_id"] == run.info.run_id

    small.run("dvc", "repro", "-q", "--force")
    assert small.store().counts() == (1, 1)
    assert small.store().runs()[0].info.end_time == run.info.end_time
    small.commit("adopted")
    small.run("dvc", "exp", "run", "-q", "--temp", "-n", "eight", "-S", "train.w=8")
    small.run("dvc", "exp", "run", "-q", "-n", "nine", "-S", "train.w=9")
    experiments = {facts(r).get("dovetail.dvc.experiment"): r.data.metrics["accuracy"] for r in small.store().runs()}
    assert experiments == {None: 0.7, "eight": 0.8, "nine": 0.9}
    assert (small.json("sync", "--all")["runs"]["created"], len(small.store().runs())) == (1, 4)  # the first commit


def test_what_the_machine_did_is_in_the_run_where_mlflow_was_asked_to_measure_it(small):
    measured = {"system/cpu_utilization_percentage", "system/system_memory_usage_megabytes"}
    tracking(small, MEASURED.replace("MEASURED", repr(measured)))
    asked = {"MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING": "true", "MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL": "0.1"}
    small.run("dvc", "repro", "-q", **asked)
    (run,) = small.store().runs()
    assert measured < run.data.metrics.keys()
    assert run.data.metrics["accuracy"] == 0.7
    assert run.info.end_time - run.info.start_time >= 500


def parents(runs):
    names = {run.info.run_id: name for name, run in runs.items()}
    return {name: names.get(run.data.tags.get("mlflow.parentRunId")) for name, run in runs.items()}


@pytest.mark.parametrize(
    "log",
    [
        'mlflow.log_artifact("out/m.joblib")',
        'mlflow.pyfunc.log_model(name="model", python_model=Echo(), artifacts={"file": "out/m.joblib"})',
    ],
    ids=["as an artifact", "in a logged model"],
)
def test_of_several_runs_the_one_that_logged_the_model_is_taken_not_the_last(small, log):
    tracking(small, KEEPS_THE_BETTER.replace("LOG", log)).run("dvc", "repro", "-q")
    runs = by_name(small)
    assert parents(runs) == {"better": None, "worse": "better"}
    assert [version.run_id for version in small.store().versions()] == [runs["better"].info.run_id]
    assert runs["better"].data.metrics["accuracy"] == 0.7
    small.run("dvc", "repro", "-q", "--force")
    assert small.store().counts() == (2, 1)


def test_of_several_runs_none_is_guessed_they_are_shown_below_one_of_the_model(small):
    tracking(small, SEVERAL).run("dvc", "repro", "-q")
    (version,) = small.store().versions()
    runs = by_name(small)
    own = runs[next(name for name in runs if name.startswith("m-"))]
    assert version.run_id == own.info.run_id
    above = own.info.run_name
    assert parents(runs) == {"fold 0": above, "fold 1": above, "final": above, "child": "final", above: None}
    small.run("dvc", "repro", "-q", "--force")
    assert set(by_name(small)) == set(runs)
    assert len(small.store().runs()) == 5


def test_two_models_of_one_stage_get_the_run_that_logged_each(small):
    script = TWO_MODELS
    small.write("train.py", TRAIN + script)
    small.replace("dvc.yaml", "outs: [out/m.joblib]", "outs: [out/m.joblib, out/n.joblib]")
    small.replace("dvc.yaml", "artifacts:\n", "artifacts:\n  n: {path: out/n.joblib, type: model}\n")
    small.run("dvc", "repro", "-q", "train")
    small.run("dovetail", "register")
    small.run("dovetail", "register")
    runs = by_name(small)
    assert parents(runs) == {"of m": None, "of n": None}
    assert {v.name: v.run_id for v in small.store().versions()} == {
        name: runs[f"of {name}"].info.run_id for name in "mn"
    }


def test_the_run_of_an_evaluation_stage_is_shown_below_the_model_s_and_a_repeat_is_no_second_one(small):
    small.write("judge.py", JUDGE)
    judge = "{cmd: python judge.py, deps: [judge.py, out/m.joblib], metrics: [{judged.json: {cache: false}}]}"
    small.replace("dvc.yaml", "  register:\n", f"  judge: {judge}\n  register:\n")
    small.replace("dvc.yaml", "out/plots]\n    outs: [{mlruns", "out/plots, judged.json]\n    outs: [{mlruns")
    tracking(small, LIVE).run("dvc", "repro", "-q")
    assert parents(by_name(small)) == {"live": None, "judging": "live"}
    assert small.store().versions()[0].run_id == by_name(small)["live"].info.run_id
    small.run("dvc", "repro", "-q", "--force")
    assert parents(by_name(small)) == {"live": None, "judging": "live"}
    assert small.store().counts() == (2, 1)


def test_what_autolog_logged_stays_beside_the_very_bytes(small):
    tracking(small, AUTOLOG).run("dvc", "repro", "-q")
    shown = small.store()
    (run,), (version,) = shown.runs(), shown.versions()
    assert version.run_id == run.info.run_id
    assert run.data.params["train.w"] == "7"
    assert run.data.params["solver"] == "lbfgs"
    assert "training_accuracy_score" in run.data.metrics
    assert run.data.metrics["accuracy"] == 0.7
    assert {model.model_type for model in shown.models()} >= {"joblib"}
    assert small.json("register")[0]["run_created"] is False
    assert small.json("lineage", "m")["artifact"]["verified"] is True


def test_a_run_that_failed_is_never_taken(small):
    small.write("broken", "")
    tracking(small, FAILS).run("dvc", "repro", "-q", code=255)
    (small.root / "broken").unlink()
    small.run("dvc", "repro", "-q")
    runs = by_name(small)
    assert {name: run.info.status for name, run in runs.items()} == {"broken": "FAILED", "whole": "FINISHED"}
    assert "dovetail.fingerprint" not in runs["broken"].data.tags
    assert small.store().versions()[0].run_id == runs["whole"].info.run_id


def test_under_mlflow_run_it_is_a_run_of_its_own(small):
    outer = small.run("python", "-c", "import mlflow; print(mlflow.MlflowClient().create_run('0').info.run_id)")
    tracking(small, LIVE).run("dvc", "repro", "-q", MLFLOW_RUN_ID=outer.stdout.strip())
    runs = {run.info.run_id: run for run in small.store().runs()}
    assert len(runs) == 2
    assert not [tag for tag in runs.pop(outer.stdout.strip()).data.tags if "dovetail." in tag]
    assert [run.info.run_name for run in runs.values()] == ["live"]


def test_a_stage_in_a_subfolder_typed_from_there(small):
    tracking(small, LIVE)
    small.replace("train.py", 'open("params.yaml")', 'open("../params.yaml")')
    small.replace("train.py", 'open("data.csv")', 'open("../data.csv")')
    small.run("rm", "-rf", "dvc.lock", "out")
    (small.root / "sub/code").mkdir(parents=True)
    (small.root / "train.py").rename(small.root / "sub/train.py")
    text = (small.root / "dvc.yaml").read_text()
    text = text.replace("data.csv", "../data.csv").replace("mlruns/", "../mlruns/")
    small.write("sub/dvc.yaml", text.replace("params: [train]", "params: [../params.yaml: [train]]"))
    (small.root / "dvc.yaml").unlink()
    small.run("dvc", "repro", "-q", cwd=small.root / "sub")
    (run,) = small.store().runs()
    assert (run.info.run_name, small.store().versions()[0].run_id) == ("live", run.info.run_id)


def test_a_script_that_tracks_elsewhere_is_told_so_with_the_line_to_take_out(small, tmp_path):
    tracking(small, f'import mlflow\nmlflow.set_tracking_uri("sqlite:///{tmp_path}/other.db")\n').run(
        "dvc", "repro", "-q"
    )
    ((warning,),) = [one["warnings"] for one in small.json("register")]
    assert warning["what"].startswith("train.py:13 sets the tracking URI to 'sqlite:///")
    assert warning["next"].startswith("delete line 13 of train.py")
    assert "delete line 13" in small.run("dovetail", "register").stdout


def test_killed_while_it_adopts_it_goes_on_with_the_same_run(small):
    tracking(small, LIVE).run("dvc", "repro", "-q", "train")
    for step in ("update_run", "set_tag", "log_inputs", "create_logged_model", "set_terminated"):
        small.killed(step, "register")
    small.run("dovetail", "register")
    (run,) = small.store().runs()
    assert (run.info.run_name, run.info.status) == ("live", "FINISHED")
    assert run.data.metrics["accuracy"] == 0.7
    assert (
        len(small.store().client.get_metric_history(run.info.run_id, "accuracy")) == 4
    )  # three points and the last word
    assert small.store().counts() == (1, 1)


def test_what_a_stage_sets_for_itself_is_recorded_of_that_stage(small):
    tracking(small, LIVE).replace(
        "train.py", "import json", "import os\nos.environ['RAYON_NUM_THREADS'] = '3'\nimport json"
    )
    small.replace("dvc.yaml", "cmd: python train.py", "cmd: MKL_CBWR=AVX2 python train.py")
    small.run("dvc", "repro", "-q", POLARS_MAX_THREADS="2")
    found = small.json("lineage", "m")["environment"]["computing"]
    assert found["variable.POLARS_MAX_THREADS"] == "2"
    assert {"variable.MKL_CBWR=AVX2", "variable.RAYON_NUM_THREADS=3"} <= set(found["stage.train"].split())
    assert "POLARS" not in found["stage.train"]
    shown = small.run("dovetail", "lineage", "m").stdout
    assert f"computed on {found['machine']}, {found['cores']} cores, BLAS" in shown
    assert "    with joblib.backend=loky MKL_CBWR=AVX2 RAYON_NUM_THREADS=3" in shown
