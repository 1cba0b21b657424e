"""Clients that mean harm, or are broken: what they cost is bounded, and nobody else waits for them."""

import contextlib
import io
import json
import socket
import threading
import time

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from project import isolate
from serving import COLUMNS, ROWS, SPLIT, Server, served_project

PARQUET = {"content-type": "application/vnd.apache.parquet"}


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        isolate(tmp_path_factory, patch)
        yield served_project(tmp_path_factory.mktemp("served") / "p")


@pytest.fixture(scope="module")
def server(project):
    with Server(project, "--timeout", "6", "--poll", "5", DOVETAIL_SERVE_TOKENS="secret") as running:
        running.plain_ask = running.ask
        running.ask = lambda path, body=None, headers=None, **more: running.plain_ask(
            path, body, {"authorization": "Bearer secret", **(headers or {})}, **more
        )
        assert running.ask("/invocations", SPLIT).status == 200  # the first one writes the log, which imports much:
        running.until(lambda: list((project.root / "monitoring/m/predictions").glob("*.parquet")))
        for kind in ("text/csv", PARQUET["content-type"]):  # and the processes that read bodies import much, too
            running.until(lambda of=kind: running.ask("/invocations", b"x", {"content-type": of}).status < 500)
        yield running


@contextlib.contextmanager
def connected(server):
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection:
        yield connection


def received(connection):
    """All that comes until the server closes."""
    content = b""
    with contextlib.suppress(ConnectionError):
        while part := connection.recv(1 << 16):
            content += part
    return content


def request(body=b"", path="/invocations", more=b""):
    method = b"POST" if body else b"GET"
    length = b"content-type: application/json\r\ncontent-length: %d\r\n" % len(body) if body else b""
    head = b"%s %s HTTP/1.1\r\nhost: x\r\nauthorization: Bearer secret\r\n" % (method, path.encode())
    return head + length + more + b"\r\n" + body


BODY = json.dumps(SPLIT).encode()


def memory(server):
    return psutil.Process(server.process.pid).memory_info().rss >> 20


def answers_while_nobody_waits(server, *asked, most=0.2):
    """What it answers to a request that is repeated while another client asks 50 times.

    Others wait while the process in front is at work: for each of the requests a short time of a core.
    """
    waits, answers, front = [], [], psutil.Process(server.process.pid)
    before = sum(front.cpu_times()[:2])

    def client():
        for _ in range(50):
            began = time.perf_counter()
            assert server.ask("/health").status == 200
            waits.append(time.perf_counter() - began)
            time.sleep(0.01)

    thread = threading.Thread(target=client)
    thread.start()
    while thread.is_alive():
        answers.append(server.ask(*asked).status)
    print(f"longest wait of another client: {max(waits):.3f} s, beside {len(answers)} requests")
    assert len(waits) == 50
    assert (sum(front.cpu_times()[:2]) - before) / len(answers) < most
    return set(answers)


HEADS = {
    "many lines": b"GET /ping HTTP/1.1\r\n" + b"a: b\r\n" * 102,
    "large lines": b"GET /ping HTTP/1.1\r\n" + b"a: " + b"b" * 65_000 + b"\r\nc: " + b"d" * 1000 + b"\r\n",
    "a long path": b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\n",
    "a line without end": b"GET /ping HTTP/1.1\r\na: " + b"b" * 400_000,
}


@pytest.mark.parametrize("case", HEADS)
def test_a_large_head_is_refused_before_the_token_is_asked_for(server, case):
    with connected(server) as connection:
        connection.sendall(HEADS[case])
        said = received(connection)
    assert said.startswith(b"HTTP/1.1 431 ")
    assert json.loads(said.partition(b"\r\n\r\n")[2])["field"] == "headers"


def test_a_head_as_large_as_allowed_is_answered(server):
    lines = b"".join(b"x-%02d: %s\r\n" % (number, b"v" * 600) for number in range(90))
    with connected(server) as connection:
        connection.sendall(b"GET /ping HTTP/1.1\r\nhost: x\r\nconnection: close\r\n" + lines + b"\r\n")
        assert received(connection).startswith(b"HTTP/1.1 200 ")
    large = json.dumps({"dataframe_split": {"columns": COLUMNS, "data": ROWS * 1000}}).encode()
    with connected(server) as connection:  # a body does not count, nor what comes behind it
        connection.sendall(request(large) + request(large, more=b"connection: close\r\n"))
        assert received(connection).count(b"HTTP/1.1 200 ") == 2


def test_header_lines_without_end_cost_no_memory(server):
    before = memory(server)
    with contextlib.ExitStack() as stack:
        connections = [stack.enter_context(connected(server)) for _ in range(3)]
        for connection in connections:
            connection.sendall(b"GET /ping HTTP/1.1\r\n")
        sent = 0
        for _ in range(200):
            for connection in connections:
                with contextlib.suppress(OSError):
                    sent += connection.send(b"a: b\r\n" * 20_000)
    print(f"{sent >> 20} MiB of header lines: {memory(server) - before} MiB")
    assert memory(server) - before < 30


def test_what_is_sent_behind_a_request_is_bounded(server):
    before = memory(server)
    with connected(server) as connection:
        connection.sendall(request(BODY) + request(path="/ping") * 3000)
        said = received(connection)
    assert 1 < said.count(b"HTTP/1.1 200 ") <= 20
    assert b"connection: close" in said
    assert memory(server) - before < 30
    with connected(server) as connection:  # a few are answered in order
        connection.sendall(request(BODY) + request(path="/version") + request(BODY, more=b"connection: close\r\n"))
        assert received(connection).count(b"HTTP/1.1 200 ") == 3


def test_who_has_said_all_is_answered(server):
    with connected(server) as connection:
        connection.sendall(request(BODY))
        connection.shutdown(socket.SHUT_WR)
        said = received(connection)
    assert said.startswith(b"HTTP/1.1 200 ")
    assert b'"predictions"' in said
    with connected(server) as connection:  # and who breaks off is let go
        connection.sendall(request(BODY)[:-10])
        connection.shutdown(socket.SHUT_WR)
        began = time.monotonic()
        received(connection)
        assert time.monotonic() - began < 25  # it has 30 to ask


@pytest.mark.slow
def test_who_reads_nothing_is_let_go(server):
    large = json.dumps({"dataframe_split": {"columns": COLUMNS, "data": ROWS * 20_000}}).encode()
    before = len(psutil.Process(server.process.pid).net_connections())
    with contextlib.ExitStack() as stack:
        for _ in range(4):
            connection = stack.enter_context(connected(server))
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.sendall(request(large) * 2)
        server.until(lambda: len(psutil.Process(server.process.pid).net_connections()) > before)
        server.until(lambda: len(psutil.Process(server.process.pid).net_connections()) <= before, 60)
        assert server.predict().status == 200


@pytest.mark.slow
def test_an_empty_line_now_and_then_keeps_no_connection(server):
    with connected(server) as connection:
        connection.sendall(request(path="/ping"))
        began = time.monotonic()
        with contextlib.suppress(OSError):
            while time.monotonic() - began < 120:
                connection.sendall(b"\r\n")
                time.sleep(0.5)
        assert time.monotonic() - began < 60


BODIES = {
    "tiny lists": b'{"inputs":{"a":[' + b",".join([b"[]"] * 1_900_000) + b"]}}",
    "tiny lists, nested": b'{"inputs":' + b"[[[]]," * 900_000 + b"0]",
    "tiny objects": b'{"inputs":{"a":[' + b",".join([b"{}"] * 1_900_000) + b"]}}",
    "many numbers": b'{"inputs":{"a":[' + b",".join([b"1"] * 6_000_000) + b"]}}",
    "labels": b'{"request_id":"%s","labels":[' % (b"0" * 32) + b",".join([b"[]"] * 1_900_000) + b"]}",
}


@pytest.mark.parametrize("case", BODIES)
def test_nobody_waits_for_a_body_of_millions_of_values(server, case):
    path = "/feedback" if case == "labels" else "/invocations"
    before = memory(server)
    assert answers_while_nobody_waits(server, path, BODIES[case]) <= {400, 422}
    print(f"{case}: {memory(server) - before} MiB")
    assert memory(server) - before < 3 * 16


@pytest.mark.slow
def test_parquet_that_unpacks_to_much_is_refused_cheaply(server):
    target = io.BytesIO()
    with pq.ParquetWriter(target, pa.schema([("color", pa.string())]), compression="zstd") as writer:
        for place in range(1000):
            writer.write_table(pa.table({"color": [f"{place:04}" * (1 << 18)]}))
    before = memory(server)
    assert answers_while_nobody_waits(server, "/invocations", target.getvalue(), PARQUET) == {413}
    print(f"{memory(server) - before} MiB")
    assert memory(server) - before < 48


def test_feedback_is_about_an_answer_that_was_given(server, project):
    given = server.predict().headers["x-request-id"]
    assert server.ask("/feedback", {"request_id": given, "labels": ["one:yes", None]}).status == 202
    foreign = server.ask("/feedback", {"request_id": "0" * 32, "labels": ["one:yes"]})
    assert (foreign.status, foreign.json["field"]) == (404, "request_id")
    changed = given[:-1] + ("0" if given[-1] != "0" else "1")
    assert server.ask("/feedback", {"request_id": changed, "labels": ["one:yes"]}).status == 404
    more = server.ask("/feedback", {"request_id": given, "labels": ["one:yes"] * (len(ROWS) + 1)})
    assert (more.status, more.json["message"]) == (422, "5 labels for 4 rows")
    other = server.ask("/feedback", {"request_id": given, "labels": ["one:yes", 5]})
    assert (other.status, other.json["message"]) == (422, "labels, row 1: expected text or null, got 5")
    with Server(project) as another:  # whoever serves the same project knows the id
        assert another.ask("/feedback", {"request_id": given, "labels": ["one:no"]}).status == 202
