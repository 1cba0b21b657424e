"""Bind, start, serve, and end without dropping what was begun."""

import asyncio
import signal
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import uvicorn
from prometheus_client import disable_created_metrics

from dovetail.errors import DovetailError
from dovetail.serving.engine.body_reader import BodyReader
from dovetail.serving.engine.follower import Follower
from dovetail.serving.http.app import App
from dovetail.serving.http.bounded_connection import Connection
from dovetail.serving.http.listening import BACKLOG, address, bound, listen
from dovetail.serving.http.model_routes import ModelRoutes, Shared
from dovetail.serving.http.phase import Phase
from dovetail.serving.http.request_ids import RequestIds
from dovetail.serving.http.takeover import Handover, Predecessor
from dovetail.serving.log.prediction_log import PredictionLog
from dovetail.serving.metrics import Metrics
from dovetail.serving.settings import DELTA, Settings
from dovetail.system.service import READY, STOPPING, notify

_PAUSE = 0.02  # seconds between two looks
_ACCEPTED_SECONDS = 0.5  # within which a connection that was accepted counts among the connections


def run(models: Sequence[Settings], ready: Callable[[str], None]) -> None:
    """Serve until SIGTERM or Ctrl-C; `ready` hears the address and the versions once the first request is answered.

    All of `models` have the same options and tokens.

    Raises:
        UserError: when it would listen to the network without a token, or the alias names no version.
        OutsideError: when the port is taken, or there is nothing to serve.
    """
    with bound(models[0]) as (listening, old), asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(_serve(models, listening, old, ready))


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:  # there is none for Windows
        return None
    return uvloop.new_event_loop


async def _serve(
    models: Sequence[Settings], listening: socket.socket, old: Predecessor | None, tell: Callable[[str], None]
) -> None:
    disable_created_metrics()  # type: ignore[no-untyped-call]  # a second series for each, of when it began
    metrics, settings = Metrics(), models[0]
    bodies = BodyReader(settings.options)
    shared = Shared(settings.options, bodies, RequestIds(settings.keep.parent))
    routes = [ModelRoutes(each, Follower(each, metrics), _log_of(each), shared) for each in models]
    app = App(routes, shared, metrics, settings.tokens)
    server = _Server(app, settings)

    def replaced(by: int | None) -> None:
        server.finish()
        tell(
            f"{where} is served by {f'process {by}' if by else 'another process'} now; what was begun is finished here"
        )

    where, handover = address(listening), Handover(listening, replaced)
    serving: asyncio.Future[None] | None = None
    try:
        if old is None:
            listen(settings, listening)  # from now on it says itself that it lives, and that it is not ready
            where = address(listening)
            serving = asyncio.ensure_future(server.serve(sockets=[listening]))
        starting = asyncio.ensure_future(_start(routes, all_of_them=old is not None))
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, server.end, starting)
        try:
            if await _has_started(starting):
                app.phase = Phase.READY
                if old:
                    serving = await server.accepting(listening)
                    await old.end()
                handover.open()
                tell(f"{', '.join(_said(each) for each in routes)}, on {where}")
                notify(READY)
        except BaseException:
            server.should_exit = True
            raise
        finally:
            if serving:
                await serving
    finally:
        try:
            bodies.close()
            await asyncio.gather(handover.close(), *(each.follower.stop() for each in routes))
        finally:
            logs = [each.log for each in routes if each.log]
            for log in logs:  # all at once: S3 may be away
                log.end()
            for log in logs:
                log.close()


def _log_of(settings: Settings) -> PredictionLog | None:
    if settings.log is None:
        return None
    options = settings.options
    return PredictionLog(
        settings.log,
        leave_out=frozenset(options.leave_out),
        keep=settings.log_age,
        as_delta=options.log_as == DELTA,
        max_rows=max(100_000, 2 * options.max_rows),
        max_bytes=max(64 << 20, 2 * options.body_bytes),
    )  # fmt: skip  (the largest request has room, too)


async def _start(routes: Sequence[ModelRoutes], *, all_of_them: bool) -> None:
    """Return once a version of each model answers, or of some and what is wrong with the others is known.

    Raises:
        DovetailError: when none does, or one does not and it has to be `all_of_them`: a running server may answer it.
    """
    ended = await asyncio.gather(*(each.follower.start() for each in routes), return_exceptions=True)
    failed = [error for error in ended if error is not None]
    if unforeseen := [error for error in failed if not isinstance(error, DovetailError)]:
        raise unforeseen[0]
    if len(failed) == len(routes) or (failed and all_of_them):
        raise failed[0]


def _said(model: ModelRoutes) -> str:
    if current := model.follower.current:
        return f"{model.settings.what} is version {current.copy.version}"
    return f"{model.settings.what} is not served yet: {'; '.join(model.follower.health.problems.values())}"


async def _has_started(starting: "asyncio.Future[None]") -> bool:
    """Whether it has, or was asked to end before."""
    try:
        await starting
    except asyncio.CancelledError:
        if starting.cancelled():
            return False
        raise
    return True


class _Server(uvicorn.Server):
    """uvicorn's, which ends when we say so: by itself it would raise the signal once more when all is done."""

    def __init__(self, app: App, settings: Settings) -> None:
        seconds = settings.options.timeout
        protocol = type("BoundedConnection", (Connection,), {"seconds": seconds})
        super().__init__(
            uvicorn.Config(
                app, http=protocol, ws="none", lifespan="off", log_config=None, access_log=False,
                server_header=False, timeout_graceful_shutdown=int(seconds) + 1, backlog=BACKLOG,
            )
        )  # fmt: skip
        self._app = app
        self._options = settings.options
        self._finishing: asyncio.Future[None] | None = None

    async def accepting(self, listening: socket.socket) -> "asyncio.Future[None]":
        """Return once it accepts connections; the future ends with the server."""
        serving = asyncio.ensure_future(self.serve(sockets=[listening]))
        while not (self.started or serving.done()):  # noqa: ASYNC110  (uvicorn has no event)
            await asyncio.sleep(_PAUSE)
        return serving

    def finish(self) -> None:
        """Accept no more, and end once nobody is connected: each answer ends its connection."""
        for server in self.servers:
            server.close()
        self._app.phase = Phase.REPLACED
        notify(STOPPING)
        self._finishing = asyncio.ensure_future(self._end_when_nobody_is_connected())

    async def _end_when_nobody_is_connected(self) -> None:
        await asyncio.sleep(_ACCEPTED_SECONDS)
        end = time.monotonic() + 2 * self._options.timeout + self.config.timeout_keep_alive
        while self.server_state.connections and time.monotonic() < end:  # noqa: ASYNC110  (uvicorn has no event)
            await asyncio.sleep(_PAUSE)
        self.should_exit = True

    def end(self, starting: "asyncio.Future[None]") -> None:
        """Finish what was begun: after `--drain` seconds, or at once when it is asked twice or answers nothing yet."""
        if self._app.phase is not Phase.READY or not self._options.drain:
            self.should_exit = True
        else:
            asyncio.get_running_loop().call_later(self._options.drain, setattr, self, "should_exit", True)  # noqa: FBT003
        self._app.phase = Phase.DRAINING
        notify(STOPPING)
        starting.cancel()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield
