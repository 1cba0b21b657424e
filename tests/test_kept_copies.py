"""What is said where a version's copy cannot be brought: who is to blame, the store or this machine."""

import http.server
import threading

import pytest
import requests

from dovetail.errors import NotPermitted, OutsideError, StoreError
from dovetail.serving.engine.kept_copies import keep
from dovetail.tracking.connection import Tracking

MD5 = "0" * 32


@pytest.fixture
def refusing():
    """A server that refuses whatever it is asked for, as the address of a function: the status is the path."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_error(int(self.path[1:]))

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield lambda status: requests.get(f"http://127.0.0.1:{server.server_port}/{status}", timeout=10)
        server.shutdown()


def brought(place, fetch):
    """Bring a version of MLflow's store, as a server does."""
    with Tracking(place).store():
        keep(place / "copies" / f"1-{MD5}", MD5, None, None, fetch)


@pytest.mark.parametrize(("status", "kind"), [(401, NotPermitted), (403, NotPermitted), (404, StoreError)])
def test_what_mlflows_server_refuses_is_not_the_disks_fault(refusing, tmp_path, monkeypatch, status, kind):
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "ada")
    with pytest.raises(kind) as refused:
        brought(tmp_path, lambda _: refusing(status).raise_for_status())
    assert str(status) in refused.value.message
    assert "cannot be written" not in refused.value.message
    assert ("(ada)" in refused.value.message) == (kind is NotPermitted)


def test_a_folder_that_cannot_be_written_is_not_the_stores_fault(tmp_path):
    (tmp_path / "copies").touch()
    with pytest.raises(OutsideError, match="cannot be written") as refused:
        brought(tmp_path, lambda _: None)
    assert not isinstance(refused.value, StoreError)


def test_a_full_disk_is_the_disks_fault(tmp_path):
    def full(_):
        raise OSError(28, "No space left on device")

    with pytest.raises(OutsideError, match="No space left on device") as refused:
        brought(tmp_path, full)
    assert refused.value.next_command == f"df -h {tmp_path / 'copies'}"
