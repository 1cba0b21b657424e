"""Exactly once on a team's store, one writer after the other: PostgreSQL and S3 behind `mlflow server`."""

import contextlib
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request

import pytest
from project import BIN, ROOT, Project
from refusing_s3 import refusing_s3
from team_store import PACKAGES, pids_of, team_store
from tracking_server import tracking_server

pytestmark = [
    pytest.mark.stack,
    pytest.mark.slow,
    pytest.mark.skipif(not (PACKAGES / ".installed").is_file(), reason="there is no team's store here: make team"),
]

CONNECTIONS = """import psycopg2, sys
cursor = psycopg2.connect(sys.argv[1]).cursor()
cursor.execute("select count(*) from pg_stat_activity where datname is not null")
print(cursor.fetchone()[0])"""
QUICK = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2", "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1"}  # else it tries for minutes


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    with team_store(tmp_path_factory.mktemp("stack")) as servers:
        yield servers


@pytest.fixture
def team(store, small, request):
    """The small project with the team's store, its model under a name of the test's own."""
    name = "m" + hashlib.md5(request.node.name.encode()).hexdigest()[:8]
    small.env["MLFLOW_TRACKING_URI"] = store.uri
    small.replace("dvc.yaml", "register m\n", f"register {name}\n")
    small.replace("dvc.yaml", "receipts/m.json", f"receipts/{name}.json")
    small.replace("dvc.yaml", "\n  m: {path", f"\n  {name}: {{path")
    small.commit("a name")
    return small, name


def shown(project, name):
    """The runs of the model's experiment with their status, the digests of its versions, its aliases."""
    store = project.store()
    experiment = store.client.get_experiment_by_name(name)
    runs = store.client.search_runs([experiment.experiment_id]) if experiment else []
    versions = [one.tags["dovetail.model.md5"] for one in store.versions() if one.name == name]
    aliases = {alias: int(number) for alias, number in store.aliases().get(name, {}).items()}
    return [run.info.status for run in runs], versions, aliases


def once(project):
    md5 = hashlib.md5((project.root / "out/m.joblib").read_bytes()).hexdigest()
    return ["FINISHED"], [md5], {"staging": 1}


def test_what_is_registered_again_from_another_clone_is_there_once(team, tmp_path):
    project, name = team
    shutil.copytree(project.root, tmp_path / "clone", symlinks=True)
    clone = Project(tmp_path / "clone", dict(project.env))
    project.run("dvc", "repro", "-q", "register")
    clone.run("dvc", "repro", "-q", "register")
    clone.run("dovetail", "sync")
    assert shown(project, name) == once(project)
    assert project.json("lineage", name)["artifact"]["verified"] is True  # the bytes came back from S3


def test_clones_that_register_one_model_at_the_same_moment_make_it_once(team, tmp_path):
    project, name = team
    clones = [tmp_path / f"clone{number}" for number in range(4)]
    for clone in clones:
        shutil.copytree(project.root, clone, symlinks=True)
    running = [
        subprocess.Popen(["dovetail", "register", name, "--json"], cwd=clone, env={**os.environ, **project.env},
                         stdout=subprocess.PIPE, text=True) for clone in clones
    ]  # fmt: skip
    said = [json.loads(process.communicate(timeout=300)[0])[0] for process in running]
    assert [process.returncode for process in running] == [0] * 4
    assert sorted(one["version_created"] for one in said) == [False, False, False, True]
    assert {one["run_id"] for one in said} == {said[0]["run_id"]}
    statuses, versions, aliases = shown(project, name)
    assert (statuses, len(versions), aliases) == (["FINISHED"], 1, {"staging": 1})


@pytest.mark.parametrize("step", ["log_batch", "writing:2", "finalize_logged_model", "create_model_version"])
def test_a_killed_registration_is_completed_by_the_next(team, step):
    project, name = team
    project.killed(step, "register", name)
    project.run("dovetail", "register", name)
    assert shown(project, name) == once(project)


def until(condition, seconds=60):
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end
        time.sleep(0.05)
    return found


def answers(store):
    """Whether all three servers do: a run with a file can be found."""
    try:
        urllib.request.urlopen(f"{store.uri}/health", timeout=5).close()
        store.client().search_experiments(max_results=1)
        with contextlib.suppress(urllib.error.HTTPError):
            urllib.request.urlopen(store.state()["s3"], timeout=5).close()
    except Exception:  # noqa: BLE001  (whatever it is, it does not answer)
        return False
    return True


def writes(store, name):
    """Whether somebody is about to write of the model: it has its turn."""
    return store.client().search_registered_models(f"name = 'dovetail.turn.{name}'")


def begun(project, name):
    command = [project_bin(), "register", name]
    env = {**os.environ, **project.env, **QUICK}
    return subprocess.Popen(command, cwd=project.root, env=env, stderr=subprocess.PIPE, text=True)


def project_bin():
    return str(BIN / "dovetail")


