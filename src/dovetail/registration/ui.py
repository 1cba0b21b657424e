"""`dovetail ui [REF]`: MLflow's own pages of the workspace's store, opened at what is asked for."""

import os
import socket
import sys
import tempfile
import time
import urllib.error
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from dovetail.errors import OutsideError, StoreError, one_line
from dovetail.registration.resolve import resolve
from dovetail.repo.workspace import Workspace
from dovetail.system import loopback
from dovetail.system.processes import interruptible, started
from dovetail.system.telemetry import ENV_NO_TELEMETRY
from dovetail.tracking.connection import Tracking
from dovetail.tracking.store import SQLITE, Store
from dovetail.values.reference import ByAlias, parse

PORT = 5000  # of a bare `mlflow ui`
_HOST = "127.0.0.1"
_TRIED = 50  # ports, where none is asked for
_GRACE = 1.0  # seconds to end: MLflow waits longer, for connections that browsers keep open
_SECONDS = 120  # for MLflow to come up on a slow machine
# MLflow's pages come up for prompts and traces, and hide runs and training: this shows what a pipeline made.
_MODE = "?workflowType=machine_learning"
# What `mlflow ui` would start besides, five processes of 200 MB: jobs for the judging of language models.
_WITHOUT_JOBS = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}


@dataclass(frozen=True, slots=True)
class UiRequest:
    """Which page: of a model, a version, an alias or a run; None: the models. `port` None: 5000, else the next free."""

    ref: str | None = None
    port: int | None = None


def ui(workspace: Workspace, tracking: Tracking, request: UiRequest, ready: Callable[[str], None]) -> None:
    """Serve MLflow's pages until Ctrl-C; `ready` hears the address of the page once it answers.

    Where the store is a tracking server's, nothing is started: `ready` hears the address of the page there.

    Raises:
        UnknownReference: naming what there is.
        StoreError: when there is no store, or MLflow does not come up.
        OutsideError: when the port that is asked for is taken.
    """
    if not tracking.exists:
        raise StoreError(f"there is no MLflow store at {tracking.uri}", "dovetail sync")
    uri = tracking.uri
    with tracking.reading() as store:
        page = page_of(workspace, store, request.ref)
    if uri.startswith("http"):
        ready(f"{uri.rstrip('/')}/{page}")
        return
    port = free_port(request.port)
    # At the root: that is where a bare `mlflow ui` looks for what it keeps itself.
    command = [sys.executable, "-m", "mlflow", "ui", "--host", _HOST, "--port", str(port), "--workers", "1"]
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder, "mlflow.log")
        try:
            with (
                interruptible(),
                started(command, folder=tracking.root, env=_environment(tracking), output=log, grace=_GRACE) as ended,
            ):
                _wait(port, ended, log)
                ready(f"http://{_HOST}:{port}/{page}")
                while ended() is None:
                    time.sleep(0.2)
        except KeyboardInterrupt:
            return
        raise _died(log)


def page_of(workspace: Workspace, store: Store, ref: str | None) -> str:
    """The page of what is named, as MLflow's own router addresses it."""
    if ref is None:
        return f"#/models{_MODE}"
    named = parse(ref, frozenset(workspace.tree.declared.models) | frozenset(store.models()))
    if isinstance(named, ByAlias) and named.alias is None and named.model in store.models():
        return f"#/models/{quote(named.model, safe='')}{_MODE}"
    found = resolve(workspace, store, named)
    if found.version is None:
        return f"#/experiments/{found.run.experiment}/runs/{found.run.id}{_MODE}"
    return f"#/models/{quote(found.model, safe='')}/versions/{found.version}{_MODE}"


def _environment(tracking: Tracking) -> Mapping[str, str]:
    """The store by the environment: an address of a database has its password in it, which a command line shows."""
    mine = {"MLFLOW_BACKEND_STORE_URI": tracking.uri, **_WITHOUT_JOBS}
    if tracking.uri.startswith(SQLITE):  # experiments made on the pages, too, keep their files with the others
        mine["MLFLOW_DEFAULT_ARTIFACT_ROOT"] = (tracking.root / "mlruns").as_uri()
    return {ENV_NO_TELEMETRY: "true", **os.environ, **mine}


def free_port(wanted: int | None) -> int:
    """The port that is asked for, else the first free one from 5000 on.

    Raises:
        OutsideError: when it is taken, or all of them are.
    """
    for port in [wanted] if wanted else range(PORT, PORT + _TRIED):
        with socket.socket() as tried:
            tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                tried.bind((_HOST, port))
            except OSError:
                continue
            return port
    if wanted:
        raise OutsideError(
            f"port {wanted} is taken", f"dovetail ui --port {wanted + 1}, or omit --port for the next free one"
        )
    raise OutsideError(
        f"the ports from {PORT} to {PORT + _TRIED - 1} are taken", "dovetail ui --port PORT, with a free port"
    )


def _wait(port: int, ended: Callable[[], int | None], log: Path) -> None:
    """Wait until MLflow answers.

    Raises:
        StoreError: when it ends instead, or takes too long.
    """
    until = time.monotonic() + _SECONDS
    while time.monotonic() < until:
        if ended() is not None:
            raise _died(log)
        try:
            loopback.opened(f"http://{_HOST}:{port}/health", 5).close()
        except (OSError, urllib.error.URLError):
            time.sleep(0.1)
        else:
            return
    raise StoreError(
        f"`mlflow ui` did not answer in {_SECONDS} seconds", "mlflow doctor, then run the same command again"
    )


def _died(log: Path) -> StoreError:
    said = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return StoreError(f"`mlflow ui` ended: {one_line(said[-1]) if said else 'it said nothing'}", "mlflow doctor")
