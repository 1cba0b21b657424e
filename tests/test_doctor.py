"""Real projects, really broken: the doctor names what is wrong, and its command repairs it."""

import json
import os
import shutil
import signal
from pathlib import Path

import pytest
from next_commands import typed
from project import Project

from dovetail.doctor.check_tracking import network_kind
from dovetail.registration.script_uris import Scripts, findings, is_relative


def problems(project, **env):
    """What the doctor finds; its exit code must agree with its answer."""
    done = project.run("dovetail", "doctor", "--json", code=None, **env)
    found = json.loads(done.stdout)["problems"]
    assert done.returncode == (1 if found else 0), done.stderr
    assert all(set(one) == {"severity", "what", "why", "next"} for one in found)
    return found


def repair(project, found):
    """Type the commands of the findings, each once."""
    for command in dict.fromkeys(one["next"] for one in found):
        project.run("bash", "-c", command)


def trained(project, *weights):
    for w in weights:
        project.write("params.yaml", f"train: {{w: {w}}}\n")
        project.run("dvc", "repro", "-q", "register")
        project.commit(f"w = {w}")


def cached(project, md5):
    return project.root / f".dvc/cache/files/md5/{md5[:2]}/{md5[2:]}"


def md5_of(project, path):
    return project.run("dvc", "ls", "--json", "--show-hash", ".", path).stdout.split('"md5": "')[1].split('"')[0]


def test_a_healthy_project_has_no_problems_and_gets_no_store_by_being_asked(small):
    assert problems(small) == []
    assert small.run("dovetail", "doctor").stdout == "no problems found\n"
    assert not (small.root / "mlflow.db").exists()


@pytest.mark.slow
def test_versions_without_run_lineage_or_bytes_are_made_whole(small):
    trained(small, 6, 7, 8)
    assert problems(small) == []
    first, second, third = small.store().versions()
    tampered, lost = (
        next((small.root / "mlruns").rglob(f"{v.source.rpartition('/')[2]}/artifacts/data/m.joblib"))
        for v in (first, second)
    )
    with tampered.open("ab") as file:
        file.write(b"x")
    shutil.rmtree(lost.parents[1])
    next((small.root / "mlruns").rglob(f"{second.run_id}/artifacts/lineage.json")).unlink()
    small.run("mlflow", "runs", "delete", "--run-id", third.run_id)
    small.run("mlflow", "gc", "--backend-store-uri", "sqlite:///mlflow.db",
              MLFLOW_TRACKING_URI="sqlite:///mlflow.db")  # fmt: skip
    small.run("mlflow", "runs", "delete", "--run-id", first.run_id)
    found = problems(small)
    assert [(one["what"], one["why"].split(":")[0]) for one in found] == [
        ("m/1", "its run was deleted"),
        ("m/1", "its model file is not the one that was registered"),
        ("m/2", "its run's lineage.json is missing or cannot be read, so nothing says what made it"),
        ("m/2", "its model file is gone"),
        ("m/3 @staging", "its run is missing for good, so nothing says what made it"),
    ]
    assert {one["next"] for one in found} == {"dovetail sync --repair"}
    repair(small, found)
    assert problems(small) == []
    assert small.store().aliases() == {"m": {"staging": 4}}  # MLflow cannot give the third another run
    small.run("python", "-c", "import mlflow\nfor n in (1, 2, 4): mlflow.pyfunc.load_model(f'models:/m/{n}')")
    assert small.json("sync", "--repair")["repaired"] == []


@pytest.mark.slow
def test_a_broken_version_of_another_branch_is_made_whole_from_there(small):
    small.run("git", "checkout", "-q", "-b", "other")
    trained(small, 9)
    small.run("git", "checkout", "-q", "main")
    small.run("dvc", "checkout", "-q")
    next((small.root / "mlruns").rglob("data/m.joblib")).write_bytes(b"x")
    found = problems(small)
    assert [one["next"] for one in found] == ["dovetail sync --all --repair"]
    repair(small, found)
    assert problems(small) == []


