"""A team's store: PostgreSQL, S3 and a tracking server, started once for the tests of a file."""

import contextlib
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import psutil
from project import ROOT

PACKAGES = Path(sys.prefix) / "stack"  # where `make stack` puts them


@dataclass(frozen=True)
class TeamStore:
    uri: str
    folder: Path

    def state(self):
        """Where the servers are, and their process ids."""
        return json.loads((self.folder / "stack.json").read_text())

    def client(self):
        """MLflow's own."""
        from mlflow import MlflowClient

        return MlflowClient(self.uri, self.uri)


@contextlib.contextmanager
def team_store(folder):
    """The servers, which keep their files in `folder`; they end in order, or with the process that starts them."""
    command = [sys.executable, ROOT / "scripts/stack.py", folder]
    with (folder / "stack.log").open("w") as log:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
    try:
        line = process.stdout.readline()
        assert line.startswith("export MLFLOW_TRACKING_URI=http://"), (folder / "stack.log").read_text()
        yield TeamStore(line.strip().partition("=")[2], folder)
    finally:
        process.terminate()
        process.communicate()


def pids_of(folder):
    """The processes that work in `folder` or below it."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if Path(process.cwd()).is_relative_to(folder):
                found.append(process.pid)
    return found
