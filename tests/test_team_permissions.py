"""A store that asks who somebody is: who may read it looks and serves, and is told in one line why it cannot write."""

import json
import re
import shlex
import urllib.error
import urllib.request

import pytest
from project import ROOT
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
NAME = "mlflow.example.org"
ADMIN, READER = ("admin", "a word of the admin's"), ("reader", "a word of the reader's")


@pytest.fixture(scope="module")
def uri(tmp_path_factory):
    """MLflow's server as docs/team.md starts it, with its own users: an admin, and one who may read everything."""
    folder = tmp_path_factory.mktemp("secured")
    docs = (ROOT / "docs/team.md").read_text()
    (settings, script), *_ = re.findall(r"^```ini\n(.*?)```\n\n```sh\n(.*?)```", docs, re.DOTALL | re.MULTILINE)
    (folder / "auth.ini").write_text(re.sub("postgresql://.*", f"sqlite:///{folder}/users.db", settings))
    names = re.findall(r"^export (\w+)=", script, re.MULTILINE)
    assert names == ["MLFLOW_FLASK_SERVER_SECRET_KEY", "MLFLOW_AUTH_ADMIN_PASSWORD", "MLFLOW_AUTH_CONFIG_PATH"]
    more = dict(zip(names, ("of a test", ADMIN[1], str(folder / "auth.ini")), strict=True))
    words = shlex.split(script.strip().splitlines()[-1])
    options = dict(zip(words[2::2], words[3::2], strict=True))
    assert options["--allowed-hosts"] == NAME
    options |= {"--allowed-hosts": f"{NAME},127.0.0.1:*", "--artifacts-destination": str(folder / "files")}
    ours = {"--host", "--port", "--workers", "--backend-store-uri"}
    arguments = [part for option in options.items() if option[0] not in ours for part in option]
    more["PYTHONPATH"] = str(PACKAGES)
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


def test_the_server_of_the_docs_answers_to_its_name_alone(small, uri):
    def status(host):
        request = urllib.request.Request(f"{uri}/api/2.0/mlflow/experiments/search", headers={"Host": host})
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(request, timeout=30)
        refused.value.close()
        return refused.value.code

    assert (status(NAME), status("another.example.org")) == (401, 403)
    other = uri.replace("127.0.0.1", "localhost")
    refused = small.run("dovetail", "status", code=3, **as_(ADMIN, other))
    assert f"MLflow at {other} does not answer to that name" in refused.stderr
    assert f"--allowed-hosts {other.removeprefix('http://')}" in refused.stderr
    assert refused.stderr.count("\n") == 1


def test_whoever_is_not_known_is_told_so(small, uri):
    unknown = small.run("dovetail", "status", code=3, **as_(("somebody", "else"), uri))
    assert "does not know this user (somebody)" in unknown.stderr
    nobody = small.run("dovetail", "status", code=3, MLFLOW_TRACKING_URI=uri)
    assert "does not know whoever asks without a name" in nobody.stderr
    assert unknown.stderr.count("\n") == nobody.stderr.count("\n") == 1
