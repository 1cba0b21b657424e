"""None lost, none doubled: queues with workers, applied experiments, a tracking server in place of SQLite."""

import contextlib
import shutil
import time
from concurrent.futures import ThreadPoolExecutor

import psutil
import pytest
from project import Project, facts
from tracking_server import tracking_server

WEIGHTS = [1, 2, 3, 4, 5, 6, 8, 9]


@pytest.mark.slow
def test_eight_queued_experiments_on_four_workers_are_eight_runs(small):
    small.run("dvc", "repro", "-q", "register")
    small.commit("registered")
    for w in WEIGHTS:
        small.run("dvc", "exp", "run", "-q", "--queue", "-n", f"w{w}", "-S", f"train.w={w}")
    before = set(psutil.pids())
    try:
        small.run("dvc", "queue", "start", "-q", "-j", "4")
        assert finished(small, len(WEIGHTS)), small.run("dvc", "queue", "status").stdout
    finally:
        end_workers(small.root, before)
    runs = {run.info.run_name: run for run in small.store().runs() if "dovetail.dvc.experiment" in facts(run)}
    assert sorted(runs) == [f"w{w}" for w in WEIGHTS]
    assert {run.info.status for run in runs.values()} == {"FINISHED"}
    assert {run.data.params["train.w"] for run in runs.values()} == {str(w) for w in WEIGHTS}
    assert small.store().counts() == (len(WEIGHTS) + 1, 1)
    small.run("dvc", "exp", "apply", "w9")
    (answer,) = small.json("register")
    assert (answer["run_created"], answer["version"], answer["aliases"]) == (False, 2, ["staging"])
    assert small.store().counts() == (len(WEIGHTS) + 1, 2)


@pytest.mark.slow
def test_queued_experiments_on_workers_of_repro_are_a_run_each(small):
    small.run("dvc", "repro", "-q", "register")
    small.commit("registered")
    for w in (1, 2, 3):
        small.run("dvc", "exp", "run", "-q", "--queue", "-n", f"w{w}", "-S", f"train.w={w}")
    small.run("dovetail", "repro", "--experiments", "--workers", "2")
    runs = {run.info.run_name: run for run in small.store().runs() if "dovetail.dvc.experiment" in facts(run)}
    assert sorted(runs) == ["w1", "w2", "w3"]
    assert {run.info.status for run in runs.values()} == {"FINISHED"}
    assert small.store().counts() == (4, 1)


def finished(project, count):
    """Wait until DVC's queue has no task left that is not done."""
    for _ in range(240):
        lines = project.run("dvc", "queue", "status").stdout.splitlines()
        if sum("Success" in line for line in lines) == count:
            return True
        if any("Failed" in line for line in lines):
            return False
        time.sleep(1)
    return False


def end_workers(root, before):
    """End the workers that DVC started for `root`: they would wait for more work."""
    for pid in set(psutil.pids()) - before:
        with contextlib.suppress(psutil.Error):
            process = psutil.Process(pid)
            if process.cwd().startswith(str(root)) or str(root) in " ".join(process.cmdline()):
                process.kill()


@pytest.fixture
def served(small, tmp_path):
    """The small project with a tracking server that keeps the artifacts too."""
    artifacts = ("--artifacts-destination", str(tmp_path / "artifacts"))
    with tracking_server(tmp_path, f"sqlite:///{tmp_path}/server.db", *artifacts) as server:
        small.env["MLFLOW_TRACKING_URI"] = server.uri
        yield small


@pytest.mark.slow
def test_a_tracking_server_shows_the_same_as_sqlite(served, tmp_path):
    served.run("dvc", "repro", "-q", "register")
    served.commit("registered")
    served.run("dvc", "exp", "run", "-q", "--temp", "-n", "eight", "-S", "train.w=8")
    served.run("dvc", "repro", "-q", "--force")
    shown = served.store()
    runs = {facts(run).get("dovetail.dvc.experiment"): run for run in shown.runs()}
    assert {name: run.data.params for name, run in runs.items()} == {None: {"train.w": "7"}, "eight": {"train.w": "8"}}
    assert shown.counts() == (2, 1)
    assert {alias: int(number) for alias, number in shown.aliases()["m"].items()} == {"staging": 1}
    (stored, _) = sorted((tmp_path / "artifacts").rglob("m.joblib"), key=lambda file: file.stat().st_mtime)
    assert stored.read_bytes() == (served.root / "out/m.joblib").read_bytes()
    assert served.json("lineage", "m")["artifact"]["verified"] is True
    assert served.json("status")["models"][0]["in_sync"] is True
    assert served.json("sync", "--all")["runs"] == {"created": 0, "present": 2}
    assert not (served.root / "mlflow.db").exists()


@pytest.mark.slow
def test_clones_that_register_one_model_at_once_make_one_run_and_one_version(served, tmp_path):
    """Clones share no lock on this machine, but a turn in the store; one that was killed gives it to its next run."""
    clones = [copied(served, tmp_path / f"clone{number}") for number in range(3)]
    with ThreadPoolExecutor(len(clones)) as threads:
        answers = list(threads.map(lambda clone: clone.json("register")[0], clones))
    assert {answer["version"] for answer in answers} == {served.json("register")[0]["version"]}
    assert served.store().counts() == (1, 1)
    assert [model.status.name for model in served.store().models()] == ["READY"]
    served.write("params.yaml", "train: {w: 8}\n")
    served.run("dvc", "repro", "-q", "train")
    served.killed("finalize_logged_model", "register")
    assert [model.name for model in served.store().client.search_registered_models()] == ["dovetail.turn.m", "m"]
    assert served.json("register")[0]["version"] == 2
    assert [model.name for model in served.store().client.search_registered_models()] == ["m"]
    assert served.store().counts() == (2, 2)


def copied(project, root):
    shutil.copytree(project.root, root, symlinks=True)
    return Project(root, dict(project.env))
