"""The socket that a server listens on: who may reach it, and what is said where it is not available."""

import ipaddress
import socket
from collections.abc import Iterator
from contextlib import contextmanager

from dovetail.errors import OutsideError, UserError
from dovetail.serving.http.takeover import Predecessor, predecessor
from dovetail.serving.settings import ENV_TOKENS, Settings

BACKLOG = 2048


@contextmanager
def bound(settings: Settings) -> Iterator[tuple[socket.socket, Predecessor | None]]:
    """A socket with the address of `settings`, which does not listen yet; or that of a running server, and who that is.

    Raises:
        UserError: when other machines would reach it and no token is set, or the host is none of this machine.
        OutsideError: when the port is taken, or its server does not hand it over.
    """
    host, port = settings.options.host, settings.options.port
    if not settings.tokens and not _is_loopback(host):
        raise UserError(
            f"{host} is reached from other machines, and nothing says who may ask",
            f"export {ENV_TOKENS}=…, or omit --host",
        )
    if settings.options.takeover and not port:
        raise UserError("--port 0 is not the port of a running server", f"dovetail serve {settings.what} --takeover")
    try:
        family, _, _, _, to = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listening = socket.socket(family)
    except OSError as error:
        raise UserError(f"{host} is not an address of this machine: {error}", "dovetail serve --host 127.0.0.1"
                        ) from error  # fmt: skip
    with listening:
        if settings.options.takeover and (old := predecessor(str(to[0]), port)):
            with old.listening:
                try:
                    yield old.listening, old
                finally:
                    old.keep()
            return
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with _its_port(settings):
            listening.bind((host, port))
        yield listening, None


def listen(settings: Settings, listening: socket.socket) -> None:
    """Let clients connect.

    Raises:
        OutsideError: when the port is taken.
    """
    with _its_port(settings):
        listening.listen(BACKLOG)


def address(listening: socket.socket) -> str:
    """Where it listens, as a client writes it."""
    host, port = listening.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


@contextmanager
def _its_port(settings: Settings) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        what = f"cannot listen on {settings.options.host}:{settings.options.port}: {error.strerror}"
        if settings.options.takeover:
            what += ", by a server that starts or ends just now, by another user's, or by another program"
            raise OutsideError(what, "run the same command again later") from error
        raise OutsideError(what, "the same with another --port; with --takeover to replace a server of yours"
                           ) from error  # fmt: skip


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