@pytest.mark.parametrize(
    ("server", "by"), [("mlflow", signal.SIGKILL), ("postgres", signal.SIGINT), ("s3", signal.SIGKILL)]
)
def test_a_server_that_goes_away_midway_costs_one_line_and_doubles_nothing(team, store, server, by):
    project, name = team
    with begun(project, name) as register:
        until(lambda: writes(store, name))
        pid = store.state()["pids"][server]
        os.killpg(pid, by)
        said = register.stderr.read()
    assert register.returncode in (0, 3), said
    assert said.count("\n") == (1 if register.returncode else 0), said
    until(lambda: store.state()["pids"][server] != pid and answers(store))
    project.run("dovetail", "register", name)
    assert shown(project, name) == once(project)
    assert project.json("lineage", name)["artifact"]["verified"] is True


def test_s3_that_is_late_is_waited_for(team, store):
    project, name = team
    with begun(project, name) as register:
        until(lambda: writes(store, name))
        os.killpg(store.state()["pids"]["s3"], signal.SIGSTOP)
        try:
            time.sleep(4)
        finally:
            os.killpg(store.state()["pids"]["s3"], signal.SIGCONT)
        said = register.stderr.read()
    assert (register.returncode, said) == (0, "")
    assert shown(project, name) == once(project)


@pytest.mark.parametrize("refusal", [(503, "SlowDown"), (403, "QuotaExceeded")], ids=["503", "a full quota"])
def test_s3_that_refuses_costs_one_line_and_what_was_begun_is_completed(team, store, tmp_path, refusal):
    project, name = team
    with refusing_s3(store.state()["s3"]) as (address, refuses):
        keys = {"AWS_ACCESS_KEY_ID": "any", "AWS_SECRET_ACCESS_KEY": "any", "AWS_DEFAULT_REGION": "us-east-1"}
        more = {"MLFLOW_S3_ENDPOINT_URL": address, "PYTHONPATH": str(PACKAGES), **keys}
        arguments = ("--artifacts-destination", "s3://artifacts")
        with tracking_server(tmp_path, store.state()["postgres"], *arguments, **more) as server:
            project.env["MLFLOW_TRACKING_URI"] = server.uri
            refuses["with"] = refusal
            refused = project.run("dovetail", "register", name, code=3, **QUICK)
            assert (refused.stderr.count("\n"), refuses["times"] > 0) == (1, True), refused.stderr
            refuses["with"] = None
            project.run("dovetail", "register", name)
            assert shown(project, name) == once(project)
            assert project.json("lineage", name)["artifact"]["verified"] is True


def test_idle_connections_do_not_grow(team, store):
    project, name = team

    def connections():
        uri = store.state()["postgres"].replace("+psycopg2", "")
        env = {**os.environ, "PYTHONPATH": str(PACKAGES)}
        return int(
            subprocess.run([sys.executable, "-c", CONNECTIONS, uri], env=env, capture_output=True, check=True).stdout
        )

    project.run("dovetail", "register", name)
    project.run("dovetail", "status")
    before = connections()
    for _ in range(5):
        project.run("dovetail", "register", name)
        project.run("dovetail", "status")
    assert connections() <= before + 2  # another thread of a worker may have answered


def test_what_could_not_be_written_is_written_by_the_next_sync_in_any_order(team, tmp_path):
    project, name = team
    clones = []
    for w in (3, 5):
        shutil.copytree(project.root, tmp_path / f"clone{w}", symlinks=True)
        clone = Project(tmp_path / f"clone{w}", dict(project.env))
        away = {"MLFLOW_TRACKING_URI": "http://127.0.0.1:9"}
        clone.write("params.yaml", f"train: {{w: {w}}}\n")
        clone.run("dvc", "repro", "-q", "train")
        clone.commit(f"w is {w}")
        refused = clone.run("dovetail", "register", name, code=3, **away)
        assert refused.stderr.count("\n") == 1
        for works in (["history", name], ["gc"]):  # what needs only git
            clone.run("dovetail", *works, code=None, **away)
        clones.append(clone)
    for clone in reversed(clones):
        clone.run("dovetail", "sync")
    for clone in clones:
        clone.run("dovetail", "sync", "--all")
    _, versions, _ = shown(project, name)
    expected = [hashlib.md5((clone.root / "out/m.joblib").read_bytes()).hexdigest() for clone in (*clones, project)]
    assert sorted(versions) == sorted(expected)


def test_the_servers_end_with_sigterm_and_leave_no_process(tmp_path):
    with (tmp_path / "log").open("w") as log:
        command = [sys.executable, ROOT / "scripts/stack.py", tmp_path / "own"]
        stack = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        end = time.monotonic() + 120
        while "export MLFLOW_TRACKING_URI=" not in (tmp_path / "log").read_text():
            assert stack.poll() is None, (tmp_path / "log").read_text()
            assert time.monotonic() < end
            time.sleep(0.2)
        assert len(pids_of(tmp_path / "own")) >= 3
    finally:
        stack.send_signal(signal.SIGTERM)
        code = stack.wait(60)
    assert code == 0
    assert pids_of(tmp_path / "own") == []
