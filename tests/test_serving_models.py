"""Several models in one server: each has its paths, its log and its versions, and none waits for another."""

import time

import pytest
import templates
from project import copy_of
from serving import SPLIT, Server
from test_serving_faults import model_file

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """Models m and n with the versions 1 and 2 each, 1 in production; those of n are m's second."""
    project = copy_of(templates.served(tmp_path_factory), tmp_path_factory.mktemp("models") / "p")
    project.replace("dvc.yaml", "artifacts:\n", """  other:
    {cmd: cp m.joblib n.joblib, deps: [m.joblib], outs: [n.joblib]}
  register-n:
    cmd: dovetail register n
    deps: [n.joblib, card.json]
    outs: [{mlruns/receipts/n.json: {cache: false}}]
artifacts:
  n: {path: n.joblib, type: model, meta: {card: card.json}}
""")  # fmt: skip
    for trees in ("trees: 20", "trees: 21"):
        project.replace("params.yaml", "trees: 20", trees)
        project.run("dvc", "repro", "-q", "other")
        project.commit(f"n, {trees}")
        project.run("dvc", "repro", "-q", "register-n")
    point(project, m=1, n=1)
    return project


def point(project, **versions):
    for model, version in versions.items():
        project.store().client.set_registered_model_alias(model, "production", str(version))


def versions(server):
    asked = (server.ask(f"/models/{model}/invocations", SPLIT) for model in ("m", "n"))
    return tuple(answer.version if answer.status == 200 else answer.status for answer in asked)


@pytest.fixture(scope="module")
def _running(project):
    with Server(project, "n", "--workers", "2") as server:
        yield server


@pytest.fixture
def server(_running, project):
    point(project, m=1, n=1)
    _running.until(lambda: versions(_running) == ("1", "1"))
    return _running


def test_each_model_answers_below_its_name(server, project):
    from dovetail.serving.log.served_rows import read

    assert "m@production is version 1, n@production is version 1, on http" in server.said
    answers = {model: server.ask(f"/models/{model}/invocations", SPLIT) for model in ("m", "n")}
    assert {model: answer.headers["x-dovetail-model"] for model, answer in answers.items()} == {"m": "m", "n": "n"}
    assert answers["m"].json["predictions"][0].startswith("one:")
    assert answers["n"].json["predictions"][0].startswith("two:")
    assert [server.ask(f"/models/{model}/model").json["model"] for model in ("m", "n")] == ["m", "n"]
    refused = server.predict()  # nobody can say which was meant
    assert (refused.status, "/models/n/invocations" in refused.json["expected"]) == (404, True)
    assert b"models/n/docs" in server.ask("/docs").body
    assert server.ask("/models/n/docs").status == 200
    assert set(server.health()["models"]) == {"m", "n"}
    for model, answer in answers.items():
        said = {"request_id": answer.headers["x-request-id"], "labels": [answer.json["predictions"][0]]}
        assert server.ask(f"/models/{model}/feedback", said).status == 202
        other = server.ask(f"/models/{'n' if model == 'm' else 'm'}/feedback", said)
        assert (other.status, other.json["got"]) == (404, said["request_id"])

    def kept(model):
        rows = read(project.root / "monitoring" / model).to_pylist()
        return [row["label"] for row in rows if row["request_id"] == answers[model].headers["x-request-id"]][:1]

    for model, answer in answers.items():
        server.until(lambda of=model, label=answer.json["predictions"][0]: kept(of) == [label])


def test_each_model_is_followed_on_its_own(server, project):
    point(project, n=2)
    server.until(lambda: versions(server) == ("1", "2"))
    point(project, m=2)
    server.until(lambda: versions(server) == ("2", "2"))
    served = [line for line in server.ask("/metrics").body.decode().splitlines() if "model_info{" in line]
    assert len(served) == 2


def test_a_model_that_cannot_be_loaded_keeps_no_other_back(project):
    point(project, m=1, n=1)
    file = model_file(project, 1, "n")
    content = file.read_bytes()
    file.write_bytes(content[:-100])
    for copy in (project.root / "mlruns/serving").glob("n@production/*"):
        copy.rename(copy.with_name(f"away-{copy.name}"))
    with Server(project, "n") as server:
        assert "n@production is not served yet" in server.said
        assert [server.ask(path).status for path in ("/ready", "/models/m/ready", "/models/n/ready")] == [200, 200, 503]
        assert "is not what was registered" in server.health()["models"]["n"]["problems"]["load"]
        point(project, m=2)
        server.until(lambda: versions(server) == ("2", 503))
        file.write_bytes(content)
        server.until(lambda: versions(server) == ("2", "1"))
        assert server.ask("/models/n/ready").status == 200


def test_one_model_under_two_names_and_none_that_can_be_served(project):
    twice = project.run("dovetail", "serve", "m", "m@staging", code=2)
    assert "m@production and m@staging are one model" in twice.stderr
    began = time.monotonic()
    unknown = project.run("dovetail", "serve", "m@canary", "n@canary", "--port", "0", code=2)
    assert "m has no alias 'canary'" in unknown.stderr
    assert time.monotonic() - began < 60
