"""What MLflow, its database, its server or the disk below them refused, as one line with what to do."""

import os
import re
import shlex
import sqlite3
from http import HTTPStatus
from pathlib import Path
from urllib.parse import urlsplit

from dovetail.errors import NotPermitted, StoreError, one_line
from dovetail.system.disk import says_full
from dovetail.tracking.client import SQLITE, raised_by

_OTHER_NAME = "Invalid Host header"  # MLflow's word for a name that its --allowed-hosts lacks
_WHO: dict[int | None, str] = {
    HTTPStatus.UNAUTHORIZED: "does not know {}",
    HTTPStatus.FORBIDDEN: "does not let {} do that",
}


def store_error(uri: str, error: Exception) -> StoreError:
    """One line of what MLflow, its database, its server or the disk below them said; SQL is nobody's news."""
    of_sqlite = _of_sqlite(error)
    said = without_secrets(str(of_sqlite or error).partition("[SQL:")[0])
    if _OTHER_NAME in said:
        what = f"MLflow at {without_secrets(uri)} does not answer to that name ({_OTHER_NAME})"
        return StoreError(what, f"mlflow server --allowed-hosts {urlsplit(uri).netloc.rpartition('@')[2]} …, there")
    if status := _http_status(error):
        name = os.environ.get("MLFLOW_TRACKING_USERNAME")
        who = f"this user ({name})" if name else "whoever asks without a name"
        what = f"MLflow at {without_secrets(uri)} {_WHO[status].format(who)}: {one_line(said)}"
        return NotPermitted(what, "export MLFLOW_TRACKING_USERNAME=… MLFLOW_TRACKING_PASSWORD=… of one who may")
    path = Path(uri.removeprefix(SQLITE))
    if of_sqlite and _code(of_sqlite) in (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT):
        aside = f"mv {shlex.quote(str(path))} {shlex.quote(f'{path}.broken')} && dovetail sync --all"
        return StoreError(f"MLflow at {without_secrets(uri)}: {one_line(said)}", aside)
    if uri.startswith("http"):
        look = f"curl {without_secrets(uri)}/health"
    elif of_sqlite and _code(of_sqlite) in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM):
        look = f"ls -ld {path.parent} {path}"
    elif isinstance(error, OSError) or says_full(said) or (of_sqlite and _code(of_sqlite) == sqlite3.SQLITE_IOERR):
        look = f"df -h {path.parent}"
    else:
        look = "mlflow doctor"
    return StoreError(f"MLflow at {without_secrets(uri)}: {one_line(said)}", f"{look}, then run the same command again")


def _of_sqlite(error: BaseException | None) -> sqlite3.Error | None:
    """What SQLite itself said, below what SQLAlchemy and MLflow made of it."""
    while error is not None:
        if isinstance(error, sqlite3.Error):
            return error
        original = getattr(error, "orig", None)
        error = original if isinstance(original, sqlite3.Error) else error.__cause__ or error.__context__
    return None


def _code(error: sqlite3.Error) -> int | None:
    """SQLite's primary result code; the extended one has it in its lowest byte."""
    code = getattr(error, "sqlite_errorcode", None)
    return None if code is None else code & 0xFF


def _http_status(error: BaseException | None) -> int | None:
    """What a tracking server answered with; None where none did."""
    while error is not None:
        if isinstance(error, raised_by("mlflow.exceptions", "MlflowException")):
            status: int | None = error.get_http_status_code()
        else:
            status = getattr(getattr(error, "response", None), "status_code", None)  # of requests, which brings files
        if status in _WHO:
            return status
        error = error.__cause__ or error.__context__
    return None


def without_secrets(text: str) -> str:
    """The text with user and password taken out of the URLs in it."""
    return re.sub(r"(?<=://)[^/@\s]*@", "…@", text)
