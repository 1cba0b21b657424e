"""The HTTP side: who may ask, what is asked, what is answered. An ASGI application without a framework's detours."""

import hmac
import logging
import time
from collections.abc import Awaitable, Callable
from importlib.metadata import version as installed
from typing import Any

import orjson

from dovetail.serving.engine.body_reader import BodyReader
from dovetail.serving.engine.follower import Follower
from dovetail.serving.engine.version_loader import ServedVersion
from dovetail.serving.http import openapi
from dovetail.serving.http.incoming import IncomingBodies, Receive, Scope, is_unread
from dovetail.serving.http.request_ids import RequestIds
from dovetail.serving.log.prediction_log import PredictionLog, Served
from dovetail.serving.metrics import TYPE as METRICS
from dovetail.serving.metrics import Metrics
from dovetail.serving.protocol.body import PredictionRequest, read
from dovetail.serving.protocol.feedback import check_labels, read_feedback
from dovetail.serving.protocol.refused import Refused
from dovetail.serving.settings import Settings

Send = Callable[[dict[str, Any]], Awaitable[None]]
Header = tuple[bytes, bytes]
Answer = tuple[int, str, bytes]  # status, content type, body

_JSON = "application/json"
_OPEN = frozenset({"/ping", "/health", "/version"})  # what load balancers ask, without a token
_BIG = 1 << 18  # bytes from which a body is read in a process of its own, so that others are answered meanwhile
_log = logging.getLogger(__name__)


