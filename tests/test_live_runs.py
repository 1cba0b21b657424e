"""A run that a training script opens itself is the model's run: adopted and completed, never doubled."""

import pytest
from project import TRAIN

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

AUTOLOG = """
import mlflow, numpy
from sklearn.linear_model import LogisticRegression
mlflow.sklearn.autolog(log_input_examples=False, log_model_signatures=False)
LogisticRegression().fit(numpy.array([[0.0], [1.0], [2.0], [3.0]]), [0, 0, 1, 1])
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
    assert run.data.tags["dovetail.dvc.stage"] == "train"
    assert small.json("lineage", "m")["run_id"] == run.info.run_id

    small.run("dvc", "repro", "-q", "--force")
    assert small.store().counts() == (1, 1)
    assert small.store().runs()[0].info.end_time == run.info.end_time
    small.commit("adopted")
    small.run("dvc", "exp", "run", "-q", "--temp", "-n", "eight", "-S", "train.w=8")
    small.run("dvc", "exp", "run", "-q", "-n", "nine", "-S", "train.w=9")
    experiments = {r.data.tags.get("dovetail.dvc.experiment"): r.data.metrics["accuracy"] for r in small.store().runs()}
    assert experiments == {None: 0.7, "eight": 0.8, "nine": 0.9}
    assert (small.json("sync", "--all")["runs"]["created"], len(small.store().runs())) == (1, 4)  # the first commit


def test_what_else_the_same_execution_opened_is_shown_below_it(small):
    tracking(small, SEVERAL).run("dvc", "repro", "-q")
    runs = by_name(small)
    parents = {name: run.data.tags.get("mlflow.parentRunId") for name, run in runs.items()}
    final = runs["final"].info.run_id
    assert parents == {"fold 0": final, "fold 1": final, "child": final, "final": None}
    assert small.store().versions()[0].run_id == final
    small.run("dvc", "repro", "-q", "--force")
    assert set(by_name(small)) == set(runs)
    assert len(small.store().runs()) == 4


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
    assert not [tag for tag in runs.pop(outer.stdout.strip()).data.tags if tag.startswith("dovetail.")]
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


@pytest.mark.slow
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
