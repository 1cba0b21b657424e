"""Asking MLflow: its pages, its ways to say that there is nothing, and what need not be asked again."""

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dovetail.tracking.absence import Absence

if TYPE_CHECKING:
    from mlflow import MlflowClient

SQLITE = "sqlite:///"


class Asking:
    """What both halves of a store share: MLflow's client, and what was not there when it was asked for last."""

    def __init__(self, client: "MlflowClient", root: Path, uri: str) -> None:
        self._client = client
        self._root = root
        self.uri = uri
        self._absent: dict[str, Absence] | None = None

    @contextmanager
    def recalling(self) -> Iterator[None]:
        """Within the block, what was not there need not be asked for again and again.

        That is for reading, or for writing under the lock. It covers a store that lies in the repository; elsewhere
        others may write at any time, and each question is asked.
        """
        own = self.uri.startswith(SQLITE) and Path(self.uri.removeprefix(SQLITE)).is_relative_to(self._root.resolve())
        self._absent = {} if own else None
        try:
            yield
        finally:
            self._absent = None

    def _asked(
        self, kind: str, value: str, ask: Callable[[str, str], list[Any]], read: Callable[[str], set[str] | None]
    ) -> list[Any]:
        """What `ask(kind, value)` answers, without asking where that is known to be nothing."""
        if self._absent is None:
            return ask(kind, value)
        absence = self._absent.setdefault(kind, Absence(lambda: read(kind)))
        found = [] if absence.has(value) else ask(kind, value)
        if not found:
            absence.miss()
        return found

    def _is_there(self, kind: str, value: str) -> None:
        if self._absent and kind in self._absent:
            self._absent[kind].end(value)


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
    """The digest of the file, read anew."""
    with Path(file).open("rb") as content:
        return hashlib.file_digest(content, "md5").hexdigest()
