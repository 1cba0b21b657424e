"""A server under load while something around it moves, breaks or goes away: what must still be true."""

import contextlib
import http.client
import json
import os
import re
import shutil
import signal
import threading
import time
from pathlib import Path

import pytest
import templates
from project import copy_of, retag
from serving import COLUMNS, SPLIT, Server, ask, point

pytestmark = pytest.mark.slow
MODEL, WATCH = "dovetail.serving.engine.model_process", "dovetail.serving.engine.alias_watch"
NAMES = {"1": "one:", "2": "two:"}
SLOW = {"dataframe_split": {"columns": COLUMNS, "data": [[9.5, 3, "red", True]] * 100_000}}


@pytest.fixture
def project(tmp_path_factory, tmp_path):
    return copy_of(templates.served(tmp_path_factory), tmp_path / "p")


@pytest.fixture(scope="module")
def _running(tmp_path_factory):
    project = copy_of(templates.served(tmp_path_factory), tmp_path_factory.mktemp("lasting") / "p")
    with Server(project) as server:
        yield project, server


@pytest.fixture
def lasting(_running):
    """A project and a server of it, well and of version 1, which tests share that leave both as they were."""
    project, server = _running
    point(project, 1)
    server.until(lambda: server.predict().version == "1")
    server.until(lambda: server.health()["status"] == "ok")
    return project, server


class Crowd:
    """Clients that ask again and again; each answer has to be of the version that it names."""

    def __init__(self, server, clients=6):
        self.statuses = []
        self.versions = []
        self.wrong = []
        self._server = server
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._client) for _ in range(clients)]

    def _client(self):
        connection = self._server.connection()
        while not self._over.is_set():
            try:
                answer = ask(connection, "/invocations", SPLIT)
            except (OSError, http.client.HTTPException) as error:
                self.wrong.append(error)
                return
            self.statuses.append(answer.status)
            if answer.status == 200:
                self.versions.append(answer.version)
                if not all(said.startswith(NAMES[answer.version]) for said in answer.json["predictions"]):
                    self.wrong.append(answer)
            elif answer.status != 503 or answer.headers["retry-after"] != "1":
                self.wrong.append(answer)
            time.sleep(0.005)  # several at once is the point, not how many
        connection.close()

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self._over.set()
        for thread in self._threads:
            thread.join()


def model_file(project, version, model="m"):
    """The registry's copy of a version's model file."""
    source = project.store().client.get_model_version_download_uri(model, str(version))
    return Path(source.removeprefix("file://")) / "data" / f"{model}.joblib"


def test_follows_the_alias_without_one_failed_or_mixed_answer(lasting):
    project, server = lasting
    with Crowd(server) as crowd:
        for version in (2, 1, 2):
            point(project, version)
            server.until(lambda to=version: server.predict().version == str(to))
            time.sleep(0.3)
    assert not crowd.wrong
    assert set(crowd.statuses) == {200}
    assert set(crowd.versions) == {"1", "2"}


