"""Whether a server lives, and whether requests are to be sent to it: two questions with two answers."""

import asyncio
import contextlib
import os
import signal
import sys

import psutil
import pytest
import templates
from project import copy_of, free_port
from serving import Hold, Server, ask, point

MODEL = "dovetail.serving.engine.model_process"
PROBES = ("/health", "/ready", "/ping")


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    return copy_of(templates.served(tmp_path_factory), tmp_path_factory.mktemp("ready") / "p")


@pytest.fixture
def hold(tmp_path):
    return Hold(tmp_path / "hold")


def test_servers_with_one_key_take_feedback_on_each_others_answers(tmp_path, monkeypatch):
    from dovetail.serving.http.request_ids import RequestIds
    from dovetail.serving.protocol.refused import Refused

    apart = [RequestIds(tmp_path / name) for name in "ab"]
    with pytest.raises(Refused):
        apart[0].check(apart[1].make(1, "m"), 1, "m")
    monkeypatch.setenv("DOVETAIL_SERVE_ID_KEY", "a long text")
    together = [RequestIds(tmp_path / name) for name in "ab"]
    together[0].check(together[1].make(1, "m"), 1, "m")
    with pytest.raises(Refused, match="not one that this server gave for n"):
        together[0].check(together[1].make(1, "m"), 1, "n")
    monkeypatch.setenv("DOVETAIL_SERVE_ID_KEY", "another text")
    with pytest.raises(Refused):
        RequestIds(tmp_path / "a").check(together[1].make(1, "m"), 1, "m")


def test_what_a_library_prints_beside_the_process_that_watches_is_no_message():
    from dovetail.serving.engine.alias_listener import _listen_once
    from dovetail.serving.engine.health import Health
    from dovetail.serving.metrics import Metrics

    heard = []
    said = (
        'print("x" * 100_000); print("words"); print(1); print("{}"); print("[]"); print(\'{"found": {"version": 1}}\')'
    )
    asyncio.run(_listen_once([sys.executable, "-c", said], Health(Metrics()), heard.append))
    assert heard == [{"found": {"version": 1}}]


@pytest.mark.slow
def test_what_its_libraries_print_does_not_reach_the_messages_of_the_process_that_watches(project, tmp_path):
    """Not even what has no end, or looks like a message."""
    (tmp_path / "sitecustomize.py").write_text(
        "import sys\n"
        "if 'dovetail.serving.engine.alias_watch' in sys.orig_argv:\n"
        "    from dovetail.system import telemetry\n"
        "    send = telemetry.send_nothing\n"
        "    telemetry.send_nothing = lambda: (send(), print('{\"found\": ' + 'x' * (2 << 20), end='', flush=True))\n"
    )
    with Server(project, PYTHONPATH=str(tmp_path)) as server:
        assert server.until(lambda: server.health()["status"] == "ok")
        (watch,) = server.children("alias_watch")
        server.until(lambda: psutil.Process(watch).nice() == 10)  # who is answered comes before another look
        point(project, 2)
        try:
            server.until(lambda: server.predict().version == "2")
        finally:
            point(project, 1)


def probed(server):
    return tuple(server.ask(path).status for path in PROBES)


def reached(server):
    with contextlib.suppress(ConnectionRefusedError):
        return probed(server)


@pytest.mark.slow
def test_lives_before_a_version_answers_and_is_ready_only_then(project, hold):
    with contextlib.ExitStack() as stack:
        with hold:
            server = stack.enter_context(Server(project, "--port", str(port := free_port()), wait=False, **hold.env))
            server.port = port
            assert server.until(lambda: reached(server), 60) == (200, 503, 503)
            refused, early = server.predict(), server.ask("/ready").json["status"]
            assert (refused.status, refused.headers["retry-after"], early) == (503, "1", "starting")
        seen = []
        while (200, 200, 200) not in seen:
            seen.append(probed(server))
        assert set(seen) <= {(200, 503, 503), (200, 503, 200), (200, 200, 200)}
        assert server.ask("/ready").json == {"status": "ready"}


def test_is_not_ready_and_lives_while_it_drains(project):
    with Server(project, "--drain", "60") as server, contextlib.closing(server.connection()) as kept:
        assert ask(kept, "/ping").status == 200
        server.process.send_signal(signal.SIGTERM)
        answer = server.until(lambda: found if (found := server.ask("/ready")).status == 503 else None)
        assert answer.json == {"status": "draining"}
        assert (server.ask("/health").status, server.predict().status) == (200, 200)
        assert ask(kept, "/ping").headers["connection"] == "close"  # so that its next request goes elsewhere
        assert server.end() == 0  # asked twice, it ends at once


@pytest.mark.slow
def test_is_not_ready_and_lives_while_its_process_is_started_again(project, hold):
    with Server(project, **hold.env) as server:
        with hold:
            os.kill(server.children(MODEL)[0], signal.SIGKILL)
            answer = server.until(lambda: found if (found := server.ask("/ready")).status == 503 else None)
            assert (answer.json, server.ask("/health").status) == ({"status": "restarting"}, 200)
        server.until(lambda: server.ask("/ready").status == 200)
        assert server.predict().status == 200


def test_does_not_live_once_a_part_has_ended_that_nothing_starts_again(tmp_path):
    from dovetail.serving.engine.body_reader import BodyReader
    from dovetail.serving.engine.follower import Follower
    from dovetail.serving.http.app import App
    from dovetail.serving.http.model_routes import ModelRoutes, Shared
    from dovetail.serving.http.request_ids import RequestIds
    from dovetail.serving.metrics import Metrics
    from dovetail.serving.settings import Settings

    async def broken():
        raise RuntimeError("not foreseen")

    async def statuses():
        settings, metrics, sent = Settings(tmp_path, "m", "production"), Metrics(), []
        follower = Follower(settings, metrics)
        shared = Shared(settings.options, BodyReader(settings.options), RequestIds(tmp_path))
        app = App([ModelRoutes(settings, follower, None, shared)], shared, metrics, ())

        async def send(message):
            sent.append(message.get("status"))

        for work in (None, broken()):
            if work:
                follower._begin(work)  # noqa: SLF001  (none of its tasks ends so by anything that is known)
                await asyncio.sleep(0.01)
            await app({"type": "http", "path": "/health", "method": "GET", "headers": []}, None, send)
        return [status for status in sent if status]

    assert asyncio.run(statuses()) == [200, 503]
