"""Processes that have imported once what commands need, and fork a real process for each command.

One has imported MLflow, DVC and Dovetail, for the commands and the scripts of small projects. Another one has imported
what the stages of the reference project do, once the first of them is asked for.

To start `dovetail status` takes two seconds, nearly all of them imports. Tests start thousands of commands, so one
server a test run imports first and forks then. A forked command is a process like any other: its own process id,
arguments, folder, environment, umask, standard streams and end. `tests/shims/command.py` is what stands on PATH in its
place and talks to this server; `tests/commands.py` starts both.

No thread runs and no connection to a database is open when it forks: `_freeze` checks the first, imports open none.
"""

import atexit
import contextlib
import gc
import importlib
import marshal
import os
import pkgutil
import random
import select
import selectors
import signal
import socket
import sys
import threading
import types
from dataclasses import dataclass
from pathlib import Path

# What `dovetail`, `dvc` and the stages of small projects import. Not polars: MLflow behaves differently with it.
COMMANDS = (
    "alembic.command", "alembic.config", "dulwich.porcelain", "dvc.cachemgr", "dvc.cli.parser", "dvc.data_cloud",
    "dvc.dirs", "dvc.repo.artifacts", "dvc.repo.experiments.queue.celery", "dvc.repo.experiments.queue.workspace",
    "dvc.repo.experiments.show", "dvc.repo.index", "dvc.repo.plots", "dvc.repo.stage", "gto", "gto.cli", "joblib",
    "mlflow", "mlflow.cli", "mlflow.pyfunc", "mlflow.store.model_registry.sqlalchemy_workspace_store",
    "mlflow.store.tracking.sqlalchemy_workspace_store", "mlflow.tracing.processor.base_mlflow",
    "mlflow.utils.search_logged_model_utils", "multiprocessing.popen_fork", "networkx", "pandas", "pyarrow.parquet",
    "pyparsing", "rich.live", "sklearn.compose", "sklearn.dummy", "sklearn.ensemble", "sklearn.impute",
    "sklearn.pipeline", "sqlalchemy.dialects.sqlite", "yaml",
)  # fmt: skip
# What the stages of the reference project import. Polars starts its pool of threads when it is first used, not before.
STAGES = (
    "fsspec.implementations.local", "joblib", "matplotlib.backends.backend_agg", "matplotlib.figure", "narwhals",
    "palmerpenguins", "pandas", "pandera.polars", "polars", "pyarrow.parquet", "pydantic", "scipy.stats", "skops.io",
    "skrub", "sklearn.compose", "sklearn.datasets", "sklearn.ensemble", "sklearn.impute", "sklearn.inspection",
    "sklearn.linear_model", "sklearn.metrics", "sklearn.model_selection", "sklearn.pipeline", "sklearn.tree",
    "sqlalchemy.dialects.sqlite", "yaml",
)  # fmt: skip
APART = (
    "dovetail.serving",
    "dovetail.doctor.audit_hook",
    "dovetail.joblib_model",
)  # modules that other processes import
# Read while Python starts or while something is imported: with another value a command needs a process of its own.
READ_ON_IMPORT = (
    "ARROW_", "FSSPEC_", "LANG", "LC_", "LD_", "MALLOC_", "MKL_", "MLFLOW_CONFIGURE_LOGGING", "MLFLOW_LOGGING_LEVEL",
    "MPL", "NPY_", "NUMPY_", "OMP_", "OPENBLAS_", "OTEL_", "PANDAS_", "POLARS_", "PYTHON", "SKLEARN_", "TQDM_", "TZ",
)  # fmt: skip
SERVERS = {("mlflow", "server"), ("mlflow", "ui"), ("mlflow", "models"), ("dovetail", "serve"), ("dovetail", "ui")}
SIGNALS = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP}  # they wait from a fork until it is known whom they are for
HEADER = 4  # bytes that tell a request's length
FILES = 4  # the caller's standard streams and its folder


@dataclass
class Request:
    """A command to run, as the shim asks for it."""

    script: str
    arguments: list
    environment: dict
    umask: int
    ignored: list
    group: int
    session: int
    files: list


