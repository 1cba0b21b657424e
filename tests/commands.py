"""`dovetail`, `dvc` and stages for tests: shims on PATH that have a fork server run them, or the true commands."""

import contextlib
import importlib.util
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

BIN = Path(sys.executable).parent
HERE = Path(__file__).parent
SERVED = {name: BIN / name for name in ("dovetail", "dvc", "gto", "mlflow", "python")} | {"killed": HERE / "kill_at.py"}
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
SHIMS = "COMMANDS_OF_TESTS"  # the environment variable that names the shims' folder, for the workers of a run


class Commands:
    """Fork servers and a folder with a shim for each command that they serve."""

    def __init__(self):
        self.folder = Path(tempfile.mkdtemp(prefix="shims-"))
        self._servers = [self._start(kind) for kind in ("commands", "stages", "engines")]
        text = (HERE / "shims" / "command.py").read_text()
        for name, script in SERVED.items():
            shim = self.folder / name
            shim.write_text(f"#!{sys.executable} -IS\n{text}")
            shim.chmod(0o755)
            shim.with_name(f"{name}.script").symlink_to(script)

    def _start(self, kind):
        settings = fixed() if kind == "stages" else {}
        with socket.socket(socket.AF_UNIX) as listener, (self.folder / f"{kind}.log").open("wb") as log:
            listener.bind(str(self.folder / f"{kind}.socket"))
            listener.listen(64)  # who comes while the server imports, waits
            return subprocess.Popen(
                [sys.executable, HERE / "fork_server.py", str(listener.fileno()), kind, *settings],
                pass_fds=[listener.fileno()], stdin=subprocess.PIPE, stdout=log, stderr=log,
                env={**_environment(self.folder), **settings},
            )  # fmt: skip

    def close(self):
        """End the servers, and with them what they run."""
        for server in self._servers:
            server.terminate()
            server.stdin.close()
            server.wait()
        shutil.rmtree(self.folder)


def fixed():
    """What the stages of the reference project set before they import numpy: their server has it from the beginning."""
    spec = importlib.util.spec_from_file_location("reproducible", HERE.parent / "src/stages/common/reproducible.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.settings()


def _environment(home):
    """The environment in which the server imports: that of a test, in a home of its own."""
    apart = ("MLFLOW_", "DVC_", "GIT_", "DOVETAIL_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(apart)}
    return {
        **kept,
        "HOME": str(home),
        "MPLBACKEND": "Agg",
        "PYTEST_CURRENT_TEST": "the fork server",
    }  # MLflow reports nothing


def path(*, plain=False):
    """The value of PATH: the shims, unless plain processes are wanted, and this environment's commands first."""
    shims = [] if plain or not os.environ.get(SHIMS) else [os.environ[SHIMS]]
    others = [part for part in os.environ["PATH"].split(os.pathsep) if part not in shims]
    return os.pathsep.join([*shims, str(BIN), *others])


def killed():
    """The command that runs `dovetail …` and kills it."""
    return ["killed"] if os.environ.get(SHIMS) else [sys.executable, str(SERVED["killed"])]


@contextlib.contextmanager
def serving_python():
    """What this process starts as `sys.executable` is served meanwhile, like what a served command starts."""
    before = sys.executable
    if shims := os.environ.get(SHIMS):
        sys.executable = f"{shims}/python"
    try:
        yield
    finally:
        sys.executable = before


def starting(script):
    """The command that runs a script of this environment as a plain process, but what it starts itself is served."""
    if not os.environ.get(SHIMS):
        return [str(BIN / script)]
    code = "import runpy, sys; sys.executable = sys.argv.pop(1); runpy.run_path(sys.argv.pop(1), run_name='__main__')"
    return [sys.executable, "-P", "-c", code, f"{os.environ[SHIMS]}/python", str(BIN / script)]
