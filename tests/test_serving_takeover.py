"""A server that replaces another one on its port: nobody is refused, and who does not come up replaces nobody."""

import contextlib
import http.client
import shutil
import socket
import threading
import time
from pathlib import Path

import psutil
import pytest
import templates
from project import copy_of, free_port
from serving import SPLIT, Hold, Server, ask, point
from test_serving_faults import SLOW, Crowd, model_file

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def _project(tmp_path_factory):
    return copy_of(templates.served(tmp_path_factory), tmp_path_factory.mktemp("takeover") / "p")


@pytest.fixture
def project(_project, tmp_path_factory):
    """A project whose servers wait for one another in a folder of the test's own."""
    point(_project, 1)
    _project.env["XDG_RUNTIME_DIR"] = str(tmp_path_factory.mktemp("run"))
    return _project


class Visitors(Crowd):
    """As a crowd, each request on a connection of its own."""

    def _client(self):
        while not self._over.is_set():
            try:
                answer = self._server.predict()
            except (OSError, http.client.HTTPException) as error:
                self.wrong.append(error)
                return
            self.statuses.append(answer.status)
            self.versions.append(answer.version)
            time.sleep(0.005)


def successor(project, server, *args, **more):
    return Server(project, "--port", str(server.port), "--takeover", *args, **more)


def waiting(project):
    """The sockets at which servers wait for another one."""
    return [path.name for path in Path(project.env["XDG_RUNTIME_DIR"], "dovetail").glob("*")]


@pytest.mark.parametrize(("workers", "versions"), [("1", ["2", "1"]), ("2", ["2"])])
def test_no_request_is_refused_or_lost_while_one_replaces_the_other(project, workers, versions):
    with contextlib.ExitStack() as stack:
        servers = [stack.enter_context(Server(project, "--workers", workers))]
        crowds = [stack.enter_context(kind(servers[0], 3)) for kind in (Crowd, Visitors)]
        for version in versions:
            time.sleep(0.3)
            servers.append(
                stack.enter_context(successor(project, servers[0], "--workers", workers, ref=f"m/{version}"))
            )
            before = servers[-2].process
            assert servers[0].predict().version == version  # as soon as it says that it answers, nobody else does
            assert before.wait(30) == 0
            assert f"is served by process {servers[-1].process.pid} now" in before.stderr.read().decode()
        for crowd in crowds:
            crowd.__exit__()
        assert [crowd.wrong for crowd in crowds] == [[], []]
        assert {status for crowd in crowds for status in crowd.statuses} == {200}
        assert all(set(crowd.versions) == {"1", "2"} for crowd in crowds)
        assert waiting(project) == [f"127.0.0.1-{servers[0].port}.sock"]
        assert servers[-1].end() == 0
    assert waiting(project) == []


def test_what_was_begun_is_answered_by_the_old_one_and_its_idle_connections_are_not_cut(project):
    with Server(project) as old, contextlib.closing(old.connection()) as idle:
        assert ask(idle, "/version").status == 200
        answers = []
        slow = threading.Thread(target=lambda: answers.append(old.predict(SLOW)))
        slow.start()
        with successor(project, old, ref="m/2", wait=False) as new:
            while (late := ask(idle, "/invocations", SPLIT)).headers.get("connection") != "close":
                time.sleep(0.5)  # a connection that is idle for five seconds is cut
            assert (late.status, late.version) == (200, "1")
            new.hear()
            slow.join()
            assert [(answer.status, answer.version) for answer in answers] == [(200, "1")]
            assert (old.process.wait(30), new.predict().version) == (0, "2")


def test_one_that_does_not_come_up_leaves_the_old_one_serving(project):
    file = model_file(project, 2)
    content = file.read_bytes()
    shutil.rmtree(project.root / "mlruns/serving/m@2", ignore_errors=True)  # the copy that another test left
    with Server(project) as old, Crowd(old, 2) as crowd:
        file.write_bytes(content[:-100])
        try:
            failed = successor(project, old, ref="m/2", wait=False)
            with failed:
                assert failed.process.wait(60) == 3
                assert failed.process.stderr.read().decode().count("\n") == 1
            killed = successor(project, old, wait=False)
            with killed:
                time.sleep(0.5)
                killed.process.kill()
                killed.process.wait(10)
        finally:
            file.write_bytes(content)
        assert old.predict().version == "1"
        with successor(project, old) as new:  # what failed stands in nobody's way
            assert old.process.wait(30) == 0
            crowd.__exit__()
            assert (crowd.wrong, set(crowd.statuses)) == ([], {200})
            assert new.predict().status == 200


def test_of_two_at_once_one_replaces_the_old_one_and_the_other_says_so(project, tmp_path):
    hold = Hold(tmp_path / "hold")
    with Server(project) as old, Crowd(old, 2) as crowd, contextlib.ExitStack() as stack:
        with hold:
            first = stack.enter_context(successor(project, old, wait=False, **hold.env))
            until_it_listens(first, old.port)
            with successor(project, old, wait=False) as second:
                assert second.process.wait(60) == 3
                assert "another server is about to take over" in second.process.stderr.read().decode()
        assert old.process.wait(60) == 0
        crowd.__exit__()
        assert (crowd.wrong, set(crowd.statuses)) == ([], {200})


def test_where_the_old_one_is_killed_meanwhile_its_clients_wait_for_the_new_one(project):
    with Server(project) as old, successor(project, old, wait=False) as new:
        until_it_listens(new, old.port)
        old.process.kill()
        old.process.wait(10)
        new.port = old.port
        assert new.predict().status == 200  # it connects at once and is answered once there is somebody to do so
        new.until(lambda: new.health()["status"] == "ok")


def until_it_listens(server, port):
    """Wait until the server's process has a socket that listens on the port."""
    process, end = psutil.Process(server.process.pid), time.monotonic() + 60
    while (psutil.CONN_LISTEN, port) not in {(each.status, each.laddr.port) for each in process.net_connections("tcp")}:
        assert time.monotonic() < end
        time.sleep(0.02)


def test_starts_where_nobody_serves_and_refuses_what_it_cannot_take(project):
    port = free_port()
    with Server(project, "--port", str(port), "--takeover") as first:
        first.process.kill()  # its socket file stays
        first.process.wait(10)
        assert len(waiting(project)) == 1
        with Server(project, "--port", str(port), "--takeover") as second:
            assert second.predict().status == 200

    def refused(*args, code=3):
        done = project.run("dovetail", "serve", "m", *args, "--takeover", code=code)
        assert done.stderr.count("\n") == 1
        return done.stderr

    with socket.create_server(("127.0.0.1", 0)) as other:
        assert "by another program" in refused("--port", str(other.getsockname()[1]))
    assert "port 0" in refused("--port", "0", code=2)
    Path(project.env["XDG_RUNTIME_DIR"], "dovetail").chmod(0o755)
    assert "alone can enter" in refused("--port", str(port))