class Server:
    """Accepts requests, forks, hands back how each command ended."""

    def __init__(self, listener, fixed):
        self.environment = {name: value for name, value in os.environ.items() if name not in fixed}
        self.listener = listener
        self.selector = selectors.DefaultSelector()
        self.woken, self.waker = socket.socketpair()
        self.commands = {}  # by process id: the connection to who asked, None once it is gone

    def prepare_stages(self):
        """Import what stages need, once one of them is asked for."""
        if sys.stdin in select.select([self.listener, sys.stdin], [], [])[0]:
            os._exit(0)
        for name in STAGES:
            importlib.import_module(name)
        self._freeze()

    def prepare_commands(self):
        """Import what commands need, at once."""
        sys.modules["polars"] = None  # MLflow imports it if it is there
        for name in COMMANDS:
            importlib.import_module(name)
        package = importlib.import_module("dovetail")
        for module in pkgutil.walk_packages(package.__path__, "dovetail."):
            if not module.name.startswith(APART):
                importlib.import_module(module.name)
        del sys.modules["polars"]
        assert not {"polars", "pygit2"} & set(sys.modules)  # a home, read on import
        self._freeze()

    @staticmethod
    def _freeze():
        assert threading.active_count() == 1, threading.enumerate()
        gc.collect()
        gc.freeze()

    def serve(self):
        """Answer until whoever started this server is gone. In a forked process: its request."""
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGTERM, lambda *_: self._end())
        self.waker.settimeout(0)
        signal.set_wakeup_fd(self.waker.fileno(), warn_on_full_buffer=False)
        for file in (self.listener, self.woken, sys.stdin):
            self.selector.register(file, selectors.EVENT_READ)
        while True:
            for key, _ in self.selector.select():
                if key.fileobj is sys.stdin:
                    self._end()
                elif key.fileobj is self.woken:
                    self.woken.recv(4096)
                    self._reap()
                elif key.fileobj is self.listener:
                    if request := self._accept():
                        return request
                else:
                    self._lost(key.fileobj)

    def _accept(self):
        connection, _ = self.listener.accept()
        connection.settimeout(20)
        try:
            request = _receive(connection)
        except (OSError, EOFError):
            connection.close()
            return None
        if self._needs_own_process(request):
            with connection, contextlib.suppress(OSError):
                connection.sendall(marshal.dumps(0).ljust(16))
        elif pid := self._fork():
            self.commands[pid] = connection
            self.selector.register(connection, selectors.EVENT_READ)
            with contextlib.suppress(OSError):
                connection.sendall(marshal.dumps(pid).ljust(16))
            signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        else:
            self._close()
            connection.close()
            return request
        for file in request.files:
            os.close(file)
        return None

    def _fork(self):
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        return os.fork()

    def _needs_own_process(self, request):
        """Whether it is a server itself, or a variable that counts on import differs from what it was for this one."""
        mine, theirs = (
            {name: value for name, value in env.items() if name.startswith(READ_ON_IMPORT)}
            for env in (self.environment, request.environment)
        )
        return mine != theirs or (Path(request.script).name, *request.arguments[:1]) in SERVERS

    def _close(self):
        """Keep nothing of the server in a forked process."""
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        self.selector.close()
        for connection in (self.listener, self.woken, self.waker, *filter(None, self.commands.values())):
            connection.close()

    def _end(self):
        for pid in self.commands:
            _kill(pid)
        os._exit(0)

    def _reap(self):
        """Hand back how the commands that ended did so."""
        while self.commands:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if not pid:
                return
            if connection := self.commands.pop(pid):
                self.selector.unregister(connection)
                with connection, contextlib.suppress(OSError):
                    connection.sendall(marshal.dumps(os.waitstatus_to_exitcode(status)).ljust(16))

    def _lost(self, connection):
        """Who asked was killed: so is its command."""
        for pid in [pid for pid, asking in self.commands.items() if asking is connection]:
            self.commands[pid] = None
            _kill(pid)
        self.selector.unregister(connection)
        connection.close()


def _receive(connection):
    header, files, _, _ = socket.recv_fds(connection, HEADER, FILES, socket.MSG_CMSG_CLOEXEC)
    content = b""
    size = int.from_bytes(header, "big")
    while len(content) < size:
        if not (part := connection.recv(size - len(content))):
            for file in files:
                os.close(file)
            raise EOFError
        content += part
    return Request(**marshal.loads(content), files=files)


def _kill(pid):
    """End a command; in a session of its own with all that it started, for nobody else can reach that."""
    with contextlib.suppress(ProcessLookupError):
        if os.getpgid(pid) == pid:
            os.killpg(pid, signal.SIGKILL)
        else:
            os.kill(pid, signal.SIGKILL)


def become(request, fixed):
    """Make this process what the caller asked for, in all that a program can see of how it was started."""
    if os.getsid(0) == request.session:
        with contextlib.suppress(OSError):  # the group is gone if the caller is
            os.setpgid(0, request.group)
    else:
        os.setsid()
    *streams, folder = request.files
    for number, file in enumerate(streams):
        os.dup2(file, number)
    os.fchdir(folder)
    for file in request.files:
        os.close(file)
    os.umask(request.umask)
    for number in request.ignored:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
    os.environ.clear()
    os.environ.update({**request.environment, **fixed})  # and nothing that a library set while it was imported
    sys.stdout.reconfigure(line_buffering=sys.stdout.isatty())
    sys.argv[:] = [request.script, *request.arguments]
    script = Path(request.script).absolute()
    sys.path[0] = str(script if script.is_dir() else script.parent)
    random.seed()
    sys.modules["numpy"].random.seed()


def run(script):
    """Run a Python script, or a folder with a `__main__.py`, as `python SCRIPT` does."""
    file = Path(script).absolute()
    if file.is_dir():
        file /= "__main__.py"
        script = str(file)
    main = types.ModuleType("__main__")
    main.__file__ = str(file)
    main.__builtins__ = __builtins__
    sys.modules["__main__"] = main
    exec(compile(file.read_bytes(), script, "exec"), main.__dict__)
    return 0


class Ending:
    """Ends a forked process once all is done that a program can notice: its threads, what it left to do at its end.

    Taking Python apart module by module would write to every page that the process shares with the server.
    """

    def __init__(self):
        self.code = None
        atexit.register(self.end)  # the first to be registered is the last to be called

    def of(self, script):
        """Run a script; Python itself does with its exception what it always does."""
        try:
            self.code = run(script)
        except SystemExit as done:
            self.code = 0 if done.code is None else done.code & 0xFF if isinstance(done.code, int) else 1
            raise
        except Exception:
            self.code = 1
            raise

    def end(self):
        if self.code is not None:
            with contextlib.suppress(OSError, ValueError):  # Python makes exit code 120 of it
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(self.code)


if __name__ == "__main__":
    ending = Ending()
    settings = {name: os.environ[name] for name in sys.argv[3:]}  # those that stages are imported under
    server = Server(socket.socket(fileno=int(sys.argv[1])), settings)
    sys.path[0] = str(Path(sys.executable).parent)  # no test's module in place of a library's
    {"commands": server.prepare_commands, "stages": server.prepare_stages}[sys.argv[2]]()
    wanted = server.serve()
    become(wanted, settings)
    ending.of(wanted.script)
