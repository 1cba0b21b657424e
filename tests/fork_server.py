"""Processes that have imported once what commands need, and fork a real process for each command.

One has imported MLflow, DVC and Dovetail, for the commands and the scripts of small projects. Another one has imported
what the stages of the reference project do, and a third one what the process of a served model does, each once it is
asked for the first time.

To start `dovetail status` takes two seconds, nearly all of them imports. Tests start thousands of commands, so one
server a test run imports first and forks then. A forked command is a process like any other: its own process id,
arguments, folder, environment, umask, standard streams and end. `tests/shims/command.py` is what stands on PATH in its
place and talks to this server; `tests/commands.py` starts both.

No thread runs and no connection to a database is open when it forks: `_freeze` checks the first, imports open none.
"""

import atexit
import contextlib
import fcntl
import gc
import importlib
import importlib.machinery
import importlib.metadata
import logging
import marshal
import os
import pkgutil
import random
import re
import runpy
import select
import selectors
import signal
import socket
import sqlite3
import sys
import threading
import types
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy

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
# What the process of a served model imports.
ENGINES = (
    "dovetail.compiling.compiled_model", "dovetail.models.reader", "joblib", "orjson", "pandas", "pyarrow.parquet",
    "sklearn.base", "sklearn.compose", "sklearn.dummy", "sklearn.ensemble", "sklearn.impute", "sklearn.linear_model",
    "sklearn.pipeline", "sklearn.preprocessing", "yaml",
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
FILES = 32  # the caller's standard streams, its folder, and what else it was given
ABOVE = 256  # where a file lies until it gets the number that it has for the caller


@dataclass
class Request:
    """A command to run, as the shim asks for it."""

    script: str
    module: bool
    imports_mlflow: bool
    arguments: list
    environment: dict
    shims: str
    caller: int
    umask: int
    ignored: list
    group: int
    session: int
    given: list
    files: list


class Server:
    """Accepts requests, forks, hands back how each command ended."""

    def __init__(self, listener, fixed):
        self.environment, self.fixed = {**os.environ}, fixed
        self.listener = listener
        self.selector = selectors.DefaultSelector()
        self.woken, self.waker = socket.socketpair()
        self.commands = {}  # by process id: the connection to who asked, None once it is gone

    def prepare_later(self, names):
        """Import what is needed, once somebody asks."""
        if sys.stdin in select.select([self.listener, sys.stdin], [], [])[0]:
            os._exit(0)
        for name in names:
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
        remember_migrations()
        # Which package each module is of, which MLflow finds out for every model that it saves: half of `register`.
        importlib.import_module("mlflow.utils.requirements_utils")._init_packages_to_modules_map()
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
            {n: value for n, value in env.items() if n.startswith(READ_ON_IMPORT) and value != self.fixed.get(n)}
            for env in (self.environment, request.environment)
        )
        if "PYTHONPATH" not in mine and not shadows(theirs.get("PYTHONPATH", "")):
            theirs.pop("PYTHONPATH", None)
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


def shadows(path):
    """Whether a folder of PYTHONPATH has another form of what was imported here, or what is loaded unasked."""
    imported = {name.partition(".")[0] for name in sys.modules} | {"sitecustomize", "usercustomize"}

    def counts(file):
        name = re.split("[.-]", file.name)[0]
        if file.suffix in (".dist-info", ".egg-info"):
            known = next(iter(importlib.metadata.distributions(name=name)), None)
            return known is not None or (file / "entry_points.txt").exists()
        return (file.suffix in (".py", ".pyc", ".so") or file.is_dir()) and name in imported

    folders = [Path(folder) for folder in path.split(os.pathsep) if folder]
    return any(not folder.is_absolute() or any(map(counts, folder.glob("*"))) for folder in folders)


