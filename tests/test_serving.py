"""`dovetail serve` asked as its users ask it: the protocol, what it refuses, what it remembers."""

import contextlib
import html
import http.client
import io
import json
import os
import re
import shutil
import socket
import subprocess
import threading
import time
from decimal import Decimal
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import templates
from project import copy_of, facts
from serving import COLUMNS, ROWS, SPLIT, Server, ask, mlflow_server

from dovetail.errors import UserError
from dovetail.serving.http import docs_page, openapi
from dovetail.serving.protocol.signature import Column, Signature
from dovetail.serving.settings import ServeOptions, Settings

EXAMPLES = int(os.environ.get("SERVING_EXAMPLES", "100"))  # more of them for a longer search

RECORDS = [dict(zip(COLUMNS, row, strict=True)) for row in ROWS]
WHOLE = [[9.5, 3, "red", True], [8.0, 8, "blue", True]]  # nothing missing
TABLE = pd.DataFrame(ROWS, columns=COLUMNS).astype({"size": float, "color": "str"})


def csv(frame):
    return frame.to_csv(index=False).encode()


def parquet(frame):
    target = io.BytesIO()
    frame.to_parquet(target)
    return target.getvalue()


def arrow(**columns):
    """Two rows with some columns as Arrow has them."""
    plain = {"size": [9.5, 8.0], "count": [3, 8], "color": ["red", "blue"], "fresh": [True, False]}
    target = io.BytesIO()
    pq.write_table(pa.table(plain | columns), target)
    return target.getvalue()


CSV, PARQUET = {"content-type": "text/csv"}, {"content-type": "application/vnd.apache.parquet"}
VALID = {
    "split": (SPLIT, {}),
    "split with an index": ({"dataframe_split": {**SPLIT["dataframe_split"], "index": [7, 8, 9, 10]}}, {}),
    "split, columns in another order": (
        {"dataframe_split": {"columns": COLUMNS[::-1], "data": [row[::-1] for row in ROWS]}}, {}
    ),
    "records": ({"dataframe_records": RECORDS}, {}),
    "records, some without an optional column": ({"dataframe_records": [RECORDS[0], {k: v for k, v in RECORDS[1].items()
                                                                                     if k != "color"}]}, {}),
    "a column too many": ({"dataframe_records": [{**record, "note": "?"} for record in RECORDS]}, {}),
    "instances": ({"instances": [dict(zip(COLUMNS, row, strict=True)) for row in WHOLE]}, {}),
    "inputs": ({"inputs": {name: [row[place] for row in WHOLE] for place, name in enumerate(COLUMNS)}}, {}),
    "probabilities": ({**SPLIT, "params": {"method": "predict_proba"}}, {}),
    "no params": ({**SPLIT, "params": {}}, {}),
    "a whole number where a number is meant": ({"dataframe_records": [{**RECORDS[0], "size": 10}]}, {}),
    "NaN as Python writes it": (json.dumps(SPLIT).replace("null, 1", "NaN, 1").encode(), {}),
    "a byte-order mark": (b"\xef\xbb\xbf" + json.dumps(SPLIT).encode(), {}),
    "utf-16": (json.dumps(SPLIT).encode("utf-16"), {}),
    "charset": (SPLIT, {"content-type": "application/json; charset=utf-8"}),
    "csv": (csv(TABLE), CSV),
    "csv with a row number": (TABLE.to_csv().encode(), CSV),
    "parquet": (parquet(TABLE), PARQUET),
    "instances as columns": (
        {"instances": {name: [row[place] for row in WHOLE] for place, name in enumerate(COLUMNS)}}, {}
    ),
    "an unknown column twice": (
        {"dataframe_split": {"columns": [*COLUMNS, "z", "z"], "data": [[*row, 1, 2] for row in ROWS]}}, {}
    ),
    "csv with an unknown column twice": (b"size,count,color,fresh,z,z\n9.5,3,red,True,1,2\n", CSV),
    "parquet of decimals": (arrow(size=pa.array([Decimal("9.5"), None])), PARQUET),
    "parquet of text views": (arrow(color=pa.array(["red", None], pa.string_view())), PARQUET),
    "parquet of pandas' nullable booleans": (parquet(TABLE.astype({"fresh": "boolean"})), PARQUET),
    "text in other alphabets": ({"dataframe_records": [{**RECORDS[0], "color": "rød 赤"}]}, {}),
}  # fmt: skip


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    return copy_of(templates.served(tmp_path_factory), tmp_path_factory.mktemp("served") / "p")


