"""The HTTP side: who may ask, what is asked, what is answered. An ASGI application without a framework's detours."""

import asyncio
import hmac
import logging
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from importlib.metadata import version as installed
from typing import Any

import orjson

from dovetail.serving.engine.follower import Follower, Loaded
from dovetail.serving.http import openapi
from dovetail.serving.log.prediction_log import PredictionLog, Served
from dovetail.serving.metrics import TYPE as METRICS
from dovetail.serving.metrics import Metrics
from dovetail.serving.protocol.body import Question, read
from dovetail.serving.protocol.feedback import labels_of
from dovetail.serving.protocol.rejected import Rejected
from dovetail.serving.settings import Settings

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]
Header = tuple[bytes, bytes]
Answer = tuple[int, str, bytes]  # status, content type, body

_JSON = "application/json"
_OPEN = frozenset({"/ping", "/health", "/version"})  # what load balancers ask, without a token
_BIG = 1 << 18  # bytes from which a body is read aside, so that others are answered meanwhile
_DRAIN_SECONDS, _DRAIN_PAUSE = 2.0, 0.25  # in all; between two parts
_READ = "dovetail.read"  # in a request's scope: its body is here, whole
_log = logging.getLogger(__name__)


class App:
    """One server's routes."""

    def __init__(self, settings: Settings, follower: Follower, metrics: Metrics, log: PredictionLog | None) -> None:
        """Answer with what `follower` holds."""
        self._settings = settings
        self._limits = settings.limits
        self._follower = follower
        self._metrics = metrics
        self._log = log
        self._tokens = [token.encode() for token in settings.tokens]
        self._waiting = 0
        self._bytes = 0  # of the bodies under way
        self._named: tuple[Loaded | None, str, list[Header]] = (None, "", [])
        self._get: dict[str, Callable[[], Answer]] = {
            "/ping": lambda: (200, _JSON, b"\n"),
            "/health": self._health,
            "/version": lambda: (200, _JSON, installed("mlflow").encode()),
            "/metrics": self._counts,
            "/model": self._model,
            "/openapi.json": lambda: (200, _JSON, orjson.dumps(self._described())),
            "/docs": lambda: (200, "text/html; charset=utf-8", openapi.page(self._described()).encode()),
        }
        self._post = {"/invocations": self._invocations, "/feedback": self._feedback}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, whatever it is."""
        if scope["type"] != "http":
            return
        began = time.perf_counter()
        headers = dict(scope["headers"])
        rows = 0
        after: Callable[[], None] | None = None
        version, named = self._who()
        more: list[Header] = []
        try:
            self._admit(scope["path"], headers)
            if post := self._post.get(self._route(scope)):
                (status, kind, content), (version, named), more, rows, after = await post(scope, headers, receive)
            else:
                status, kind, content = self._get[scope["path"]]()
        except Rejected as rejected:
            status, kind, content = rejected.status, _JSON, rejected.body()
            version, named = rejected.who or (version, named)
            more = _about(rejected)
        except Exception:  # noqa: BLE001  (what nobody thought of: the client learns that, the operator where)
            _log.exception("a request could not be answered")
            status, kind, content = 500, _JSON, b'{"error_code": "INTERNAL_ERROR", "message": "the server failed"}'
        if scope["path"] == "/invocations":
            self._metrics.answered(self._settings.model, version, status, rows, time.perf_counter() - began)
        if not scope.get(_READ) and (b"content-length" in headers or b"transfer-encoding" in headers):
            await self._drain(receive)  # who is still sending when the connection closes would not see the answer
            more = [*more, (b"connection", b"close")]
        length = str(len(content)).encode()
        start = [(b"content-type", kind.encode()), (b"content-length", length), *named, *more]
        await send({"type": "http.response.start", "status": status, "headers": start})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else content})
        if after:
            after()

    async def _drain(self, receive: Receive) -> None:
        """Let the rest of a body pass that nobody reads, while it keeps coming and is not endless."""
        left = 4 * self._limits.body_bytes
        until = time.monotonic() + _DRAIN_SECONDS
        with suppress(TimeoutError, Rejected):
            arriving = _arriving(receive)
            while left > 0 and time.monotonic() < until:
                async with asyncio.timeout(_DRAIN_PAUSE):
                    left -= len(await anext(arriving, b"")) or left

    def _who(self) -> tuple[str, list[Header]]:
        """The version that answers now, and the headers that name it."""
        loaded, version, headers = self._named
        if loaded is not self._follower.current:
            loaded = self._follower.current
            version, headers = _named(self._settings.model, loaded)
            self._named = loaded, version, headers
        return version, headers

    def _admit(self, path: str, headers: dict[bytes, bytes]) -> None:
        if not self._tokens or path in _OPEN:
            return
        kind, _, given = headers.get(b"authorization", b"").partition(b" ")
        known = [hmac.compare_digest(given.strip(), token) for token in self._tokens]  # all, so that time tells nothing
        if kind.lower() != b"bearer" or not any(known):
            raise Rejected(401, "a bearer token is needed", field="authorization", expected="Bearer TOKEN")

    def _route(self, scope: Scope) -> str:
        path, method = scope["path"], scope["method"]
        if path not in self._get and path not in self._post:
            known = ", ".join([*self._post, *self._get])
            raise Rejected(404, "there is no such path", field="path", expected=known, got=path[:80])
        allowed = ("POST",) if path in self._post else ("GET", "HEAD")
        if method not in allowed:
            expected = ", ".join(allowed)
            raise Rejected(405, f"{path} takes {expected}", field="method", expected=expected, got=method[:20])
        return str(path)

    async def _invocations(self, scope: Scope, headers: dict[bytes, bytes], receive: Receive) -> Any:
        self._refuse_a_crowd()
        async with self._body(scope, headers, receive) as body:
            self._refuse_a_crowd()
            self._waiting += 1
            loaded = self._loaded()
            try:
                kind = headers.get(b"content-type", b"").decode("latin-1")
                loaded, question = await self._read(body, kind, loaded)
                content = await loaded.predictor.predict(question)
            except Rejected as rejected:
                rejected.who = _named(self._settings.model, loaded)
                raise
            finally:
                self._waiting -= 1
        request_id = uuid.uuid4().hex
        who = self._who() if loaded is self._follower.current else _named(self._settings.model, loaded)
        answer = 200, _JSON, b'{"predictions": ' + content + b"}"
        more = [(b"x-request-id", request_id.encode())]
        return answer, who, more, question.rows, lambda: self._remember(request_id, loaded, question, content)

    def _refuse_a_crowd(self) -> None:
        if self._waiting >= self._limits.waiting:
            raise Rejected(503, f"{self._waiting} requests wait already")

    async def _read(self, body: bytes, kind: str, loaded: Loaded) -> tuple[Loaded, Question]:
        """The question, and the version whose signature it was checked against."""
        rows = self._limits.rows
        if len(body) < _BIG and kind.startswith(_JSON):
            return loaded, read(body, kind, loaded.signature, rows)
        question = await asyncio.to_thread(read, body, kind, loaded.signature, rows)
        while loaded.predictor.closed:  # another version took over meanwhile, which may take something else
            loaded = self._loaded()
            question = await asyncio.to_thread(read, body, kind, loaded.signature, rows)
        return loaded, question

    def _remember(self, request_id: str, loaded: Loaded, question: Question, content: bytes) -> None:
        if self._log:
            self._log.served(
                Served(request_id, time.time(), loaded.target.version, question.method, question.columns, content)
            )

    def _loaded(self) -> Loaded:
        if self._follower.current is None:
            raise Rejected(503, "no version is loaded yet")
        return self._follower.current

    @asynccontextmanager
    async def _body(self, scope: Scope, headers: dict[bytes, bytes], receive: Receive) -> AsyncIterator[bytes]:
        """The request's body, within the limits; it counts among what is under way until the block ends.

        Raises:
            Rejected: 413 as soon as it is too large, 408 when it does not arrive in time, 503 when too much is under
                way.
        """
        most = self._limits.body_bytes
        said = headers.get(b"content-length", b"0")
        if said.isdigit() and int(said) > most:
            raise _too_large(most)
        parts: list[bytes] = []
        try:
            try:
                async with asyncio.timeout(self._limits.seconds):
                    async for part in _arriving(receive):
                        parts.append(part)
                        self._bytes += len(part)
                        if sum(map(len, parts)) > most:
                            raise _too_large(most)
                        if self._bytes > self._limits.waiting_bytes:
                            raise Rejected(503, f"requests of {self._bytes} bytes are under way already")
            except TimeoutError:
                raise Rejected(408, f"the body did not arrive in {self._limits.seconds:g} s") from None
            scope[_READ] = True
            yield parts[0] if len(parts) == 1 else b"".join(parts)
        finally:
            self._bytes -= sum(map(len, parts))

    async def _feedback(self, scope: Scope, headers: dict[bytes, bytes], receive: Receive) -> Any:
        """True labels for an answer that was given."""
        if self._log is None:
            raise Rejected(404, "this server keeps no log, so there is nothing to join a label to")
        async with self._body(scope, headers, receive) as body:
            aside = len(body) >= _BIG
            rows = self._limits.rows
            request_id, labels = await asyncio.to_thread(labels_of, body, rows) if aside else labels_of(body, rows)
        if not self._log.labelled(request_id, labels, time.time()):
            raise Rejected(503, "the log has no room for more labels at the moment")
        return (202, _JSON, b'{"accepted": %d}' % len(labels)), self._who(), [], 0, None

    def _health(self) -> Answer:
        loaded, problems = self._follower.current, dict(self._follower.problems)
        if self._log and self._log.problem:
            problems["log"] = f"{self._settings.log}: {self._log.problem}"
        said = {
            "status": "degraded" if problems else "ok",
            "model": self._settings.model,
            "follows": self._settings.what,
            "version": loaded.target.version if loaded else None,
            **({"loading": self._follower.loading} if self._follower.loading else {}),
            "problems": problems,
        }
        return 200 if loaded and loaded.predictor.engine else 503, _JSON, orjson.dumps(said)

    def _counts(self) -> Answer:
        self._metrics.waiting.set(self._waiting)
        if self._log:
            self._metrics.log_dropped.set(self._log.dropped)
        return 200, METRICS, self._metrics.text()

    def _model(self) -> Answer:
        loaded = self._loaded()
        said = {
            "model": self._settings.model,
            "version": loaded.target.version,
            "alias": self._settings.alias,
            "md5": loaded.target.md5,
            "commit": loaded.target.commit,
            "since": loaded.since,
            "signature": {key: loaded.about[key] for key in ("inputs", "outputs")},
            "methods": loaded.about["methods"],
            "compiled": loaded.about["compiled"],
            "not_compiled": loaded.about["not_compiled"],
        }
        return 200, _JSON, orjson.dumps(said)

    def _described(self) -> dict[str, Any]:
        loaded = self._loaded()
        return openapi.document(self._settings, loaded.signature, loaded.about, loaded.target.version)


def _named(model: str, loaded: Loaded | None) -> tuple[str, list[Header]]:
    version = str(loaded.target.version) if loaded else ""
    return version, [(b"x-dovetail-model", model.encode()), (b"x-dovetail-version", version.encode())]


def _about(rejected: Rejected) -> list[Header]:
    if rejected.status == 503:  # noqa: PLR2004  (as HTTP numbers it)
        return [(b"retry-after", b"1")]
    if rejected.status == 401:  # noqa: PLR2004
        return [(b"www-authenticate", b"Bearer")]
    if rejected.status == 405:  # noqa: PLR2004
        return [(b"allow", rejected.about["expected"].encode())]
    return []


async def _arriving(receive: Receive) -> AsyncIterator[bytes]:
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Rejected(400, "the client went away")
        yield message.get("body", b"")
        more = message.get("more_body", False)


def _too_large(most: int) -> Rejected:
    return Rejected(413, f"the body is larger than {most} bytes; send it in parts", field="body",
                    expected=f"at most {most} bytes")  # fmt: skip
