"""A store that asks who somebody is: who may read it looks and serves, and is told in one line why it cannot write."""

import json
import urllib.request

import pytest
from serving import Server
from team_store import PACKAGES
from tracking_server import tracking_server

pytestmark = [
    pytest.mark.stack,
    pytest.mark.slow,
    pytest.mark.skipif(
        not (PACKAGES / ".installed").is_file(), reason="what the server asks by is not here: make team"
    ),
]
ADMIN, READER = ("admin", "a word of the admin's"), ("reader", "a word of the reader's")


@pytest.fixture(scope="module")
def uri(tmp_path_factory):
    """MLflow's server with its own users: an admin, and one who may read everything."""
    folder = tmp_path_factory.mktemp("secured")
    settings = folder / "auth.ini"
    said = {
        "default_permission": "READ",
        "database_uri": f"sqlite:///{folder}/users.db",
        "admin_username": ADMIN[0],
        "admin_password": ADMIN[1],
        "authorization_function": "mlflow.server.auth:authenticate_request_basic_auth",
    }
    settings.write_text("\n".join(["[mlflow]", *(f"{key} = {value}" for key, value in said.items())]))
    arguments = ("--app-name", "basic-auth", "--artifacts-destination", str(folder / "files"))
    more = {"MLFLOW_AUTH_CONFIG_PATH": str(settings), "MLFLOW_FLASK_SERVER_SECRET_KEY": "of a test",
            "PYTHONPATH": str(PACKAGES)}  # fmt: skip
    with tracking_server(folder, f"sqlite:///{folder}/mlflow.db", *arguments, **more) as server:
        passwords = urllib.request.HTTPPasswordMgrWithDefaultRealm()
        passwords.add_password(None, server.uri, *ADMIN)
        opener = urllib.request.build_opener(urllib.request.HTTPBasicAuthHandler(passwords))
        user = json.dumps({"username": READER[0], "password": READER[1]}).encode()
        create = f"{server.uri}/api/2.0/mlflow/users/create"
        request = urllib.request.Request(create, user, {"content-type": "application/json"})
        opener.open(request, timeout=30).close()
        yield server.uri


def as_(user, uri):
    name, password = user
    return {"MLFLOW_TRACKING_URI": uri, "MLFLOW_TRACKING_USERNAME": name, "MLFLOW_TRACKING_PASSWORD": password}


def test_a_reader_looks_and_serves_and_is_told_why_it_cannot_write(small, uri):
    admin, reader = as_(ADMIN, uri), as_(READER, uri)
    small.run("dvc", "repro", "-q", "register", **admin)
    small.run("dovetail", "promote", "m", "--force", "--reason", "a test", **admin)
    tags = small.run("git", "tag").stdout
    for look in (["status"], ["lineage", "m"], ["diff", "m", "workspace:m"], ["list"], ["show", "m"]):
        small.run("dovetail", *look, **reader)
    with Server(small, ref="m", **reader) as server:
        assert (server.ask("/ready").status, server.health()["trust"]) == (200, "ledger")

    small.write("params.yaml", "train: {w: 8}\n")
    small.run("dvc", "repro", "-q", "train")
    small.commit("another")
    for write in (["promote", "m", "--version", "1", "--force", "--reason", "again"], ["register", "m"], ["sync"]):
        refused = small.run("dovetail", *write, code=3, **reader)
        assert f"MLflow at {uri} does not let this user (reader) do that" in refused.stderr
        assert refused.stderr.count("\n") == 1
        assert READER[1] not in refused.stderr
    assert small.run("git", "tag").stdout == tags  # nothing is promoted by half
    assert small.json("register", "m", code=3, **reader)["error"]["kind"] == "NotPermitted"
    small.run("dovetail", "register", "m", **admin)  # what was refused stands in nobody's way
    assert "workspace version 2" in small.run("dovetail", "status", **reader).stdout


def test_whoever_is_not_known_is_told_so(small, uri):
    unknown = small.run("dovetail", "status", code=3, **as_(("somebody", "else"), uri))
    assert "does not know this user (somebody)" in unknown.stderr
    nobody = small.run("dovetail", "status", code=3, MLFLOW_TRACKING_URI=uri)
    assert "does not know whoever asks without a name" in nobody.stderr
    assert unknown.stderr.count("\n") == nobody.stderr.count("\n") == 1