@pytest.fixture(scope="module")
def server(project):
    with Server(project, "--max-rows", "5000", "--leave-out", "color", "--poll", "5") as running:
        yield running


@pytest.fixture(scope="module")
def mlflow_port(project):
    with mlflow_server(project) as port:
        yield port


@pytest.mark.parametrize("case", VALID)
def test_answers_as_mlflows_server_does(server, mlflow_port, case):
    body, headers = VALID[case]
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", mlflow_port, timeout=60)) as connection:
        theirs = ask(connection, "/invocations", body, headers)
    ours = server.ask("/invocations", body, headers)
    assert theirs.status == ours.status == 200, (theirs.body, ours.body)
    assert ours.json == theirs.json


SHORT = {"dataframe_split": {"columns": [*COLUMNS, "z"], "data": [[*ROWS[0], 1], ROWS[1]]}}
TWICE = {"dataframe_split": {"columns": ["size", *COLUMNS], "data": [[1, *ROWS[0]]]}}
DIFFERENT = {  # what MLflow's server answers, then ours: docs/serving.md says why
    "a short row": (SHORT, {}, 200, 422),
    "a short row in csv": (b"count,color,fresh,size\n3,red,True,9.5\n3,red,True\n", CSV, 200, 422),
    "a long row in csv": (b"size,count,color,fresh\n1,9.5,3,red,True\n", CSV, 200, 422),
    "a known column twice in csv": (b"size,size,count,color,fresh\n9.5,1,3,red,True\n", CSV, 200, 422),
    "a known column twice": (TWICE, {}, 400, 422),
    "parquet of packed text": (arrow(color=pa.array(["red", None]).dictionary_encode()), PARQUET, 400, 200),
    "null for a boolean": ({"dataframe_records": [{**RECORDS[0], "fresh": None}]}, {}, 200, 422),
    "text for a number": ({"dataframe_records": [{**RECORDS[0], "size": "9.5"}]}, {}, 200, 422),
    "a fraction for an integer": ({"dataframe_records": [{**RECORDS[0], "count": 1.5}]}, {}, 200, 422),
}  # fmt: skip


@pytest.mark.parametrize("case", DIFFERENT)
def test_differs_from_mlflows_server_where_the_documentation_says_so(server, mlflow_port, case):
    body, headers, theirs, ours = DIFFERENT[case]
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", mlflow_port, timeout=60)) as connection:
        said = ask(connection, "/invocations", body, headers)
    assert (said.status, server.ask("/invocations", body, headers).status) == (theirs, ours), said.body


def test_a_version_that_says_nothing_of_what_it_takes_is_asked_with_a_table_of_ones_own():
    settings = Settings(Path(), "m", None, 1, None, ServeOptions(), (), None)
    described = openapi.document(settings, Signature(None, None, ("predict",)), {"example": None}, 1)
    page = html.unescape(docs_page.page(described, "http://127.0.0.1:5001"))
    assert "curl -H 'content-type: text/csv' http://127.0.0.1:5001/invocations --data-binary @rows.csv" in page


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # schemathesis' and hypothesis' own, about how they sample a schema
def test_what_the_schema_allows_is_answered(server):
    import schemathesis
    from hypothesis import HealthCheck, Phase, given, settings

    schema = schemathesis.openapi.from_url(f"http://127.0.0.1:{server.port}/openapi.json")
    operation = schema["/invocations"]["POST"]
    refused = {}

    def answered(case):
        if case.media_type == "application/json":  # no schema says what a table in CSV or Parquet holds
            response = case.call()
            if response.status_code != 200:
                refused.setdefault(response.text[:60], (case.body, response.text))

    cases = operation.as_strategy(generation_mode=schemathesis.GenerationMode.POSITIVE)
    settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck), database=None,
             phases=[Phase.generate], derandomize=True)(given(case=cases)(answered))()  # fmt: skip
    assert not refused, refused


@pytest.mark.parametrize("path", ["/ping", "/version"])
def test_says_the_rest_as_mlflow_does(server, mlflow_port, path):
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", mlflow_port, timeout=60)) as connection:
        assert ask(connection, path).body == server.ask(path).body