def remember_migrations():
    """Have MLflow's migrations run here, once; a command's new SQLite store is a copy of what came of them."""
    alembic, mlflow = sys.modules["alembic.command"], sys.modules["mlflow.store.db.utils"]
    migrate, engine = alembic.upgrade, sqlalchemy.create_engine("sqlite://")
    newest = mlflow._get_latest_schema_revision()  # which runs each of MLflow's scripts, for every store that is opened
    mlflow._get_latest_schema_revision = lambda: newest
    logging.disable()
    mlflow._initialize_tables(engine)
    logging.disable(logging.NOTSET)
    with contextlib.closing(engine.raw_connection()) as made:
        migrated = made.driver_connection.serialize()
    engine.dispose()

    def upgrade(config, revision):
        connection = config.attributes["connection"]
        if connection.dialect.name == "sqlite" and is_new(connection):
            with contextlib.closing(sqlite3.connect(":memory:")) as memory:
                memory.deserialize(migrated)
                memory.backup(connection.connection.driver_connection)
        else:
            migrate(config, revision)

    alembic.upgrade = upgrade


def is_new(store):
    """Whether it has just the tables of MLflow's first version, and nothing in them."""
    tables = sqlalchemy.inspect(store).get_table_names()
    filled = any(store.exec_driver_sql(f"SELECT EXISTS (SELECT 1 FROM {name})").scalar() for name in tables)
    return "alembic_version" not in tables and not filled


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
    files = [fcntl.fcntl(file, fcntl.F_DUPFD_CLOEXEC, ABOVE) for file in request.files]
    for file in request.files:
        os.close(file)
    folder, *others = files
    for file, number in zip(others, (0, 1, 2, *request.given), strict=True):
        os.dup2(file, number)
    os.fchdir(folder)
    for file in files:
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
    if request.module:  # by -P: no folder of its own is searched
        del sys.path[0]
    else:
        sys.path[0] = str(script if script.is_dir() else script.parent)
    first = 0 if request.module else 1
    sys.path[first:first] = filter(None, request.environment.get("PYTHONPATH", "").split(os.pathsep))
    if request.imports_mlflow:
        be_a_child_of(request.caller)
        for name in [name for name in sys.modules if name.partition(".")[0] in ("mlflow", "dovetail")]:
            del sys.modules[name]
    if request.module or script.name == "dovetail":  # what it starts by this name is asked for here too
        sys.executable = str(Path(request.shims) / "python")
    random.seed()
    sys.modules["numpy"].random.seed()


def be_a_child_of(caller):
    """Have psutil say whose child this process is for its caller: the plugin looks for the `dvc` that runs a stage."""
    process, pid = importlib.import_module("psutil._pslinux").Process, os.getpid()
    true = process.ppid
    process.ppid = lambda self: caller if self.pid == pid else true(self)


def run(script, *, module):
    """Run a Python script, or a folder with a `__main__.py`, as `python SCRIPT` does; a module as `python -m` does."""
    main = types.ModuleType("__main__")
    main.__builtins__ = __builtins__
    sys.modules["__main__"] = main
    if module:
        if not hasattr(sys.modules.get(script), "__path__"):  # no package: something may have imported it here
            sys.modules.pop(script, None)
        runpy._run_module_as_main(script)
        return 0
    file = Path(script).absolute()
    if file.is_dir():
        main.__spec__ = importlib.machinery.ModuleSpec("__main__", None)  # what it spawns then does not run it again
        file /= "__main__.py"
        script = str(file)
    main.__file__ = str(file)
    exec(compile(file.read_bytes(), script, "exec"), main.__dict__)
    return 0


class Ending:
    """Ends a forked process once all is done that a program can notice: its threads, what it left to do at its end.

    Taking Python apart module by module would write to every page that the process shares with the server.
    """

    def __init__(self):
        self.code = None
        atexit.register(self.end)  # the first to be registered is the last to be called

    def of(self, script, *, module):
        """Run a script or a module; Python itself does with its exception what it always does."""
        try:
            self.code = run(script, module=module)
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
    if sys.argv[2] == "commands":
        server.prepare_commands()
    else:
        server.prepare_later({"stages": STAGES, "engines": ENGINES}[sys.argv[2]])
    wanted = server.serve()
    become(wanted, settings)
    ending.of(wanted.script, module=wanted.module)
