"""DVC's own view of a repository, opened when it is asked for the first time."""

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from dovetail.errors import UserError

if TYPE_CHECKING:
    from dvc.repo import Repo


class DvcRepo:
    """The DVC repository at `root`, shared by all that asks DVC."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._closing = ExitStack()

    @cached_property
    def opened(self) -> "Repo":
        """The repository as DVC opens it; the import of DVC takes half a second.

        Raises:
            UserError: when DVC cannot read its configuration.
        """
        from dvc.repo import Repo

        with dvc_errors():
            return self._closing.enter_context(Repo(str(self.root)))

    @property
    def default_remote(self) -> str | None:
        """The name of the remote that DVC's commands use where none is named."""
        name: str | None = self.opened.config["core"].get("remote")
        return name

    def close(self) -> None:
        """Close it, if it was opened."""
        self._closing.close()


@contextmanager
def dvc_errors() -> Iterator[None]:
    """Translate what DVC says of a file that it cannot read.

    Raises:
        UserError: in place of DVC's own errors.
    """
    try:
        yield
    except Exception as error:
        dvc = sys.modules.get("dvc.exceptions")  # where it was never imported nothing can be its error
        if dvc and isinstance(error, dvc.DvcException):
            raise UserError(one_line(error), "mend the file named, then: dvc status") from error
        raise


def one_line(error: Exception) -> str:
    """What an error says, on one line."""
    return " ".join(str(error).split())
