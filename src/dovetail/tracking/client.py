"""MLflow's client as both halves of a store use it: paged searches, missing things, a cache of what is missing."""

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
        self._packages: dict[str, str] = {}  # of the logged models written here, by their ids: not to be read again

    @contextmanager
    def remembering_missing(self) -> Iterator[None]:
        """Within the block, MLflow is not asked again for values that it is known not to have.

        That is for reading, or for writing under the lock. It covers a store in the repository; to another one others
        may write at any time, and MLflow is asked each time.
        """
        own = self.uri.startswith(SQLITE) and Path(self.uri.removeprefix(SQLITE)).is_relative_to(self._root.resolve())
        self._missing = {} if own else None
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
    from mlflow.exceptions import MlflowException

    try:
        yield
    except MlflowException as error:
        if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE", "NOT_FOUND"):
            raise
    except FileNotFoundError:
        pass


def pages(search: Callable[..., Any], **question: Any) -> Iterator[Any]:
    """Every answer of one of MLflow's paged searches."""
    token = None
    while True:
        page = search(**question, page_token=token)
        yield from page
        if not (token := page.token):
            return


def md5(file: str) -> str:
    """The digest of the file, computed from its bytes."""
    with Path(file).open("rb") as content:
        return hashlib.file_digest(content, "md5").hexdigest()
