"""What a training script gains inside a DVC stage without a line of its own."""

import hashlib
import subprocess
import sys

import pytest
from project import facts

LIVE = """
import mlflow
with mlflow.start_run(run_name="live"):
    mlflow.log_metric("loss", 0.5)
"""


@pytest.fixture
def live(small):
    """The small project with a stage that tracks a run of its own, as training scripts do."""
    small.write("live.py", LIVE)
    small.replace("dvc.yaml", "stages:\n", "stages:\n  live:\n    cmd: python live.py\n    deps: [live.py, data.csv]\n")
    small.commit("a script that tracks")
    return small


def test_a_run_started_inside_a_stage_is_tagged_and_lies_in_the_real_roots_store(live):
    live.run("dvc", "exp", "run", "-q", "--temp", "-n", "tried", "live")
    (run,) = live.store().runs()
    assert run.info.run_name == "live"
    assert run.data.metrics == {"loss": 0.5}
    assert facts(run)["dovetail.dvc.stage"] == "live"
    assert facts(run)["dovetail.dvc.experiment"] == "tried"
    assert len(facts(run)["dovetail.git.commit"]) == 40


def test_outside_a_stage_nothing_is_added(live):
    live.run("python", "live.py")
    (run,) = live.store().runs()
    assert [tag for tag in run.data.tags if "dovetail." in tag] == []


@pytest.mark.slow
def test_a_runs_dataset_brings_back_its_bytes_after_the_data_have_changed(small):
    small.run("dvc", "repro", "-q", "register")
    used = (small.root / "data.csv").read_bytes()
    small.write("data.csv", "a,b\n5,6\n")
    small.run("dvc", "add", "-q", "data.csv")
    code = (
        "import mlflow, tempfile; from mlflow import MlflowClient; c = MlflowClient();"
        "run, = c.search_runs([e.experiment_id for e in c.search_experiments()]);"
        "print(mlflow.data.get_source(run.inputs.dataset_inputs[0].dataset).load(tempfile.mkdtemp(dir='.')))"
    )
    path = small.root / small.run("python", "-c", code).stdout.strip()
    assert path.name == "data.csv"
    assert path.read_bytes() == used
    path.write_text("scribbled over")  # a copy: DVC's cache must not feel it
    assert (small.root / small.run("python", "-c", code).stdout.strip()).read_bytes() == used
    assert hashlib.md5(used).hexdigest() != hashlib.md5((small.root / "data.csv").read_bytes()).hexdigest()


@pytest.mark.slow
def test_bytes_that_are_nowhere_are_an_error_with_the_next_command(small):
    small.run("dvc", "repro", "-q", "register")
    code = "from dovetail.plugin import DvcDatasetSource as S; S('gone.csv', '0' * 32).load()"
    done = small.run("python", "-c", code, code=1)
    assert "gone.csv (md5 000" in done.stderr
    assert "dvc push" in done.stderr


@pytest.mark.slow
def test_importing_mlflow_costs_no_import_of_dvc():
    code = "import mlflow, sys; sys.exit('dvc.repo' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