def test_every_answer_names_its_version(server, project):
    for answer in (server.predict(), server.predict({"nonsense": 1}), server.ask("/health")):
        assert (answer.headers["x-dovetail-model"], answer.version) == ("m", "1")
    about = server.ask("/model").json
    version = project.store().client.get_model_version("m", "1")
    assert about["md5"] == version.tags["dovetail.model.md5"]
    assert about["commit"] == facts(version)["dovetail.git.commit"]
    assert [column["name"] for column in about["signature"]["inputs"]] == list(COLUMNS)
    assert server.metric("dovetail_requests_total") >= 2


def changed(column, value):
    return {"dataframe_records": [RECORDS[0], {**RECORDS[1], column: value}]}


REFUSED = {
    "not JSON": (b"{", {}, 400, "not JSON"),
    "not an object": (b"[1]", {}, 400, "not an object"),
    "no form": ({"data": [1]}, {}, 400, "exactly one of"),
    "two forms": ({**SPLIT, "inputs": {}}, {}, 400, "exactly one of"),
    "deep": (b"[" * 10_000, {}, 400, "not JSON"),
    "deep with NaN": (b'{"inputs": NaN, "a": ' + b"[" * 10_000, {}, 400, "not JSON"),
    "not UTF-8": (b'{"inputs": {"a": ["\xff"]}}', {}, 400, "not JSON"),
    "another charset": (SPLIT, {"content-type": "application/json; charset=utf-16"}, 415, "UTF-8"),
    "another type": (SPLIT, {"content-type": "application/xml"}, 415, "application/xml"),
    "no type": (SPLIT, {"content-type": ""}, 415, "none"),
    "a missing column": ({"dataframe_records": [{"size": 1.0}]}, {}, 422, "count, fresh"),
    "text for a number": (changed("size", "big"), {}, 422, "column 'size', row 1: expected a number, got 'big'"),
    "a boolean for a number": (changed("size", value=True), {}, 422, "got True"),
    "a number for text": (changed("color", 5), {}, 422, "column 'color', row 1: expected text or null, got 5"),
    "a fraction for an integer": (changed("count", 1.5), {}, 422, "expected a 64-bit integer, got 1.5"),
    "too large an integer": (changed("count", 1 << 70), {}, 422, "expected a 64-bit integer"),
    "null for an integer": (changed("count", None), {}, 422, "got null"),
    "null for a boolean": (changed("fresh", None), {}, 422, "expected true or false, got null"),
    "a list for a value": (changed("size", [1]), {}, 422, "got [1]"),
    "infinity": (changed("size", float("inf")), {}, 422, "the model does not take these rows"),
    "a name twice": ({"dataframe_split": {"columns": ["size", "size"], "data": [[1, 2]]}}, {}, 422, "there twice"),
    "a short row": ({"dataframe_split": {"columns": COLUMNS, "data": [ROWS[0], [1]]}}, {}, 422, "row 1: expected 4"),
    "no columns": ({"dataframe_split": {"data": [[1]]}}, {}, 422, "has to name the columns"),
    "columns of other types": ({"dataframe_split": {"columns": [[1]], "data": [[1]]}}, {}, 422, "name the columns"),
    "unknown key": ({"dataframe_split": {"columns": ["a"], "data": [[1]], "x": 1}}, {}, 422, "does not know: x"),
    "not a record": ({"dataframe_records": [RECORDS[0], 5]}, {}, 422, "row 1: expected a record, got a number"),
    "instances that differ": ({"instances": [RECORDS[0], {"size": 1}]}, {}, 422, "row 1: has other columns"),
    "columns of unlike length": ({"inputs": {"size": [1, 2], "count": [1]}}, {}, 422, "'count' has 1 values"),
    "no rows": ({"dataframe_split": {"columns": COLUMNS, "data": []}}, {}, 422, "no rows"),
    "a bare list": ({"inputs": [1, 2]}, {}, 422, "columns are missing"),
    "an unknown method": ({**SPLIT, "params": {"method": "fit"}}, {}, 422, "expected predict or predict_proba"),
    "params of another kind": ({**SPLIT, "params": 3}, {}, 422, "params is not an object"),
    "many rows": ({"inputs": {"size": [1.0] * 1_000_000}}, {}, 422, "1000000 rows are more than the 5000"),
    "csv with a name twice": (b"size,size\n1,2\n", CSV, 422, "there twice"),
    "csv, empty": (b"", CSV, 400, "not CSV"),
    "csv of bytes": (b"\xff\xfe\x00", CSV, 400, "not UTF-8"),
    "csv with a wrong value": (csv(TABLE).replace(b"9.5", b"big"), CSV, 422, "column 'size', row 0"),
    "parquet, broken": (b"PAR1", PARQUET, 400, "not Parquet"),
    "parquet of many rows": (parquet(pd.DataFrame({"size": [1.0] * 1_000_000})), PARQUET, 422, "1000000 rows"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refuses_what_is_wrong_and_lives(server, case):
    body, headers, status, said = REFUSED[case]
    answer = server.ask("/invocations", body, headers)
    assert answer.status == status, answer.body
    assert said in answer.json["message"] or said in answer.json["got"]
    assert "Traceback" not in answer.body.decode()
    assert server.predict().status == 200


def test_the_only_model_answers_below_its_name_too(server):
    assert server.ask("/models/m/invocations", SPLIT).json == server.predict().json
    assert server.ask("/models/m/model").json == server.ask("/model").json


def test_other_paths_and_methods(server):
    assert (server.ask("/predict").status, server.ask("/invocations").status) == (404, 405)
    assert server.ask("/ping", b"x").headers["allow"] == "GET, HEAD"
    assert server.ask("/ping", method="HEAD").body == b""


def test_a_body_that_is_too_large_is_refused_before_it_is_sent(server):
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection:
        connection.sendall(b"POST /invocations HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
                           b"content-length: 1073741824\r\n\r\n")  # fmt: skip
        assert connection.recv(4096).startswith(b"HTTP/1.1 413")
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection:
        connection.sendall(b"POST /invocations HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
                           b"transfer-encoding: chunked\r\n\r\n")  # fmt: skip
        chunk = b"%x\r\n%s\r\n" % (1 << 20, b" " * (1 << 20))
        with contextlib.suppress(OSError):  # it may close before all is sent
            for _ in range(64):
                connection.sendall(chunk)
        assert b"413" in connection.recv(4096)
    assert server.predict().status == 200


@pytest.mark.slow
def test_requests_that_share_a_prediction_get_their_own_answers(server):
    rows = [[float(number), number % 9, "red", bool(number % 2)] for number in range(40)]
    alone = {number: server.predict(one(row)).json for number, row in enumerate(rows)}
    before = server.metric("dovetail_batch_requests_count"), server.metric("dovetail_batch_requests_sum")
    wrong = []

    def client(start):
        with contextlib.closing(server.connection()) as connection:
            for number in [*range(start, 40), *range(start)] * 3:
                if number % 10 == 7:  # the model refuses infinity; those who wait with it are no worse off
                    answer = ask(connection, "/invocations", one([float("inf"), 1, "red", True]))
                    if answer.status != 422:
                        wrong.append(answer)
                answer = ask(connection, "/invocations", one(rows[number]))
                if answer.status != 200 or answer.json != alone[number]:
                    wrong.append((number, answer))

    clients = [threading.Thread(target=client, args=(start,)) for start in range(0, 40, 3)]
    for each in clients:
        each.start()
    for each in clients:
        each.join()
    assert not wrong
    batches = server.metric("dovetail_batch_requests_count") - before[0]
    assert server.metric("dovetail_batch_requests_sum") - before[1] > batches  # some did share


def one(row):
    return {"dataframe_split": {"columns": COLUMNS, "data": [row]}}


def test_remembers_what_it_answered_and_what_was_true(server, project):
    from dovetail.serving.log.served_rows import read

    answer = server.predict()
    request_id = answer.headers["x-request-id"]
    feedback = {"request_id": request_id, "labels": ["one:yes", None, "one:no"]}
    assert server.ask("/feedback", feedback).status == 202
    folder = project.root / "monitoring" / "m"

    def found():
        rows = [row for row in read(folder).to_pylist() if row["request_id"] == request_id]
        return rows if rows and rows[0]["label"] else None

    rows = server.until(found)
    assert [row["prediction"] for row in rows] == answer.json["predictions"]
    assert [row["label"] for row in rows] == ["one:yes", None, "one:no", None]
    assert [row["input.size"] for row in rows] == [9.5, 11.25, 8.0, None]
    assert {row["version"] for row in rows} == {1}
    assert {row.get("input.color") for row in rows} == {None}  # another server of the project may log it
    assert project.run("git", "status", "--porcelain").stdout == ""


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"{", 400),
        ({"labels": [1]}, 422),
        ({"request_id": "x", "labels": [1]}, 422),
        ({"request_id": "0" * 32, "labels": []}, 422),
        ({"request_id": "0" * 32, "labels": [{}]}, 422),
    ],
)
def test_feedback_that_is_none(server, body, status):
    assert server.ask("/feedback", body).status == status


