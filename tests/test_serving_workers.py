"""A server with several model processes behind one front: the guarantees of one, and what a lost process costs."""

import os
import signal
import time

import psutil
import pytest
import templates
from project import copy_of
from serving import SPLIT, Hold, Server, matching, point
from test_serving_faults import SLOW, Crowd

pytestmark = pytest.mark.slow
FORK_SERVER = "dovetail.serving.engine.fork_server"


@pytest.fixture(scope="module")
def _running(tmp_path_factory):
    project = copy_of(templates.served(tmp_path_factory), tmp_path_factory.mktemp("workers") / "p")
    hold = Hold(project.root.with_name("hold"))
    with Server(project, "--workers", "2", **hold.env) as server:
        yield project, server, hold


@pytest.fixture
def hold(_running):
    """What keeps a new worker of the pair from reading its model."""
    return _running[2]


@pytest.fixture
def pair(_running):
    """A project and a server of it with two workers, well and of version 1."""
    project, server, _ = _running
    point(project, 1)
    server.until(lambda: server.predict().version == "1")
    server.until(lambda: (server.health()["status"], len(workers(server))) == ("ok", 2))
    return project, server


def workers(server):
    """The process ids of those that hold a model; the fork server itself holds none."""
    found = psutil.Process(server.process.pid).children(recursive=True)
    return [child.pid for child in matching(found, lambda child: child.name() == "dovetail-worker")]


def test_follows_the_alias_without_one_failed_or_mixed_answer(pair):
    project, server = pair
    with Crowd(server) as crowd:
        for version in (2, 1, 2):
            point(project, version)
            server.until(lambda to=version: server.predict().version == str(to))
            time.sleep(0.3)
    assert not crowd.wrong
    assert set(crowd.statuses) == {200}
    assert set(crowd.versions) == {"1", "2"}
    assert server.health()["workers"] == 2


def test_a_worker_that_is_killed_costs_only_what_it_was_asked_and_is_replaced(pair):
    _, server = pair
    before = server.metric("dovetail_engine_restarts_total")
    with Crowd(server) as crowd:
        for number in range(2):
            was = workers(server)
            answered = len(crowd.statuses)
            os.kill(was[number], signal.SIGKILL)
            server.until(lambda since=answered: crowd.statuses[since + 5 :][-1:] == [200])  # the other one answers
            assert server.ask("/ready").status == 200
            server.until(lambda of=was: len(set(workers(server)) - set(of)) == 1 and server.health()["workers"] == 2)
    assert not crowd.wrong  # 200, or 503 with Retry-After
    assert crowd.statuses.count(503) <= 2 * 6
    assert server.metric("dovetail_engine_restarts_total") == before + 2


def test_workers_come_again_after_their_fork_server_is_lost(pair):
    _, server = pair
    was = workers(server)
    (parent,) = {psutil.Process(pid).ppid() for pid in was}
    os.kill(parent, signal.SIGKILL)
    server.until(lambda: len(workers(server)) == 2 and not set(workers(server)) & set(was))
    server.until(
        lambda: not any(map(psutil.pid_exists, was))
    )  # they are nobody's children by now, and die a moment later
    server.until(lambda: server.health()["workers"] == 2)
    assert server.predict().status == 200


def test_a_version_that_loads_in_one_worker_and_not_in_the_other_is_not_switched_to(pair, hold):
    project, server = pair
    old, failures = workers(server), server.metric("dovetail_load_failures_total")
    with Crowd(server, clients=1) as crowd:  # of two one may note its answer late
        with hold:
            point(project, 2)
            new = server.until(lambda: found if len(found := sorted(set(workers(server)) - set(old))) == 2 else None)
            os.kill(new[1], signal.SIGKILL)
            server.until(lambda: server.metric("dovetail_load_failures_total") > failures)
            assert (server.predict().version, sorted(set(workers(server)) & set(old))) == ("1", sorted(old))
        server.until(lambda: not set(new) & set(workers(server)))  # the one that loaded does not answer alone
        server.until(lambda: server.predict().version == "2")
    assert not crowd.wrong
    assert set(crowd.statuses) == {200}
    assert crowd.versions == sorted(crowd.versions)  # first 1, then 2, and never back
    assert server.health()["workers"] == 2


def test_one_long_prediction_leaves_the_other_worker_to_the_rest(pair):
    import threading

    _, server = pair
    answers = []
    batches, pids = server.metric("dovetail_batch_requests_count"), workers(server)
    clients = [threading.Thread(target=lambda body=body: answers.append(server.predict(body).status))
               for body in (SLOW, SPLIT)]  # fmt: skip
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        for number, client in enumerate(clients, 1):
            client.start()
            server.until(lambda so_far=batches + number: server.metric("dovetail_batch_requests_count") == so_far)
        assert answers == []  # both are under way at once
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)
    for client in clients:
        client.join()
    assert answers == [200, 200]


def test_workers_share_the_libraries_memory(pair):
    _, server = pair
    own = [psutil.Process(pid).memory_full_info().uss for pid in workers(server)]
    shared = [psutil.Process(pid).memory_full_info().rss for pid in workers(server)]
    assert max(own) < min(shared) / 2, (own, shared)


def test_the_log_holds_what_all_workers_answered_and_nothing_runs_after_a_kill(tmp_path_factory, tmp_path):
    from dovetail.serving.log.served_rows import read

    project = copy_of(templates.served(tmp_path_factory), tmp_path / "p")
    with Server(project, "--workers", "2") as server:
        with Crowd(server) as crowd:
            server.until(lambda: len(crowd.statuses) > 100)
        asked = len(crowd.statuses)
        assert server.end() == 0
        assert read(project.root / "monitoring" / "m").num_rows == 4 * asked
    with Server(project, "--workers", "2") as server:
        children = psutil.Process(server.process.pid).children(recursive=True)
        server.process.kill()
        assert not psutil.wait_procs(children, timeout=60)[1]
