"""`dovetail ui`: MLflow's own pages of the workspace's store, and nothing of it left afterwards."""

import contextlib
import os
import signal
import socket
import subprocess
import time
import urllib.request

import commands
import pytest
from project import BIN, free_port
from tracking_server import tracking_server

from dovetail.registration import ui
from dovetail.repo.workspace import open_workspace
from dovetail.tracking.connection import Tracking


def asked(project, ref):
    """The page that is opened, with a tracking server's address, so that nothing is started."""
    heard = []
    with open_workspace(project.root) as workspace, Tracking(project.root).reading() as store:
        heard.append(ui.page_of(workspace, store, ref))
    return heard[0].removesuffix("?workflowType=machine_learning")


@pytest.mark.slow
def test_each_thing_has_its_page(registered):
    run = registered.json("lineage", "m/1")["run_id"]
    assert asked(registered, None) == "#/models"
    assert asked(registered, "m") == "#/models/m"
    assert asked(registered, "m@staging") == asked(registered, "m/1") == "#/models/m/versions/1"
    assert asked(registered, f"runs:/{run}") == "#/models/m/versions/1"
    registered.run("dvc", "exp", "run", "-q", "--temp", "-n", "nine", "-S", "train.w=9")
    other = next(one.info for one in registered.store().runs() if one.info.run_name == "nine")
    assert asked(registered, f"runs:/{other.run_id}") == f"#/experiments/{other.experiment_id}/runs/{other.run_id}"


def test_a_name_that_is_not_there_is_one_line(registered):
    done = registered.run("dovetail", "ui", "n", "--no-browser", code=2)
    assert "no model 'n'" in done.stderr
    assert done.stderr.count("\n") == 1


def test_no_store_is_one_line(small):
    done = small.run("dovetail", "ui", "--no-browser", code=3)
    assert "there is no MLflow store" in done.stderr
    assert "next: dovetail sync" in done.stderr


def test_a_port_that_is_asked_for_and_taken_is_one_line(registered):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = registered.run("dovetail", "ui", "m", "--no-browser", "--port", str(port), code=3)
    assert f"port {port} is taken" in done.stderr
    assert done.stderr.count("\n") == 1


def test_without_a_port_it_is_the_next_that_is_free(monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        monkeypatch.setattr(ui, "PORT", taken.getsockname()[1])
        assert ui.free_port(None) > ui.PORT


@pytest.mark.slow
def test_it_serves_the_store_and_ends_with_all_that_it_started(registered, tmp_path):
    port = free_port()
    # A proxy that nobody is to be asked through: MLflow is on this machine.
    env = {**os.environ, "PATH": commands.path(plain=True), "http_proxy": "http://127.0.0.1:9", "no_proxy": ""}
    command = [BIN / "dovetail", "ui", "m", "--no-browser", "--port", str(port)]
    with (tmp_path / "said").open("w+") as said:
        process = subprocess.Popen(command, cwd=registered.root, env=env, stdout=said, stderr=said, text=True)
        try:
            for _ in range(3000):
                if (tmp_path / "said").read_text().endswith("\n") or process.poll() is not None:
                    break
                time.sleep(0.1)
            assert (
                tmp_path / "said"
            ).read_text() == f"http://127.0.0.1:{port}/#/models/m?workflowType=machine_learning\n"
            search = f"http://127.0.0.1:{port}/ajax-api/2.0/mlflow/registered-models/get?name=m"
            assert b'"staging"' in urllib.request.urlopen(search, timeout=60).read()
        finally:
            process.send_signal(signal.SIGINT)
            assert process.wait(60) == 0
    listed = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    assert f"--port {port}" not in listed
    with contextlib.closing(socket.socket()) as free:
        free.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        free.bind(("127.0.0.1", port))
    assert not (registered.root / "mlartifacts").exists()
    assert registered.run("git", "status", "--porcelain").stdout == ""


def test_a_server_is_said_where_it_is_and_nothing_is_started(registered, monkeypatch):
    """A tracking server's page, in place of one of this machine."""

    class Server(Tracking):
        uri = "http://mlflow.example:5000/"
        exists = True

        def reading(self):
            return Tracking(registered.root).reading()

    heard = []
    monkeypatch.setattr(ui, "started", None)  # it would be called
    with open_workspace(registered.root) as workspace:
        ui.ui(workspace, Server(registered.root), ui.UiRequest("m"), heard.append)
    assert heard == ["http://mlflow.example:5000/#/models/m?workflowType=machine_learning"]


@pytest.mark.slow
def test_a_password_in_the_address_of_a_server_is_not_said_but_the_browser_has_it(registered, tmp_path):
    opened = tmp_path / "opened"
    browser = tmp_path / "browser"
    browser.write_text(f'#!/bin/sh\nprintf %s "$1" > {opened}\n')
    browser.chmod(0o755)
    with tracking_server(tmp_path, f"sqlite:///{tmp_path}/server.db") as server:
        host = server.uri.removeprefix("http://")
        env = {"MLFLOW_TRACKING_URI": f"http://ada:secret@{host}", "BROWSER": f"{browser} %s"}
        done = registered.run("dovetail", "ui", **env)
        missing = registered.run("dovetail", "ui", "runs:/0123456789abcdef0123456789abcdef", code=2, **env)
    assert done.stdout == f"http://…@{host}/#/models?workflowType=machine_learning\n"
    assert opened.read_text() == f"http://ada:secret@{host}/#/models?workflowType=machine_learning"
    assert "secret" not in missing.stdout + missing.stderr
