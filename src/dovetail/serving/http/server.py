"""Bind, start, serve, and end without dropping what was begun."""

import asyncio
import ipaddress
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import uvicorn
from prometheus_client import disable_created_metrics

from dovetail.errors import OutsideError, UserError
from dovetail.serving.engine.body_reader import BodyReader
from dovetail.serving.engine.follower import Follower
from dovetail.serving.http.app import App
from dovetail.serving.http.bounded_connection import Connection
from dovetail.serving.log.prediction_log import PredictionLog
from dovetail.serving.metrics import Metrics
from dovetail.serving.settings import ENV_TOKENS, Settings

_BACKLOG = 2048


def run(settings: Settings, ready: Callable[[str], None]) -> None:
    """Serve until SIGTERM or Ctrl-C; `ready` hears the address and the version once the first request is answered.

    Raises:
        UserError: when it would listen to the network without a token, or the alias names no version.
        OutsideError: when the port is taken, or there is nothing to serve.
    """
    with _bound(settings) as listening, asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(_serve(settings, listening, ready))


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:  # there is none for Windows
        return None
    return uvloop.new_event_loop


@contextmanager
def _bound(settings: Settings) -> Iterator[socket.socket]:
    host = settings.options.host
    if not settings.tokens and not _is_loopback(host):
        raise UserError(
            f"{host} is reached from other machines, and nothing says who may ask",
            f"export {ENV_TOKENS}=…, or leave --host away",
        )
    try:
        family = socket.getaddrinfo(host, settings.options.port, type=socket.SOCK_STREAM)[0][0]
        listening = socket.socket(family)
    except OSError as error:
        raise UserError(f"{host} is no address of this machine: {error}", "dovetail serve --host 127.0.0.1"
                        ) from error  # fmt: skip
    with listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with _its_port(settings):
            listening.bind((host, settings.options.port))
        yield listening


@contextmanager
def _its_port(settings: Settings) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise OutsideError(
            f"{settings.options.host}:{settings.options.port} cannot be listened on: {error.strerror}",
            "the same with another --port",
        ) from error


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


async def _serve(settings: Settings, listening: socket.socket, ready: Callable[[str], None]) -> None:
    disable_created_metrics()  # type: ignore[no-untyped-call]  # a second series for each, of when it began
    metrics = Metrics()
    follower = Follower(settings, metrics)
    most = max(100_000, 2 * settings.options.max_rows)  # the largest request has room, too
    log = (
        PredictionLog(settings.log, leave_out=frozenset(settings.options.leave_out), max_rows=most)
        if settings.log
        else None
    )
    bodies = BodyReader(settings.options)
    starting = asyncio.ensure_future(follower.start())
    server: _Server | None = None

    def end() -> None:
        if server:
            server.should_exit = True  # no more connections; what was begun is finished
        else:
            starting.cancel()

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, end)
    try:
        await starting
        with _its_port(settings):
            listening.listen(_BACKLOG)  # only now: until it can answer, a client is refused and knows where it stands
        server = _Server(_config(App(settings, follower, bodies, metrics, log), settings))
        host, port = listening.getsockname()[:2]
        version = follower.current.copy.version if follower.current else None
        ready(f"{settings.what} is version {version}, on http://{f'[{host}]' if ':' in host else host}:{port}")
        await server.serve(sockets=[listening])
    except asyncio.CancelledError:
        if not starting.cancelled():
            raise
    finally:
        try:
            bodies.close()
            await follower.stop()
        finally:
            if log:
                log.close()


def _config(app: App, settings: Settings) -> uvicorn.Config:
    seconds = settings.options.timeout
    protocol = type("BoundedConnection", (Connection,), {"seconds": seconds})
    return uvicorn.Config(
        app, http=protocol, ws="none", lifespan="off", log_config=None, access_log=False, server_header=False,
        timeout_graceful_shutdown=int(seconds) + 1, backlog=_BACKLOG,
    )  # fmt: skip


class _Server(uvicorn.Server):
    """uvicorn's, which ends when we say so: by itself it would raise the signal once more when all is done."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield
