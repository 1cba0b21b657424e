"""The prediction log in a bucket of a real S3 server: several writers, faults of the server, and who reads it."""

import json
import secrets
import time
from datetime import UTC, datetime, timedelta

import deltalake
import obstore
import pytest
import templates
from project import copy_of
from refusing_s3 import refusing_s3
from s3_server import BUCKET, KEYS, is_there, s3_server
from serving import ROWS, Server

from dovetail.errors import UserError
from dovetail.serving.log import delta, object_store, prediction_log, served_rows
from dovetail.serving.log.location import ENV_LOG, S3Folder, log_folder
from dovetail.serving.log.prediction_log import PredictionLog, Served

pytestmark = [pytest.mark.stack, pytest.mark.slow, is_there]


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    with s3_server(tmp_path_factory.mktemp("s3")) as address:
        yield address


@pytest.fixture(name="s3")
def _s3(real, monkeypatch):
    """How the server of S3 fails, when it is to."""
    with refusing_s3(real) as (address, fails):
        for name, value in {**KEYS, "AWS_ENDPOINT_URL": address}.items():
            monkeypatch.setenv(name, value)
        yield fails


@pytest.fixture
def place(s3):  # noqa: ARG001
    """A place for the log of a model whose name is not easy to write."""
    return S3Folder(f"s3://{BUCKET}/logs {secrets.token_hex(4)}/größe #1 100%")


def one(number, at=None):
    at = time.time() if at is None else at.timestamp()
    return Served(f"r{number}", at, 1, "predict", {"x": [1.5]}, b'["a"]')


def until(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.05)


def ids(place):
    return sorted(served_rows.read(place)["request_id"].to_pylist())


def test_two_servers_that_write_and_tidy_at_once_while_answers_get_lost_log_each_row_once(place, s3):
    logs = [PredictionLog(place, flush_seconds=0.02) for _ in range(2)]
    tidier = delta.Tables(place)
    for number in range(240):
        s3["loses"] = number % 60 > 55  # what was committed, and a merge as well, is not heard of
        logs[number % 2].served(one(number))
        time.sleep(0.02)
        if number % 60 == 59:
            until(lambda number=number: s3["times"] > number // 60)  # however slow the machine is, one was lost
        if number % 20 == 19:
            try:
                tidier.tidy(None, thoroughly=False)
            except OSError:
                assert s3["loses"]
    s3["loses"] = False
    for log in logs:
        log.close()
    assert [(log.problem, log.dropped) for log in logs] == [(None, 0)] * 2
    assert ids(place) == sorted(f"r{number}" for number in range(240))
    assert s3["times"] >= 4
    assert len(list(delta.files(place, "predictions"))) < 20
    table = deltalake.DeltaTable(
        (place / "predictions.delta/v1").url, storage_options=object_store.delta_options(place)
    )
    assert sorted(table.to_pyarrow_table()["request_id"].to_pylist()) == ids(place)  # as others read it


def test_a_server_that_is_away_costs_no_row_that_there_was_room_for(place, s3, caplog):
    log = PredictionLog(place, flush_seconds=0.02, max_rows=20)
    log.served(one(0))
    until(lambda: ids(place) == ["r0"])
    s3["with"] = 503, "SlowDown"
    for number in range(1, 31):
        log.served(one(number))
    lost = log.dropped
    assert lost in (10, 11)  # the first one may wait still to be struck off
    until(lambda: log.problem)
    s3["with"] = None
    until(lambda: log.problem is None)
    log.served(one("last"))
    log.close()
    assert log.dropped == lost
    assert ids(place) == sorted([*(f"r{number}" for number in range(31 - lost)), "rlast"])
    assert [line for line in caplog.messages if "503" in line]
    said = f"the prediction log {place} lacks {lost} rows: more came at once than could be written"
    assert caplog.messages[-1] == said


def test_a_table_that_cannot_be_written_keeps_no_other_waiting(place):
    log = PredictionLog(place, flush_seconds=0.02)
    log.served(one(0))
    until(lambda: ids(place) == ["r0"])
    path = f"_delta_log/{1:020}.json"
    protocol = {"protocol": {"minReaderVersion": 1, "minWriterVersion": 99}}  # as somebody else's tool may set it
    obstore.put(object_store.opened(place / "predictions.delta/v1"), path, json.dumps(protocol).encode())
    log.served(one(1))
    until(lambda: log.problem)
    log.served(Served("other", time.time(), 2, "predict", {"x": [1.5]}, b'["a"]'))
    log.labelled("other", ["b"], time.time())
    log.served(one(2))
    until(lambda: "other" in ids(place))
    assert served_rows.read(place, version=2)["label"].to_pylist() == ["b"]
    assert (log.dropped, bool(log.problem)) == (0, True)
    log.close()
    assert log.dropped == 2


def test_logs_that_end_while_s3_is_away_end_together(place, s3, monkeypatch):
    monkeypatch.setattr(prediction_log, "_CLOSE_SECONDS", 10)
    logs = [PredictionLog(place / name, flush_seconds=0.02) for name in ("m", "n", "o")]
    s3["with"] = 503, "SlowDown"
    for log in logs:
        log.served(one(0))
    start = time.monotonic()
    for log in logs:
        log.end()
    for log in logs:
        log.close()
    assert time.monotonic() - start < 25  # not thrice ten
    assert [log.dropped for log in logs] == [1, 1, 1]
    s3["with"] = None


def test_what_s3_does_not_take_in_time_when_a_server_ends_is_counted_and_said(place, s3, caplog):
    log = PredictionLog(place, flush_seconds=0.02)
    log.served(one(0))
    until(lambda: ids(place) == ["r0"])
    s3["with"] = 403, "AccessDenied"
    log.served(one(1))
    until(lambda: log.problem)
    log.served(one(2))
    start = time.monotonic()
    log.close()
    assert time.monotonic() - start < 25
    assert log.dropped == 2
    assert f"the prediction log {place} lacks 2 rows: " in caplog.messages[-1]
    assert "AccessDenied" in caplog.messages[-1]


def test_columns_of_dates_do_not_keep_a_table_from_being_tidied(place):
    for number in range(4):
        log = PredictionLog(place, flush_seconds=600)
        day = {"day": [datetime(2026, 3, 1 + number)]}  # noqa: DTZ001  (as models get them)
        log.served(Served(f"r{number}", time.time(), 1, "predict", day, b'["a"]'))
        log.close()
        assert (log.problem, log.dropped) == (None, 0)
    ((file, _),) = delta.files(place, "predictions")
    assert file.rows == len(ids(place)) == 4


def test_what_is_older_than_it_is_kept_goes_while_others_write(place):
    now = datetime.now(UTC)
    for ago in (95, 85):
        log = PredictionLog(place, flush_seconds=600)
        log.served(one(ago, now - timedelta(days=ago)))
        log.labelled(f"r{ago}", ["b"], (now - timedelta(days=ago)).timestamp())
        log.close()
    assert ids(place) == ["r85", "r95"]
    log, other = PredictionLog(place, flush_seconds=0.02, keep=timedelta(days=90)), delta.Tables(place)
    for number in range(5):
        log.served(one(number))
        other.tidy(timedelta(days=90), thoroughly=True)
    log.close()
    assert ids(place) == ["r0", "r1", "r2", "r3", "r4", "r85"]
    assert served_rows.read(place)["label"].drop_null().to_pylist() == ["b"]


def test_a_server_of_s3_on_which_two_commits_could_be_one_is_refused(s3, place, small, monkeypatch):
    s3["forgets"] = True
    with pytest.raises(UserError, match="ignores If-None-Match"):
        object_store.check(place)
    monkeypatch.setenv(ENV_LOG, f"s3://{BUCKET}/logs/")
    said = small.run("dovetail", "serve", "m", code=2).stderr
    assert said.endswith(f"next: unset {ENV_LOG}\n")
    assert said.count("\n") == 1
    monkeypatch.delenv(ENV_LOG)
    assert "If-None-Match" not in small.run("dovetail", "serve", "m", code=None).stderr  # nothing is registered here


def test_a_name_that_deltalake_reads_as_another_is_refused(small, monkeypatch):
    monkeypatch.setenv(ENV_LOG, f"s3://{BUCKET}/a%20b")
    said = small.run("dovetail", "serve", "m", code=2).stderr
    assert "deltalake misreads '%' in it" in said


@pytest.mark.parametrize("given", ["s3://", "gs://bucket/logs", "s3:///"])
def test_an_address_that_is_none_is_refused(given, tmp_path, monkeypatch):
    monkeypatch.setenv(ENV_LOG, given)
    with pytest.raises(UserError, match=f"{ENV_LOG} is '{given}'"):
        log_folder(tmp_path, "m")


def test_a_server_answers_whatever_s3_does(tmp_path_factory, tmp_path, s3, monkeypatch):
    project = copy_of(templates.served(tmp_path_factory), tmp_path / "p")
    address = f"s3://{BUCKET}/{secrets.token_hex(4)}"
    monkeypatch.setenv(ENV_LOG, address)
    asked = []

    def predict(server):
        asked.append(server.predict().status)
        return asked[-1] == 200

    with Server(project) as server:
        assert predict(server)
        s3["with"] = 503, "SlowDown"
        until(lambda: predict(server) and "503" in server.health()["problems"].get("log", ""))
        s3["goes_on"].clear()
        until(lambda: s3["held"])
        assert predict(server)  # before S3 says anything
        s3["with"] = None
        s3["goes_on"].set()
        until(lambda: server.health()["status"] == "ok")
        server.process.terminate()
        assert server.process.wait(30) == 0
    assert len(served_rows.read(S3Folder(f"{address}/m"))) == len(asked) * len(ROWS)
    assert not (project.root / "monitoring").exists()


def test_monitor_and_retrain_read_it_and_say_so_when_they_cannot(judged, s3, monkeypatch):  # noqa: ARG001
    address = f"s3://{BUCKET}/{secrets.token_hex(4)}"
    monkeypatch.setenv(ENV_LOG, address)
    nothing = judged.run("dovetail", "monitor", "m", code=2).stderr
    assert f"there is no prediction log in {address}/m" in nothing
    u = [i % 7 for i in range(300)]
    log = PredictionLog(S3Folder(f"{address}/m"))
    answer = json.dumps(["b" if value > 3 else "a" for value in u]).encode()
    log.served(Served("r", time.time(), 1, "predict", {"u": u, "v": [i % 11 for i in range(300)]}, answer))
    log.labelled("r", ["b" if value > 3 else "a" for value in u], time.time())
    log.close()
    looked = judged.json("monitor", "m")
    assert (looked["verdict"], looked["rows"], looked["labelled"]) == ("stable", 300, 300)
    assert not (judged.root / "monitoring").exists()
    store = object_store.opened(S3Folder(f"{address}/m/predictions.delta/v1"))
    ((file, _),) = delta.files(S3Folder(f"{address}/m"), "predictions")
    content = object_store.read(store, file.path).read()
    obstore.put(store, file.path, b"not Parquet")
    said = judged.run("dovetail", "monitor", "m", code=2).stderr
    assert f"{address}/m/predictions.delta/v1/{file.path}: Parquet magic bytes not found" in said
    assert "next: delete the file that it names, then: python -c 'import deltalake; " in said
    obstore.put(store, file.path, content)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    for command in (("monitor", "m"), ("retrain", "m", "--with", "feedback", "--into", "train.csv")):
        said = judged.run("dovetail", *command, code=3).stderr
        assert said.startswith(f"dovetail: the prediction log {address}/m cannot be read: ")
        assert said.count("\n") == 1
