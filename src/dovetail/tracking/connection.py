"""Where MLflow's store is, and opening it: its schema made if it is new, its errors translated."""

import logging
import os
import shlex
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, chdir, closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from dovetail.errors import ForeignStore, StoreError
from dovetail.tracking.client import raised_by
from dovetail.tracking.relocate import former_roots, relocate
from dovetail.tracking.sqlite_reader import empty_reader, reader
from dovetail.tracking.store import SQLITE, Store
from dovetail.tracking.store_error import store_error, without_secrets

ENV_TRACKING_URI = "MLFLOW_TRACKING_URI"
_DRIVERS = {"psycopg": "'psycopg[binary]'", "psycopg2": "psycopg2-binary", "MySQLdb": "mysqlclient"}  # module → package
# What MLflow and what it is made of raise.
_FOREIGN = (
    ("mlflow.exceptions", "MlflowException"),
    ("requests.exceptions", "RequestException"),
    ("sqlalchemy.exc", "SQLAlchemyError"),
)
_SECONDS = 5  # for a server's first answer


def tracking_uri(root: Path) -> str:
    """The store of the repository at `root`: MLFLOW_TRACKING_URI, else the SQLite file that a bare `mlflow ui` opens.

    A relative SQLite path is taken from `root`: in a temporary experiment the current folder is about to be deleted.
    """
    uri = os.environ.get(ENV_TRACKING_URI) or f"{SQLITE}mlflow.db"
    if uri.startswith(SQLITE) and not uri.startswith(f"{SQLITE}/"):
        return f"{SQLITE}{(root / uri.removeprefix(SQLITE)).resolve()}"
    return uri


def relocate_store(root: Path) -> list[str]:
    """Correct the paths in the SQLite store of `root` if its folder was moved; returns the folders that it named."""
    uri = tracking_uri(root)
    if not uri.startswith(SQLITE):
        return []
    try:
        return relocate(Path(uri.removeprefix(SQLITE)), root)
    except sqlite3.Error as error:
        raise store_error(uri, error) from error


def has_store(root: Path) -> bool:
    """Whether there is a store to ask: opening one that is not there would make it."""
    uri = tracking_uri(root)
    return not uri.startswith(SQLITE) or Path(uri.removeprefix(SQLITE)).exists()


class Tracking:
    """MLflow's store of the repository at `root`: cheap to make, opened where it is asked for the first time."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._store: Store | None = None

    @property
    def uri(self) -> str:
        """Where it is."""
        return tracking_uri(self.root)

    @property
    def exists(self) -> bool:
        """Whether there is a store to ask: asking one that is not there would make it."""
        return has_store(self.root)

    @contextmanager
    def store(self) -> Iterator[Store]:
        """The store, its schema made if it is new; what MLflow refuses within the block becomes a StoreError.

        Raises:
            ForeignStore: when its files are in another folder: the repository was moved or copied.
            StoreError: when MLflow refuses or does not answer.
        """
        with _translated(self.uri):
            if self._store is None or self._store.uri != self.uri:
                _check_root(self.root, self.uri)
                self._store = _connect(self.root, self.uri)
            yield self._store

    @contextmanager
    def reading(self) -> Iterator[Store]:
        """The store for commands that only look: an SQLite file is read without MLflow as far as that goes.

        Where there is no store it is an empty one, which MLflow makes only for what it alone knows; none is
        left behind.

        Raises:
            ForeignStore, StoreError: as `store` does.
        """
        if self.exists:
            with _translated(self.uri):
                looking = self._store is None and _look(self.root, self.uri)
                if looking:
                    yield looking
                    return
            with self.store() as store:
                yield store
            return
        uri = self.uri  # before MLflow is told another, which it exports to the environment
        with ExitStack() as made, _translated(uri):
            new = partial(_new_client, made, uri)
            client: Any = empty_reader(new) or new()
            yield Store(client, self.root, uri)


def import_mlflow() -> None:
    """Import all of MLflow that a store needs: a second, which can pass while something else is done."""
    import mlflow
    import mlflow.store.model_registry.sqlalchemy_store
    import mlflow.store.tracking.sqlalchemy_store  # noqa: F401


@contextmanager
def open_store(root: Path) -> Iterator[Store]:
    """Open the store of the repository at `root`; on a new SQLite file MLflow's migrations run.

    Raises:
        StoreError: when MLflow refuses or does not answer.
    """
    with Tracking(root).store() as store:
        yield store


def _check_root(root: Path, uri: str) -> None:
    """Refuse a store that keeps its files in another folder, before anything is written or deleted there."""
    if not uri.startswith(SQLITE):
        return
    file = Path(uri.removeprefix(SQLITE))
    for former in former_roots(file, root):
        how = f"is a copy: it names the files in {former.path}, which is there, too"
        if not former.is_copied:
            how = f"was moved: it names files in {former.path}, which is gone"
        has_files = (root / "mlruns").exists()
        raise ForeignStore(
            f"{file} {how}", "dovetail sync" if has_files else f"rm {shlex.quote(str(file))} && dovetail sync --all"
        )


def _ask(uri: str) -> None:
    """Ask a server once whether it is there: MLflow itself would ask it for four minutes.

    What it answers does not matter; later requests are repeated as MLflow repeats them.
    """
    from mlflow.exceptions import InvalidUrlException, MlflowException
    from mlflow.utils import credentials, rest_utils

    untyped: Any = rest_utils.http_request
    creds: Any = credentials.get_default_host_creds(uri)  # type: ignore[no-untyped-call]  # MLflow's own
    try:
        untyped(creds, "/health", "GET", max_retries=0, timeout=_SECONDS, raise_on_status=False)
    except InvalidUrlException:
        raise
    except MlflowException as error:
        shown = without_secrets(uri)
        next_command = f"curl {shown}/health, then run the same command again; or unset {ENV_TRACKING_URI}"
        raise StoreError(f"MLflow at {shown} does not answer (asked for {_SECONDS} seconds)", next_command) from error


def _connect(root: Path, uri: str) -> Store:
    import mlflow

    _check_artifacts(root)
    logging.getLogger("mlflow").setLevel(logging.WARNING)  # the migrations of a new store are no news to a user
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)  # it prints the error that is translated here
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")  # stdout is the answer's
    _tell_mlflow(uri)
    if uri.startswith("http"):
        _ask(uri)
    with chdir(root):  # where MLflow puts the default experiment of a new store
        _create_sqlite(uri)
        try:
            client = mlflow.MlflowClient(uri)
            client.search_experiments(max_results=1)
        except ModuleNotFoundError as error:
            what = f"MLflow at {without_secrets(uri)}: {error.name}, which asks this database, is not installed"
            package = _DRIVERS.get(error.name or "", error.name)
            raise StoreError(what, f"python -m pip install {package}, then run the same command again") from error
    return Store(client, root, uri)


def _new_client(made: ExitStack, uri: str) -> Any:
    """MLflow's client of a new store, which is gone once `made` is closed; then MLflow is told `uri`."""
    folder = Path(made.enter_context(tempfile.TemporaryDirectory())).resolve()
    made.callback(_tell_mlflow, uri)
    return _connect(folder, f"{SQLITE}{folder}/mlflow.db").client


