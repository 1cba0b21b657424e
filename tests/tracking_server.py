"""An MLflow tracking server: a real one, on a port of its own."""

import contextlib
import os
import signal
import subprocess
import time
import urllib.request
from dataclasses import dataclass

from project import BIN, free_port


@dataclass
class TrackingServer:
    uri: str
    process: subprocess.Popen


@contextlib.contextmanager
def tracking_server(folder, backend, *arguments, **more):
    """`mlflow server` that works in `folder`; whatever happens, nothing of it stays."""
    port = free_port()
    uri = f"http://127.0.0.1:{port}"
    command = [
        BIN / "mlflow",
        "server",
        "--port",
        str(port),
        "--workers",
        "1",
        "--backend-store-uri",
        backend,
        *arguments,
    ]
    # Without its job runners: half a dozen processes, each of which imports MLflow.
    env = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", **more}
    with (folder / "server.log").open("w") as log:
        process = subprocess.Popen(command, cwd=folder, env=env, stdout=log, stderr=log, start_new_session=True)
    try:
        wait_for(f"{uri}/health", process)
        yield TrackingServer(uri, process)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def wait_for(address, process):
    while process.poll() is None:
        with contextlib.suppress(OSError):
            urllib.request.urlopen(address, timeout=5)
            return
        time.sleep(0.2)
    raise AssertionError("the server ended")