def test_each_move_and_each_failure_is_a_line_with_its_time(project):
    content = model_file(project, 2).read_bytes()
    model_file(project, 2).write_bytes(content[:-100])
    with Server(project) as server:
        point(project, 2)
        server.until(lambda: server.metric("dovetail_load_failures_total") >= 3)  # it is tried again and again
        model_file(project, 2).write_bytes(content)
        server.until(lambda: server.predict().version == "2")
        point(project, 1)
        server.until(lambda: server.predict().version == "1")
        server.process.terminate()
        lines = server.process.stderr.read().decode().splitlines()
    assert [re.sub(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ ", "TIME ", line).partition(": ")[::2] for line in lines[1:]] == [
        ("TIME m@production", "version 1 → 2"),
        ("TIME m@production", "version 2 → 1"),
    ]
    assert re.search(r"^2\S+Z m@production stays at version 1: .* is not what was registered", lines[0])


def test_a_version_that_cannot_be_loaded_leaves_the_old_one_and_is_tried_again(project):
    file = model_file(project, 2)
    content = file.read_bytes()
    file.write_bytes(content[:-100])
    with Server(project) as server:
        point(project, 2)
        health = server.until(lambda: server.health() if server.health()["problems"] else None)
        assert health["status"] == "degraded"
        assert "is not what was registered" in health["problems"]["load"]
        assert server.predict().version == "1"
        assert server.metric("dovetail_load_failures_total") >= 1
        file.write_bytes(content)
        server.until(lambda: server.predict().version == "2")
        server.until(lambda: server.health()["status"] == "ok")


def test_a_version_that_does_not_answer_its_example_leaves_the_old_one(project):
    example = model_file(project, 2).parents[1] / "serving_input_example.json"
    example.write_text(json.dumps({"dataframe_split": {"columns": ["size"], "data": [[1.0]]}}))
    # As one from before packages had a digest: where there is one, the changed example is not even read.
    retag(project.store().client, "m", 2, package=None)
    with Server(project) as server:
        point(project, 2)
        server.until(lambda: "input example" in server.health()["problems"].get("load", ""))
        assert server.metric("dovetail_load_failures_total") >= 1
        assert (server.predict().version, server.ask("/health").status) == ("1", 200)
        point(project, 1)
        server.until(lambda: server.health()["status"] == "ok")


def test_an_artifact_tampered_with_while_it_is_served_is_never_unpickled(project):
    with Server(project) as server:
        model_file(project, 1).write_bytes(b"not a model")
        for copy in (project.root / "mlruns/serving").rglob("m.joblib"):
            copy.write_bytes(b"cos\nsystem\n(S'touch tampered'\ntR.")
        assert server.predict().version == "1"
        os.kill(server.children(MODEL)[0], signal.SIGKILL)  # now it has to be read again
        server.until(lambda: "is not what was registered" in str(server.health()["problems"]))
    assert not (project.root / "tampered").exists()
    with Server(project, wait=False) as server:
        assert server.process.wait(60) == 3
        assert b"is not what was registered" in server.process.stderr.read()


def test_a_copy_tampered_with_is_brought_anew(lasting):
    project, server = lasting
    before = server.metric("dovetail_engine_restarts_total")
    for copy in (project.root / "mlruns/serving").rglob("m.joblib"):
        copy.write_bytes(b"cos\nsystem\n(S'touch tampered'\ntR.")
    os.kill(server.children(MODEL)[0], signal.SIGKILL)
    server.until(lambda: server.metric("dovetail_engine_restarts_total") > before)
    server.until(lambda: server.health()["status"] == "ok")
    assert server.predict().version == "1"
    assert not (project.root / "tampered").exists()


def test_answers_while_the_store_is_away(project):
    store, away = project.root / "mlflow.db", project.root / "away.db"
    store.rename(away)
    failed = project.run("dovetail", "serve", "m", "--port", "0", code=3)
    assert "there is no MLflow store" in failed.stderr
    away.rename(store)
    with Server(project) as server:
        assert server.end() == 0
    store.rename(away)
    with Server(project) as server:  # from the last good copy
        server.until(lambda: "no MLflow store" in server.health()["problems"].get("store", ""))
        assert server.predict().version == "1"
        away.rename(store)
        server.until(lambda: server.health()["status"] == "ok")
        store.rename(away)
        server.until(lambda: server.health()["status"] == "degraded")
        assert server.predict().version == "1"
        shutil.copy(away, store)  # another file, as `dovetail sync` would make it
        point(project, 2)
        server.until(lambda: server.predict().version == "2")
        assert not store.with_name("mlflow.db-journal").exists()


def test_a_process_that_dies_is_replaced(lasting):
    project, server = lasting
    before = server.metric("dovetail_engine_restarts_total")
    with Crowd(server) as crowd:
        for module in (
            MODEL,
            WATCH,
            MODEL,
        ):
            answered = len(crowd.statuses)
            os.kill(server.until(lambda of=module: server.children(of))[0], signal.SIGKILL)
            server.until(lambda since=answered: crowd.statuses[since + 20 :][-1:] == [200])
        point(project, 2)
        server.until(lambda: server.predict().version == "2")
        assert server.metric("dovetail_engine_restarts_total") == before + 2
    assert not crowd.wrong
    assert set(crowd.statuses) <= {200, 503}


def test_sigterm_finishes_what_it_has_begun(project):
    with Server(project, plain=True) as server, contextlib.closing(server.connection()) as connection:
        with server.stopped(MODEL):
            connection.request("POST", "/invocations", json.dumps(SLOW).encode(), {"content-type": "application/json"})
            server.until(lambda: server.metric("dovetail_batch_requests_count") == 1)
            server.process.send_signal(signal.SIGTERM)
        answer = connection.getresponse()
        assert (answer.status, len(json.loads(answer.read())["predictions"])) == (200, 100_000)
        assert server.process.wait(300) == 0
    from dovetail.serving.log.served_rows import read

    assert read(project.root / "monitoring" / "m").num_rows == 100_000  # what waited for the log is in it


def test_too_much_at_once_is_refused_and_not_queued(project):
    with Server(project, "--max-waiting", "2", "--timeout", "20") as server:
        answers = []

        def client():
            answers.append(server.predict(SLOW))

        clients = [threading.Thread(target=client) for _ in range(8)]
        for each in clients:
            each.start()
        for each in clients:
            each.join()
        assert {answer.status for answer in answers} == {200, 503}
        assert {answer.headers.get("retry-after") for answer in answers if answer.status == 503} == {"1"}
        assert server.predict().status == 200


def test_to_wait_long_is_no_reason_to_end_the_process(project):
    """More is asked at once than can be predicted in time, each request by itself with much time to spare."""
    rows = SLOW["dataframe_split"]["data"][:20_000]
    body = json.dumps({"dataframe_split": {"columns": COLUMNS, "data": rows}}).encode()
    with Server(project, "--timeout", "5") as server:
        answers = []

        def client():
            try:
                answers.append(server.predict(body).status)
            except (OSError, http.client.HTTPException):  # told 408 while it sends, and then cut
                answers.append(408)

        clients = [threading.Thread(target=client) for _ in range(200)]
        for each in clients:
            each.start()
        for each in clients:
            each.join()
        assert {200, 503} <= set(answers)
        assert set(answers) <= {200, 408, 503}
        assert server.metric("dovetail_engine_restarts_total") == 0


def test_those_who_wait_outlive_a_process_that_dies(project):
    with Server(project, "--timeout", "180", plain=True) as server:
        answers = []
        clients = [threading.Thread(target=lambda: answers.append(server.predict().status)) for _ in range(6)]
        with server.stopped(MODEL) as pid:
            clients[0].start()
            server.until(lambda: server.metric("dovetail_batch_requests_count") == 1)
            for each in clients[1:]:
                each.start()
            server.until(lambda: server.metric("dovetail_waiting_requests") == len(clients))
            os.kill(pid, signal.SIGKILL)
            for each in clients:
                each.join()
        assert sorted(answers) == [200] * 5 + [503]


def test_those_who_wait_for_a_version_outlive_its_process_though_another_has_taken_over(project):
    with Server(project, "--timeout", "180", plain=True) as server:
        answers = []
        clients = [threading.Thread(target=lambda: answers.append(server.predict())) for _ in range(3)]
        with server.stopped(MODEL) as pid:
            clients[0].start()
            server.until(lambda: server.metric("dovetail_batch_requests_count") == 1)
            for each in clients[1:]:
                each.start()
            server.until(lambda: server.metric("dovetail_waiting_requests") == len(clients))
            point(project, 2)
            server.until(lambda: server.health()["version"] == 2)
            os.kill(pid, signal.SIGKILL)
            for each in clients:
                each.join()
        assert sorted(answer.status for answer in answers) == [200, 200, 503]
        assert {answer.version for answer in answers} == {"1"}
        assert server.health()["status"] == "ok"


def test_running_out_of_files_passes(lasting):
    import resource

    _, server = lasting
    limits = resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE)
    try:
        resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE, (40, limits[1]))
        with contextlib.ExitStack() as stack:
            for _ in range(60):
                connection = stack.enter_context(contextlib.closing(server.connection(seconds=2)))
                with contextlib.suppress(OSError):
                    connection.connect()
            os.kill(server.children(MODEL)[0], signal.SIGKILL)
            time.sleep(2)

        def is_well():
            try:
                return server.predict().status == 200
            except (OSError, http.client.HTTPException):  # what was closed is not known to the server yet
                return False

        assert server.until(is_well)
    finally:
        resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE, limits)


