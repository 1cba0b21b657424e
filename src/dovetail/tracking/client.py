"""MLflow's client as both halves of a store use it: paged searches, missing things, a cache of what is missing."""

import hashlib
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dovetail.tracking import store_lock
from dovetail.tracking.clone import clone_id
from dovetail.tracking.known_missing import KnownMissing

if TYPE_CHECKING:
    from mlflow import MlflowClient

SQLITE = "sqlite:///"


class StoreClient:
    """What both halves of a store share: MLflow's client, and the values that it is known not to have."""

    def __init__(self, client: "MlflowClient", root: Path, uri: str) -> None:
        self._client = client
        self._root = root
        self.uri = uri
        self._missing: dict[str, KnownMissing] | None = None
        self._locks: dict[str, store_lock.StoreLock] = {}  # that are held, by the model
        self._packages: dict[str, str] = {}  # of the logged models written here, by their ids: not to be read again

    @property
    def client(self) -> Any:
        """MLflow's client."""
        return self._client

    @property
    def is_shared(self) -> bool:
        """Whether others than this clone, whose lock is held, may write to it."""
        return not self._is_own

    @contextmanager
    def locked(self, model: str) -> Iterator[None]:
        """Hold the lock to write of this model, where other clones may write, too.

        Raises:
            Busy: when another clone does not let go of it within ten minutes.
        """
        if self.is_shared:
            with store_lock.held(self._client, model, clone_id(self._root)) as mine:
                self._locks[model] = mine
                try:
                    yield
                finally:
                    del self._locks[model]
        else:
            yield

    def _check_lock(self, model: str) -> None:
        """Raise if another clone took the write lock.

        Raises:
            TurnLost: when another clone took it over.
        """
        if model in self._locks:
            self._locks[model].check()

    @cached_property
    def _is_own(self) -> bool:
        file = self.uri.removeprefix(SQLITE)
        return self.uri.startswith(SQLITE) and Path(file).is_relative_to(self._root.resolve())

    @contextmanager
    def remembering_missing(self) -> Iterator[None]:
        """Within the block, MLflow is not asked again for values that it is known not to have.

        That is for reading, or for writing under the lock. It covers a store in the repository; to another one others
        may write at any time, and MLflow is asked each time.
        """
        self._missing = {} if self._is_own else None
        try:
            yield
        finally:
            self._missing = None

    def _search(
        self, kind: str, value: str, ask: Callable[[str, str], list[Any]], read: Callable[[str], set[str] | None]
    ) -> list[Any]:
        """What `ask(kind, value)` finds, without asking where the value is known to be missing."""
        if self._missing is None:
            return ask(kind, value)
        missing = self._missing.setdefault(kind, KnownMissing(lambda: read(kind)))
        found = [] if missing.has(value) else ask(kind, value)
        if not found:
            missing.note_miss()
        return found

    def _note_created(self, kind: str, value: str) -> None:
        if self._missing and kind in self._missing:
            self._missing[kind].note_created(value)


@contextmanager
def none_if_missing() -> Iterator[None]:
    """Go on after the block when MLflow or its artifact store does not have what was asked for."""
    try:
        yield
    except FileNotFoundError:
        pass
    except Exception as error:
        missing = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE", "NOT_FOUND")
        if not (isinstance(error, raised_by("mlflow.exceptions", "MlflowException")) and error.error_code in missing):
            raise


def raised_by(module: str, name: str) -> Any:
    """The class of another library's errors, to be looked for; of none while nobody has imported the library."""
    return getattr(sys.modules.get(module), name, ())


def pages(search: Callable[..., Any], **question: Any) -> Iterator[Any]:
    """Every answer of one of MLflow's paged searches."""
    token = None
    while True:
        page = search(**question, page_token=token)
        yield from page
        if not (token := page.token):
            return


@contextmanager
def unless_there() -> Iterator[None]:
    """Within the block it is no error to make what is there already."""
    from mlflow.exceptions import MlflowException

    try:
        yield
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


def md5(file: str) -> str:
    """The digest of the file, computed from its bytes."""
    with Path(file).open("rb") as content:
        return hashlib.file_digest(content, "md5").hexdigest()
