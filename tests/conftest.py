"""Every test runs apart from the machine: its own home, git identity and MLflow settings, no system configuration."""

import os
import shutil
import socket
import sys
import tempfile
import threading
from importlib.util import find_spec
from pathlib import Path

import commands
import pytest
import templates
from hypothesis import HealthCheck, settings
from project import Project, copy_of, isolate
from xdist.scheduler import LoadScopeScheduling

ROOT = Path(__file__).resolve().parents[1]
# Before numpy is imported. Several processes on few cores, each with a native thread a core, wait for one another at
# full speed: a third of the suite's time. What concerns threads sets its own.
os.environ.update(dict.fromkeys(commands.THREADS, "1"))
sys.dont_write_bytecode = False  # to rewrite the assertions of all tests anew takes each worker five seconds
# SQLite and git wait for the disk with each commit, a third of the time that a command takes. TMPDIR says where else.
MEMORY, ROOM = Path("/dev/shm"), 4 << 30


def in_memory():
    """A folder of ours in memory, if there is room for a run, and programs that lie there may be started."""
    if not os.access(MEMORY, os.W_OK):
        return None
    there = os.statvfs(MEMORY)
    if there.f_bavail * there.f_frsize < ROOM or there.f_flag & os.ST_NOEXEC:
        return None
    folder = MEMORY / f"tests-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder if folder.stat().st_uid == os.getuid() else None


if "TMPDIR" not in os.environ and (folder := in_memory()):
    os.environ["TMPDIR"] = tempfile.tempdir = str(folder)  # pytest has asked for it before

# Cases that hypothesis draws are the same in each run, and have the time that they need.
settings.register_profile(
    "ours", deadline=None, derandomize=True, database=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("ours")

# Fixtures that stand for a project; a test that uses one of them starts commands.
PROJECTS = {
    "_small_template", "_registered_template", "_judged_template", "_retrained", "adopted", "estate", "made", "played",
    "project", "promoted", "reproduced", "served",
}  # fmt: skip


# Files whose tests make repositories of their own, start processes, draw or import for a second and more.
HEAVY = {
    "test_deliver.py", "test_evaluate.py", "test_folder_models.py", "test_fork_server.py", "test_locks.py",
    "test_named_breakage.py", "test_new.py", "test_parts.py", "test_processes.py", "test_report.py", "test_repro.py",
    "test_times.py", "test_store_lock.py", "test_validation.py",
}  # fmt: skip

# Files whose fixtures are dear and made once for the file: their tests all go to one worker, and first.
TOGETHER = {
    "test_demo.py", "test_deploy.py", "test_evaluate.py", "test_gc.py", "test_false_tags.py", "test_log_s3.py",
    "test_named_breakage.py", "test_notebook.py", "test_parts_on_a_cluster.py", "test_reference_project.py",
    "test_report.py", "test_retrain.py", "test_serving.py", "test_serving_bad_input.py", "test_serving_faults.py",
    "test_serving_models.py", "test_serving_onnx.py", "test_serving_open_inference.py", "test_serving_workers.py",
    "test_unusable_files.py",
}  # fmt: skip


collect_ignore = [] if find_spec("torch") else ["test_networks.py"]  # `make networks` has it


# The two longest: one for each of two workers.
FIRST = {
    "test_reference_project.py",
    "test_doc_commands.py::test_the_tour_of_the_reference_project_runs_and_prints_what_it_shows",
}


class Scheduling(LoadScopeScheduling):
    """A test goes to whichever worker is free, but those of one of the files TOGETHER go to the same one."""

    def _split_scope(self, nodeid):
        file = nodeid.partition("::")[0]
        return file if Path(file).name in TOGETHER else nodeid


@pytest.hookimpl(optionalhook=True)  # a run without xdist, -p no:xdist, knows no such hook
def pytest_xdist_make_scheduler(config, log):
    config.option.loadscopereorder = False  # the order is ours, not that of how many tests a file has
    return Scheduling(config, log)


def pytest_addoption(parser):
    parser.addoption("--plain", action="store_true", help="Start each command as users do, without the fork server.")
    parser.addoption("--fuzz-cases", type=int, default=100, help="How many broken files to try (default: 100).")
    parser.addoption("--fuzz-seed", type=int, default=0, help="Which broken files to try (default: 0).")


def pytest_configure(config):
    """One fork server a run, started by the process that the workers come from."""
    if not (config.option.plain or config.option.collectonly or commands.SHIMS in os.environ):
        served = commands.Commands()
        os.environ[commands.SHIMS] = str(served.folder)

        def close():
            del os.environ[commands.SHIMS]
            served.close()

        config.add_cleanup(close)


def pytest_collection_modifyitems(items):
    """`quick` starts no command of a project and is not heavy; slow ones go first: no worker is left with one alone."""
    for item in items:
        if not (is_slow(item) or PROJECTS & set(item.fixturenames) or item.path.name in HEAVY):
            item.add_marker("quick")
    if "PYTEST_XDIST_WORKER" in os.environ:
        items.sort(key=turn)


def turn(item):
    """What takes longest goes first, so that at the end no worker is left alone with it: the two, files, slow tests."""
    return not names(item) & FIRST, item.path.name not in TOGETHER, not is_slow(item)


def names(item):
    return {item.path.name, f"{item.path.name}::{item.originalname}"}


def is_slow(item):
    return item.get_closest_marker("slow") is not None


@pytest.fixture(autouse=True)
def _isolated(tmp_path_factory, monkeypatch):
    os.environ.pop("MLFLOW_TRACKING_URI", None)  # mlflow.set_tracking_uri exports it to whoever comes next; here from a
    isolate(tmp_path_factory, monkeypatch)  # fixture that outlives a test, which monkeypatch would put back after each
    yield
    if mlflow := sys.modules.get("mlflow"):  # what this test set, the next one does not ask
        mlflow.set_tracking_uri(None)
    os.environ.pop("MLFLOW_TRACKING_URI", None)


@pytest.fixture
def silent():
    """The port of a server that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        kept = []

        def accept():
            while True:
                try:
                    kept.append(server.accept())
                except OSError:
                    return

        threading.Thread(target=accept, daemon=True).start()
        yield server.getsockname()[1]
        for connection, _ in kept:
            connection.close()


@pytest.fixture(scope="session")
def _small_template(tmp_path_factory):
    return templates.small(tmp_path_factory)


@pytest.fixture
def small(_small_template, tmp_path):
    """A small project, trained and committed, not yet registered."""
    shutil.copytree(_small_template, tmp_path / "small", symlinks=True)
    return Project(tmp_path / "small")


@pytest.fixture(scope="session")
def _registered_template(tmp_path_factory):
    return templates.registered(tmp_path_factory)


@pytest.fixture
def registered(_registered_template, tmp_path):
    """The small project, registered and committed."""
    return copy_of(_registered_template, tmp_path / "small")


@pytest.fixture(scope="session")
def _judged_template(tmp_path_factory):
    return templates.judged(tmp_path_factory)


@pytest.fixture
def judged(_judged_template, tmp_path):
    """A classifier of `u` and `v`, right on all of its test set, registered as version 1."""
    return copy_of(_judged_template, tmp_path / "judged")