@pytest.mark.slow
def test_a_broken_version_whose_bytes_no_tree_has_is_listed(small):
    small.write("params.yaml", "train: {w: 9}\n")
    small.run("dvc", "repro", "-q", "register")
    small.run("git", "checkout", "-q", ".")
    small.run("dvc", "checkout", "-q")
    next((small.root / "mlruns").rglob("data/m.joblib")).write_bytes(b"x")
    (found,) = problems(small)
    assert found["next"].startswith("git push, in the clone that made it, then here: git fetch && dovetail sync")
    answer = small.json("sync", "--repair", code=1)
    assert answer["repaired"] == []
    assert [one["what"] for one in answer["problems"]] == ["m/1"]


@pytest.mark.slow
def test_objects_that_are_nowhere_are_brought_back(small):
    data, model = md5_of(small, "data.csv"), md5_of(small, "out/m.joblib")
    for md5 in (data, model, md5_of(small, "out/plots")):
        cached(small, md5).unlink()
    found = problems(small)
    assert {one["what"].split()[0]: one["next"] for one in found} == {
        "data.csv": "dvc commit -f data.csv.dvc",
        "out/m.joblib": "dvc commit -f train",
        "out/plots/p.csv": "dvc commit -f train",
    }
    repair(small, found)
    assert problems(small) == []
    cached(small, model).unlink()
    (small.root / "out/m.joblib").unlink()
    found = problems(small)
    assert [one["next"] for one in found] == ["dvc repro train"]
    repair(small, found)
    assert problems(small) == []


def test_data_that_only_another_clone_has(small, tmp_path):
    other = Project(tmp_path / "other")
    shutil.copytree(small.root, other.root)
    for project in (small, other):
        project.run("dvc", "remote", "add", "-q", "-d", "store", str(tmp_path / "remote"))
    cached(small, md5_of(small, "data.csv")).unlink()
    (small.root / "data.csv").unlink()
    lost, unpushed = problems(small)
    assert (lost["severity"], lost["next"]) == ("error", "dvc push, in the clone that has it, then: dvc pull data.csv")
    assert (unpushed["severity"], unpushed["what"]) == ("warning", "not in the remote: out/m.joblib, out/plots")
    other.run("dvc", "push", "-q")
    small.run("dvc", "pull", "-q", "data.csv")
    assert problems(small) == []


@pytest.mark.slow
def test_what_versions_were_made_of(small, tmp_path):
    trained(small, 6, 7)
    model = small.store().versions()[0].tags["dovetail.model.md5"]
    small.run("dvc", "remote", "add", "-q", "-d", "store", str(tmp_path / "remote"))
    small.run("dvc", "push", "-q")
    (unpushed,) = problems(small)
    assert (unpushed["severity"], unpushed["what"]) == (
        "warning",
        f"out/m.joblib (md5 {model}) of m/1 is not in the remote",
    )
    kept = cached(small, model).rename(tmp_path / "kept")
    (lost,) = problems(small)
    assert lost["what"] == f"out/m.joblib (md5 {model}) of m/1 is in no cache and no remote"
    kept.rename(cached(small, model))
    repair(small, [unpushed])
    assert problems(small) == []


def test_a_source_that_neither_git_nor_dvc_keeps(small):
    small.write("extra.csv", "a\n1\n")
    small.write("more.py", "")
    small.replace("dvc.yaml", "deps: [train.py, data.csv]", "deps: [train.py, data.csv, extra.csv, more.py]")
    small.run("dvc", "repro", "-q", "train")
    found = problems(small)
    assert [one["next"] for one in found] == ["dvc add extra.csv", "git add more.py"]
    repair(small, found)
    assert problems(small) == []


@pytest.mark.slow
def test_a_version_that_no_commit_holds(small):
    small.write("params.yaml", "train: {w: 8}\n")
    small.run("dvc", "repro", "-q", "register")
    found = problems(small)
    assert [one["what"] for one in found] == ["m/1 @staging is in no commit"]
    repair(small, found)
    assert problems(small) == []


