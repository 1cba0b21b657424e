"""URLs with ${NAME} from the environment, and errors that show no secret."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import quote, quote_plus, unquote

from stages.common.errors import OutsideError, StageError
from stages.common.params import PARAMS_FILE

if TYPE_CHECKING:
    from sqlalchemy import Engine

_NAME = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_USER = re.compile(r"://([^/?#@:]*):([^/?#@]*)@")  # user and password of a URL
_SQLITE_ERROR = 1  # https://sqlite.org/rescode.html#error: the statement is wrong, not the database


@dataclass(frozen=True)
class Url:
    """A URL whose ${NAME}s are filled in.

    Attributes:
        place: its place in params.yaml, for messages.
        template: as it stands there.
        filled: with the values; only for a driver, never for a message.
    """

    place: str
    template: str
    filled: str = field(repr=False)
    _secrets: tuple[str, ...] = field(repr=False)

    @property
    def shown(self) -> str:
        """The template, without a password that someone wrote into it."""
        return _USER.sub(r"://\1:***@", self.template)

    def scrub(self, error: BaseException) -> str:
        """The error in one line: its type and its message without any value that was filled in, and no password."""
        said = getattr(error, "strerror", None) or getattr(error, "orig", None) or error  # strerror: without the path
        text = str(said)
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return f"{type(error).__name__}: {' '.join(text.split())[:500]}"


def fill(template: str, place: str) -> Url:
    """Fill in each ${NAME} from the environment; within `user:password@` quoted, as a URL wants it there.

    Raises:
        StageError: naming a variable that is not set.
    """
    secrets: set[str] = set()

    def value(match: re.Match[str]) -> str:
        name = match[1]
        if name not in os.environ:
            raise StageError(f"{PARAMS_FILE}: {place}: the environment has no {name}; set it: export {name}=…")
        secrets.add(os.environ[name])
        in_user = "://" in template[: match.start()] and re.match(r"[^/?#]*@", template[match.end() :])
        return quote(os.environ[name], safe="") if in_user else os.environ[name]

    filled = _NAME.sub(value, template)
    secrets |= {password for _, password in _USER.findall(filled)}
    secrets |= {unquote(secret) for secret in secrets}
    secrets |= {quoted for secret in secrets for quoted in (quote(secret, safe=""), quote(secret), quote_plus(secret))}
    return Url(place, template, filled, tuple(sorted(secrets - {""}, key=len, reverse=True)))


@contextmanager
def database(address: Url) -> Iterator["Engine"]:
    """An engine for `address`; what goes wrong with it comes out without secrets.

    Raises:
        StageError: on a URL that is none, a driver that is not installed, a wrong statement.
        OutsideError: on whatever else the database says.
    """
    from sqlalchemy import create_engine, exc, pool

    what = f"{PARAMS_FILE}: {address.place} = {address.shown}"
    try:
        engine = create_engine(address.filled, poolclass=pool.NullPool, hide_parameters=True)
    except (ImportError, exc.NoSuchModuleError) as error:
        raise StageError(f"{what}: {address.scrub(error)}; install the database's driver") from None
    except (exc.ArgumentError, ValueError) as error:
        raise StageError(f"{what}: {address.scrub(error)}; write a URL such as sqlite:///data/shop.db") from None
    try:
        yield engine
    except exc.DBAPIError as error:
        wrong = isinstance(error, exc.ProgrammingError | exc.DataError)
        if wrong or getattr(error.orig, "sqlite_errorcode", None) == _SQLITE_ERROR:
            raise StageError(f"{what}: {address.scrub(error)}; correct the query or the table") from None
        is_away = isinstance(error, exc.OperationalError | exc.InterfaceError)
        help_ = "is the database there, and open to you?" if is_away else "correct it there and try again"
        raise OutsideError(f"{what}: {address.scrub(error)}; {help_}") from None
    except (exc.SQLAlchemyError, OSError) as error:
        raise OutsideError(f"{what}: {address.scrub(error)}; correct it there and try again") from None