def _tell_mlflow(uri: str) -> None:
    import mlflow

    mlflow.set_tracking_uri(uri)  # MLflow's registry resolves models:/ through this global only


def _look(root: Path, uri: str) -> Store | None:
    """The store read without MLflow; None where it has to be asked."""
    if not uri.startswith(SQLITE):
        return None
    client: Any = reader(Path(uri.removeprefix(SQLITE)), lambda: _connect(root, uri).client)
    if client is None:
        return None
    _check_root(root, uri)
    _check_artifacts(root)
    return Store(client, root, uri)


def _check_artifacts(root: Path) -> None:
    """See that what lies where MLflow keeps its files is a folder that can be read: a file would be read as no files.

    Raises:
        StoreError: when it is not.
    """
    folder = root / "mlruns"
    if (folder.exists() or folder.is_symlink()) and not (folder.is_dir() and os.access(folder, os.R_OK | os.X_OK)):
        what = "cannot be read" if folder.is_dir() else "is not a folder"
        raise StoreError(f"{folder}, where MLflow keeps its files, {what}", f"ls -ld {shlex.quote(str(folder))}")


@contextmanager
def _translated(uri: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        others = (raised_by(*each) for each in _FOREIGN)
        if isinstance(error, sqlite3.Error | OSError) or any(isinstance(error, other) for other in others):
            raise store_error(uri, error) from error
        raise


def _create_sqlite(uri: str) -> None:
    """Make a new SQLite store in memory and put the finished file in its place, whole or not at all.

    On disk MLflow's migrations wait for it a thousand times: seconds, and a kill among them leaves half a store.
    """
    path = Path(uri.removeprefix(SQLITE))
    if not uri.startswith(SQLITE) or path.exists():
        return
    from mlflow.store.tracking import DEFAULT_LOCAL_FILE_AND_ARTIFACT_PATH
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    store_class: Any = SqlAlchemyStore  # untyped
    engine = store_class("sqlite://", DEFAULT_LOCAL_FILE_AND_ARTIFACT_PATH).engine
    try:
        with closing(engine.raw_connection()) as made, closing(sqlite3.connect(temporary)) as file:
            made.driver_connection.backup(file)
        try:
            path.hardlink_to(temporary)
        except FileExistsError:
            pass  # a tracking server was faster; its store is as good
        except OSError:  # a file system without links
            temporary.replace(path)
    finally:
        engine.dispose()
        temporary.unlink(missing_ok=True)
