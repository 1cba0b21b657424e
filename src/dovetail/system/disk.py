"""What the operating system says of a file or a disk, as an error of ours."""

import errno
import os
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dovetail.errors import DovetailError, OutsideError, UserError, one_line

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO}
_OUTSIDE = {*_FULL, errno.EROFS, errno.EACCES, errno.EPERM}
_OF_SQLITE = ("SQLITE_FULL", "SQLITE_IOERR", "SQLITE_READONLY", "SQLITE_CANTOPEN")  # extended codes begin so, too
_SAID_FULL = (*(os.strerror(code) for code in _FULL), "database or disk is full", "Out of diskspace")


def is_of_disk(error: BaseException | None) -> bool:
    """Whether a full, broken or read-only disk, or a permission, is the reason: nothing in the repository is wrong."""
    while error is not None:
        if isinstance(error, OSError) and (error.errno in _OUTSIDE or says_full(str(error))):
            return True
        if str(getattr(error, "sqlite_errorname", "")).startswith(_OF_SQLITE):
            return True
        original = getattr(error, "orig", None)  # SQLAlchemy's name for what the driver said
        error = original if isinstance(original, Exception) else error.__cause__ or error.__context__
    return False


def says_full(text: str) -> bool:
    """Whether a text, of git or of MLflow, says that a disk is full."""
    return any(said in text for said in _SAID_FULL)


def refused(error: OSError, path: str, next_command: str) -> DovetailError:
    """The error for `path` that cannot be used: of the disk, or of what the user put in its place."""
    kind = OutsideError if is_of_disk(error) else UserError
    return kind(f"{path} cannot be used: {error.strerror or error}", next_command)


@contextmanager
def disk_errors(root: Path) -> Iterator[None]:
    """Translate what a disk refuses, wherever that was.

    Raises:
        OutsideError: that names the file.
    """
    try:
        yield
    except OSError as error:
        if not is_of_disk(error):
            raise
        path = Path(error.filename) if isinstance(error.filename, str) else root
        look = "df -h" if error.errno in _FULL else "ls -ld"
        next_command = f"{look} {shlex.quote(str(path.parent))}, then run the same command again"
        raise OutsideError(f"{path} cannot be used: {error.strerror or one_line(error)}", next_command) from error