def test_a_prediction_that_overruns_its_time_is_given_up(project):
    with Server(project, "--timeout", "10", plain=True) as server, server.stopped(MODEL):
        answer = server.predict()
        assert answer.status == 503, answer.body
        assert "in time" in answer.json["message"]
        server.until(lambda: server.predict().status == 200)
        assert server.metric("dovetail_engine_restarts_total") == 1


def test_a_log_that_cannot_be_written_costs_no_answer(project):
    project.write("monitoring/m", "in the way")
    with Server(project) as server:
        assert {server.predict().status for _ in range(5)} == {200}
        problem = server.until(lambda: server.health()["problems"].get("log"))
        assert "monitoring/m: File exists" in problem
        assert server.metric("dovetail_log_dropped_rows") >= 4
        (project.root / "monitoring/m").unlink()
        server.until(lambda: server.health()["status"] == "ok")  # without another request
        server.predict()
        server.until(lambda: logged(project))
        assert any((project.root / "monitoring/m").rglob("*.parquet"))


def logged(project):
    """The requests whose rows the log holds."""
    from dovetail.serving.log.served_rows import read

    return {row["request_id"] for row in read(project.root / "monitoring" / "m").to_pylist()}


def test_a_killed_server_leaves_a_log_that_can_be_read_and_nothing_running(project):
    import psutil

    with Server(project) as server:
        asked = {server.predict().headers["x-request-id"] for _ in range(20)}
        server.until(lambda: logged(project) == asked)
        last = server.predict().headers["x-request-id"]
        children = [psutil.Process(pid) for pid in server.children("dovetail.serving")]
        server.process.kill()
    assert asked <= logged(project) <= {*asked, last}
    assert not psutil.wait_procs(children, timeout=60)[1]