def test_describes_itself(server):
    described = server.ask("/openapi.json").json
    forms = described["paths"]["/invocations"]["post"]["requestBody"]["content"]["application/json"]["schema"]["oneOf"]
    record = forms[1]["properties"]["dataframe_records"]["items"]
    assert list(record["properties"]) == list(COLUMNS)
    page = server.ask("/docs").body.decode()
    assert all(f"<code>{name}</code>" in page for name in COLUMNS)
    assert set(re.findall(r"https?://[^/\s'\"]+", page)) == {
        f"http://127.0.0.1:{server.port}"
    }  # nothing from elsewhere
    assert not re.search(r"<(script|link|img)|@import|url\(", page)


def test_the_root_leads_to_what_describes_it(server):
    answer = server.ask("/")
    assert (answer.status, answer.headers["location"]) == (307, "docs")


@pytest.mark.skipif(not shutil.which("curl"), reason="no curl here")
def test_the_commands_of_the_page_paste_and_run(server):
    """Each as it stands there, in a shell; what is asked of people, a token, is set."""
    page = server.ask("/docs").body.decode()
    commands = [html.unescape(command) for command in re.findall(r"<pre>(.*?)</pre>", page, re.DOTALL)]
    assert len(commands) == 12  # JSON, CSV, feedback, and what is only looked at
    for command in commands:
        typed = ["sh", "-ec", command.replace("curl ", "curl --silent --show-error --fail-with-body ")]
        done = subprocess.run(typed, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    assert "predictions" in subprocess.run(commands[0], shell=True, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize(
    ("asked", "shown"),
    [
        (b"iris.example:8080", "http://iris.example:8080"),
        (b"[::1]:80", "http://[::1]:80"),
        (b"", "http://127.0.0.1:5001"),
        (b"x'; rm -rf ~; '", "http://127.0.0.1:5001"),
        (b"<script>", "http://127.0.0.1:5001"),
    ],
)
def test_the_commands_name_the_address_that_was_asked(asked, shown):
    scope = {"scheme": "http", "headers": [(b"host", asked)]}
    assert docs_page.address(scope, "0.0.0.0", 5001) == shown


def test_names_on_the_page_are_text():
    hostile = "<script>alert('x')</script>"
    column = Column(hostile, "string", required=True, boolean=False)
    example = {"dataframe_split": {"columns": [hostile], "data": [["it's <b>"]]}}
    options = ServeOptions()
    settings = Settings(Path(), hostile, None, 1, None, options, ("secret",), None)
    described = openapi.document(settings, Signature((column,), "string", ("predict",)), {"example": example}, 1)
    page = docs_page.page(described, "http://127.0.0.1:5001")
    assert "<script" not in page
    assert "<b>POST</b>" in page
    assert page.count("<b>") == len(described["paths"])
    assert "authorization: Bearer $TOKEN" in html.unescape(page)
    assert "secret" not in page


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # schemathesis' and hypothesis' own, about how they sample a schema
def test_schemathesis_finds_no_5xx(server):
    import schemathesis
    from hypothesis import HealthCheck, Phase, given, settings
    from schemathesis.specs.openapi.checks import negative_data_rejection, positive_data_acceptance

    schema = schemathesis.openapi.from_url(f"http://127.0.0.1:{server.port}/openapi.json")
    seen = set()

    def holds(case):
        response = case.call()
        seen.add((case.method.upper(), case.path, response.status_code))
        assert response.status_code < 500, response.text
        # What a table in CSV holds no schema says, nor that a forest takes no 1e300; and the protocol lets more pass
        # than the schema tells people to send: an index, a column too many.
        case.validate_response(response, excluded_checks=[positive_data_acceptance, negative_data_rejection])

    for operation in (each.ok() for each in schema.get_all_operations()):
        modes = [schemathesis.GenerationMode.POSITIVE]
        if operation.method.upper() == "POST":  # with a GET nothing can be got wrong
            modes.append(schemathesis.GenerationMode.NEGATIVE)
        for mode in modes:
            cases = operation.as_strategy(generation_mode=mode)
            settings(max_examples=50, deadline=None, suppress_health_check=list(HealthCheck), database=None,
                     phases=[Phase.generate], derandomize=True)(given(case=cases)(holds))()  # fmt: skip
    assert {("POST", "/invocations", 200), ("POST", "/invocations", 422), ("POST", "/feedback", 404)} <= seen


@pytest.mark.parametrize("age", ["3m", "12h", "90", "soon", "0d", " "])
def test_the_log_is_kept_for_days_or_weeks(project, age):
    """Whoever says 3m means months, and would lose all that is older than three minutes."""
    from dovetail.serving.serve import settings

    with pytest.raises(UserError, match="is not a number of days or weeks"):
        settings("m", ServeOptions(keep=age), start=project.root)


def test_without_a_token_nobody_elsewhere_may_ask(project):
    failed = project.run("dovetail", "serve", "m", "--host", "0.0.0.0", "--port", "0", code=2)
    assert "DOVETAIL_SERVE_TOKENS" in failed.stderr
    with Server(project, DOVETAIL_SERVE_TOKENS="first,second") as server:
        assert server.predict().status == 401
        assert server.predict(authorization="Bearer third").status == 401
        assert server.predict(authorization="Bearer second").status == 200
        asked = ("/ping", "/health", "/metrics", "/model", "/models/m/model", "/v2/models/m")
        assert [server.ask(path).status for path in asked] == [200, 200, 401, 401, 401, 401]
        for path in ("/ready", "/models/m/ready", "/v2/health/ready", "/v2/models/m/ready"):
            assert server.ask(path).status == 200  # none of them is behind a token in the server's own description
        assert server.end() == 0


@pytest.mark.slow
def test_what_cannot_be_served_is_said_in_one_line(project):
    unknown = project.run("dovetail", "serve", "m@canary", code=2)
    assert unknown.stderr.splitlines() == [
        "dovetail: m has no alias 'canary'; it has: production, staging; next: dovetail promote m --to canary"
    ]
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        failed = project.run("dovetail", "serve", "m", "--port", str(taken.getsockname()[1]), code=3)
    assert "Address already in use" in failed.stderr


def test_a_version_by_its_number(project):
    with Server(project, "--no-log", ref="m/2") as server:
        assert server.predict().json["predictions"][0].startswith("two:")
        assert server.ask("/feedback", {"request_id": "0" * 32, "labels": [1]}).status == 404


def test_a_crowd(server):
    with contextlib.ExitStack() as stack:
        connections = [stack.enter_context(contextlib.closing(server.connection())) for _ in range(500)]
        content = json.dumps(SPLIT).encode()
        for connection in connections:
            connection.request("POST", "/invocations", content, {"content-type": "application/json"})
        answers = [connection.getresponse() for connection in connections]
        assert {answer.status for answer in answers} == {200}
        assert len({answer.read() for answer in answers}) == 1


@pytest.mark.slow
def test_a_client_that_takes_its_time(project):
    with (
        Server(project, "--timeout", "10") as server,
        socket.create_connection(("127.0.0.1", server.port), timeout=30) as head,
        socket.create_connection(("127.0.0.1", server.port), timeout=30) as body,
    ):
        head.sendall(b"POST /invocations HTTP/1.1\r\nx: ")
        body.sendall(b"POST /invocations HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n"
                     b"content-type: application/json\r\n\r\n")  # fmt: skip
        for _ in range(26):  # a byte each time
            with contextlib.suppress(OSError):
                head.sendall(b"a")
                body.sendall(b" ")
            assert server.predict().status == 200
            time.sleep(0.5)
        assert b"408" in body.recv(4096)
        with contextlib.suppress(ConnectionError):
            assert head.recv(4096) == b""