class App:
    """One server's routes."""

    def __init__(
        self,
        settings: Settings,
        follower: Follower,
        bodies: BodyReader,
        metrics: Metrics,
        log: PredictionLog | None,
    ) -> None:
        """Answer with what `follower` holds."""
        self._settings = settings
        self._limits = settings.options
        self._follower = follower
        self._bodies = bodies
        self._ids = RequestIds(settings.keep.parent)
        self._metrics = metrics
        self._log = log
        self._tokens = [token.encode() for token in settings.tokens]
        self._waiting = 0
        self._incoming = IncomingBodies(settings.options)
        self._named: tuple[ServedVersion | None, str, list[Header]] = (None, "", [])
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
        except Refused as refused:
            status, kind, content = refused.status, _JSON, refused.body()
            version, named = refused.who or (version, named)
            more = _about(refused)
        except Exception:  # noqa: BLE001  (what nobody thought of: the client learns that, the operator where)
            _log.exception("a request could not be answered")
            status, kind, content = 500, _JSON, b'{"error_code": "INTERNAL_ERROR", "message": "the server failed"}'
        if scope["path"] == "/invocations":
            self._metrics.answered(self._settings.model, version, status, rows, time.perf_counter() - began)
        if is_unread(scope, headers):
            await self._incoming.drain(
                receive
            )  # who is still sending when the connection closes would not see the answer
            more = [*more, (b"connection", b"close")]
        length = str(len(content)).encode()
        start = [(b"content-type", kind.encode()), (b"content-length", length), *named, *more]
        await send({"type": "http.response.start", "status": status, "headers": start})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else content})
        if after:
            after()

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
            raise Refused(401, "a bearer token is needed", field="authorization", expected="Bearer TOKEN")

    def _route(self, scope: Scope) -> str:
        path, method = scope["path"], scope["method"]
        if path not in self._get and path not in self._post:
            known = ", ".join([*self._post, *self._get])
            raise Refused(404, "there is no such path", field="path", expected=known, got=path[:80])
        allowed = ("POST",) if path in self._post else ("GET", "HEAD")
        if method not in allowed:
            expected = ", ".join(allowed)
            raise Refused(405, f"{path} takes {expected}", field="method", expected=expected, got=method[:20])
        return str(path)

    async def _invocations(self, scope: Scope, headers: dict[bytes, bytes], receive: Receive) -> Any:
        self._refuse_a_crowd()
        async with self._incoming.whole(scope, headers, receive) as body:
            self._refuse_a_crowd()
            self._waiting += 1
            loaded = self._loaded()
            try:
                kind = headers.get(b"content-type", b"").decode("latin-1")
                loaded, request = await self._read(body, kind, loaded)
                content = await loaded.batcher.predict(request)
            except Refused as refused:
                refused.who = _named(self._settings.model, loaded)
                raise
            finally:
                self._waiting -= 1
        request_id = self._ids.make(request.rows)
        who = self._who() if loaded is self._follower.current else _named(self._settings.model, loaded)
        answer = 200, _JSON, b'{"predictions": ' + content + b"}"
        more = [(b"x-request-id", request_id.encode())]
        return answer, who, more, request.rows, lambda: self._remember(request_id, loaded, request, content)

    def _refuse_a_crowd(self) -> None:
        if self._waiting >= self._limits.max_waiting:
            raise Refused(503, f"{self._waiting} requests wait already")

    async def _read(self, body: bytes, kind: str, loaded: ServedVersion) -> tuple[ServedVersion, PredictionRequest]:
        """The request, and the version whose signature it was checked against."""
        rows = self._limits.max_rows
        if len(body) < _BIG and kind.startswith(_JSON):
            return loaded, read(body, kind, loaded.signature, rows)
        request = await self._bodies.request(body, kind, loaded.signature)
        while loaded.batcher.closed:  # another version took over meanwhile, which may take something else
            loaded = self._loaded()
            request = await self._bodies.request(body, kind, loaded.signature)
        return loaded, request

    def _remember(self, request_id: str, loaded: ServedVersion, request: PredictionRequest, content: bytes) -> None:
        if self._log:
            self._log.served(
                Served(request_id, time.time(), loaded.copy.version, request.method, request.columns, content)
            )

    def _loaded(self) -> ServedVersion:
        if self._follower.current is None:
            raise Refused(503, "no version is loaded yet")
        return self._follower.current

    async def _feedback(self, scope: Scope, headers: dict[bytes, bytes], receive: Receive) -> Any:
        """True labels for an answer that was given."""
        if self._log is None:
            raise Refused(404, "this server keeps no log, so there is nothing to join a label to")
        async with self._incoming.whole(scope, headers, receive) as body:
            big = len(body) >= _BIG
            rows = self._limits.max_rows
            request_id, labels = await self._bodies.feedback(body) if big else read_feedback(body, rows)
        self._ids.check(request_id, len(labels))
        check_labels(labels, self._loaded().signature.output)
        if not self._log.labelled(request_id, labels, time.time()):
            raise Refused(503, "the log has no room for more labels at the moment")
        return (202, _JSON, b'{"accepted": %d}' % len(labels)), self._who(), [], 0, None

    def _health(self) -> Answer:
        loaded, problems = self._follower.current, dict(self._follower.health.problems)
        if self._log and self._log.problem:
            problems["log"] = f"{self._settings.log}: {self._log.problem}"
        said = {
            "status": "degraded" if problems else "ok",
            "model": self._settings.model,
            "follows": self._settings.what,
            "version": loaded.copy.version if loaded else None,
            **({"loading": self._follower.health.loading} if self._follower.health.loading else {}),
            "trust": self._follower.health.trust,
            "problems": problems,
        }
        return 200 if loaded and loaded.batcher.client else 503, _JSON, orjson.dumps(said)

    def _counts(self) -> Answer:
        self._metrics.waiting.set(self._waiting)
        if self._log:
            self._metrics.log_dropped.set(self._log.dropped)
        return 200, METRICS, self._metrics.text()

    def _model(self) -> Answer:
        loaded = self._loaded()
        said = {
            "model": self._settings.model,
            "version": loaded.copy.version,
            "alias": self._settings.alias,
            "md5": loaded.copy.md5,
            "commit": loaded.copy.commit,
            "since": loaded.since,
            "signature": {key: loaded.about[key] for key in ("inputs", "outputs")},
            "methods": loaded.about["methods"],
            "compiled": loaded.about["compiled"],
            "not_compiled": loaded.about["not_compiled"],
        }
        return 200, _JSON, orjson.dumps(said)

    def _described(self) -> dict[str, Any]:
        loaded = self._loaded()
        return openapi.document(self._settings, loaded.signature, loaded.about, loaded.copy.version)


def _named(model: str, loaded: ServedVersion | None) -> tuple[str, list[Header]]:
    version = str(loaded.copy.version) if loaded else ""
    return version, [(b"x-dovetail-model", model.encode()), (b"x-dovetail-version", version.encode())]


def _about(refused: Refused) -> list[Header]:
    if refused.status == 503:  # noqa: PLR2004  (as HTTP numbers it)
        return [(b"retry-after", b"1")]
    if refused.status == 401:  # noqa: PLR2004
        return [(b"www-authenticate", b"Bearer")]
    if refused.status == 405:  # noqa: PLR2004
        return [(b"allow", refused.about["expected"].encode())]
    return []