@pytest.mark.slow
def test_what_git_must_not_hold(small, tmp_path):
    trained(small, 7)
    small.run("git", "add", "-f", "mlflow.db", "mlruns/receipts")
    (small.root / "out/.gitignore").write_text("/plots\n")
    found = problems(small)
    assert [one["what"].split(",")[0] for one in found] == ["out/m.joblib is DVC's", "git tracks mlflow.db"]
    repair(small, found)
    assert problems(small) == []
    small.run("git", "add", "-A")
    assert small.run("git", "ls-files", "mlflow.db", "mlruns", "out/m.joblib").stdout == ""
    clone = Project(tmp_path / "clone")
    small.commit("repaired")
    small.run("git", "clone", "-q", "--depth", "1", f"file://{small.root}", str(clone.root))
    clone.run("dvc", "cache", "dir", "--local", str(small.root / ".dvc/cache"))
    found = problems(clone)
    assert [one["next"] for one in found] == ["git fetch --unshallow"]
    repair(clone, found)
    assert problems(clone) == []


@pytest.mark.slow
def test_locks_that_nobody_holds(small):
    small.write(".git/index.lock", "")
    small.run("dvc", "config", "core.hardlink_lock", "true")
    (small.root / ".dvc/tmp/lock").unlink()
    die = "import os; from dvc.repo import Repo; r = Repo(); r.lock.lock(); os.kill(os.getpid(), 9)"
    small.run("python", "-c", die, code=-signal.SIGKILL)
    small.write(".dvc/tmp/rwlock", "")
    assert small.run("dvc", "repro", code=255)
    found = problems(small)
    assert [one["next"] for one in found] == [
        "rm .dvc/tmp/rwlock",
        "rm .dvc/tmp/lock",
        "rm .dvc/tmp/rwlock.lock",
        "rm .git/index.lock",
    ]
    repair(small, found)
    assert problems(small) == []
    small.run("dvc", "repro", "-q", "train")
    small.run("git", "add", "-A")


def test_a_lock_whose_process_id_is_another_process_now(small):
    entry = {"pid": os.getpid(), "cmd": "dvc repro"}
    small.write(".dvc/tmp/rwlock", json.dumps({"write": {str(small.root / "out/m.joblib"): entry}}))
    assert "is busy" in small.run("dvc", "repro", "-f", "train", code=255).stderr
    found = problems(small)
    assert [one["next"] for one in found] == ["rm .dvc/tmp/rwlock"]
    repair(small, found)
    small.run("dvc", "repro", "-q", "-f", "train")


def test_runs_that_an_experiment_would_lose(small):
    line = 'import mlflow; mlflow.set_tracking_uri("sqlite:///mlflow.db")\n'
    small.write("train.py", (small.root / "train.py").read_text() + "\n" + line)
    small.run("dvc", "commit", "-q", "-f", "train")
    (code,) = problems(small)
    assert code["what"] == "train.py:13 sets the tracking URI to 'sqlite:///mlflow.db'"
    assert code["next"].startswith("delete line 13 of train.py")
    small.run("sed", "-i.old", "13d", "train.py")
    folder, refused = problems(small, MLFLOW_TRACKING_URI="./runs")
    command = f"{folder['next']} && dovetail doctor"
    assert folder["what"] not in typed(small, command, MLFLOW_TRACKING_URI="./runs").stdout
    assert refused["what"] == "MLflow does not answer"
    assert problems(small) == []


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ('mlflow.set_tracking_uri("http://elsewhere:5000")', "train.py:1 sets the tracking URI to 'http://elsewhere:5000'"),
        ('os.environ["MLFLOW_TRACKING_URI"] = "http://h"', "train.py:1 sets the tracking URI to 'http://h'"),
        ("mlflow.set_tracking_uri(uri=settings.uri)", "train.py:1 sets the tracking URI"),
        ('mlflow.set_tracking_uri(os.environ["MLFLOW_TRACKING_URI"])', None),
        ('mlflow.set_tracking_uri("http://this.one")', None),
        ('mlflow.set_experiment("mine")', None),
        ("mlflow.set_tracking_uri(", None),
    ],
)  # fmt: skip
def test_scripts_that_track_elsewhere_are_named(tmp_path, line, told):
    (tmp_path / "train.py").write_text(line)
    found = [one.what for one in findings(Scripts(tmp_path), ["train.py"], "http://this.one")]
    assert found == ([told] if told else [])


def test_modules_that_scripts_import_and_commands_that_track_elsewhere_are_named(tmp_path):
    (tmp_path / "src/tools").mkdir(parents=True)
    (tmp_path / "train.py").write_text("import json, os\nfrom tools import (\n    log,\n)\n")
    (tmp_path / "src/tools/log.py").write_text("from .where import there\nimport train\n")
    (tmp_path / "src/tools/where.py").write_text("mlflow.set_tracking_uri('http://other.one')\n")
    commands = [("train", "env MLFLOW_TRACKING_URI='http://third.one' python train.py")]
    module, command = findings(Scripts(tmp_path), [], "http://this.one", commands)
    assert module.what == "src/tools/where.py:1 sets the tracking URI to 'http://other.one'"
    assert command.what == "the cmd of stage train sets the tracking URI to 'http://third.one'"
    assert command.next == "delete MLFLOW_TRACKING_URI='http://third.one' from the cmd of train in dvc.yaml"


@pytest.mark.parametrize(
    ("uri", "relative"),
    [
        ("sqlite:///mlflow.db", True), ("sqlite:////data/mlflow.db", False), ("mlruns", True), ("./mlruns", True),
        ("file:mlruns", True), ("file:./mlruns", True), ("file:///data/mlruns", False), ("/data/mlruns", False),
        ("https://mlflow.example.org", False), ("postgresql://db/mlflow", False), ("databricks", False),
        ("databricks://profile", False), ("sqlite://", True),
    ],
)  # fmt: skip
def test_relative_tracking_uris(uri, relative):
    assert is_relative(uri) is relative


MOUNTS = r"""/dev/sda1 / ext4 rw 0 0
proc /proc proc rw 0 0
server:/export /home nfs4 rw 0 0
/dev/sdb1 /home/ada/scratch xfs rw 0 0
//server/share /mnt/team\040share cifs rw 0 0
me@host: /mnt/ssh fuse.sshfs rw 0 0
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/data/mlflow.db", None), ("/home/ada/mlflow.db", "nfs4"), ("/home/ada/scratch/mlflow.db", None),
        ("/mnt/team share/mlflow.db", "cifs"), ("/mnt/ssh/mlflow.db", "fuse.sshfs"), ("/homes/mlflow.db", None),
    ],
)  # fmt: skip
def test_network_folders(path, kind):
    assert network_kind(MOUNTS, Path(path)) == kind


def test_an_old_mlflow(small, tmp_path):
    about = tmp_path / "old/mlflow-3.9.0.dist-info/METADATA"
    about.parent.mkdir(parents=True)
    about.write_text("Metadata-Version: 2.1\nName: mlflow\nVersion: 3.9.0\n")
    (old,) = problems(small, PYTHONPATH=str(tmp_path / "old"))
    assert old["what"].startswith("MLflow 3.9.0 is older than ")
    assert old["next"].startswith("python -m pip install --upgrade 'mlflow>=")


@pytest.mark.slow
def test_a_store_that_is_gone_and_one_that_does_not_answer(small):
    small.run("dvc", "repro", "-q", "register")
    (small.root / "mlflow.db").write_bytes(b"this is no database, " * 100)
    small.write(".dvc/tmp/rwlock", "")
    lock, store = problems(small)
    assert lock["next"] == "rm .dvc/tmp/rwlock"
    assert store["what"] == "MLflow does not answer"
    (small.root / "mlflow.db").unlink()
    found = problems(small)
    assert [one["next"] for one in found] == ["rm .dvc/tmp/rwlock", "dovetail sync"]
    repair(small, found)
    assert problems(small) == []


def test_what_cannot_be_read_is_a_problem_and_the_rest_is_looked_at(small):
    kept = (small.root / "dvc.yaml").read_text()
    small.write("dvc.yaml", "stages: [")
    small.write(".git/index.lock", "")
    lock, unread = problems(small)
    assert lock["next"] == "rm .git/index.lock"
    assert "dvc.yaml" in unread["why"]
    small.write("dvc.yaml", kept)
    repair(small, [lock])
    assert problems(small) == []
