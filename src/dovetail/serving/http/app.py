"""The HTTP side: who may ask, what is asked, what is answered. An ASGI application without a framework's detours."""

import hmac
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from importlib.metadata import version as installed
from typing import Any

import orjson

from dovetail.serving.engine.health import BROKEN
from dovetail.serving.http import docs_page, open_inference_routes
from dovetail.serving.http.incoming import Receive, Scope, is_unread
from dovetail.serving.http.model_routes import ModelRoutes, Shared
from dovetail.serving.http.phase import Phase
from dovetail.serving.http.reply import Header, Look, Post, Reply
from dovetail.serving.metrics import TYPE as METRICS
from dovetail.serving.metrics import Metrics
from dovetail.serving.protocol.refused import Refused

Send = Callable[[dict[str, Any]], Awaitable[None]]

_OPEN = frozenset(
    {"/ping", "/health", "/ready", "/version", "/v2/health/live", "/v2/health/ready"}
)  # what load balancers ask, without a token
_V2 = open_inference_routes.ROOT + "/"
_CLOSE = (b"connection", b"close")
_NOBODY: tuple[str, list[Header]] = ("", [])
_log = logging.getLogger(__name__)


class App:
    """One server's routes.

    Attributes:
        phase: Whether it is ready; the server sets it.
    """

    def __init__(self, models: Sequence[ModelRoutes], shared: Shared, metrics: Metrics, tokens: Sequence[str]) -> None:
        """Answer for `models`: each below /models/NAME/, and where it is the only one at the root, too."""
        self.phase = Phase.STARTING
        self._models = models
        self._shared = shared
        self._metrics = metrics
        self._tokens = [token.encode() for token in tokens]
        ready = (
            f"{of}/models/{each.settings.model}/ready" for each in models for of in ("", open_inference_routes.ROOT)
        )
        self._open = _OPEN | {*ready}
        self._get: dict[str, Look] = {
            "/": lambda _: Reply(307, b"", "text/plain", more=((b"location", b"docs"),)),
            "/ping": lambda _: Reply(200 if any(each.follower.current for each in models) else 503, b"\n"),
            "/health": lambda _: self._health(),
            "/ready": lambda _: self._ready(models),
            "/version": lambda _: Reply(200, installed("mlflow").encode()),
            "/metrics": lambda _: self._counts(),
        }
        self._post: dict[str, Post] = {}
        self._owner: dict[str, ModelRoutes] = {}  # of a path that belongs to a model
        for each in models:
            self._add(each, f"/models/{each.settings.model}/")
            self._get[f"/models/{each.settings.model}/ready"] = lambda _, of=each: self._ready([of])  # type: ignore[misc]
        if len(models) == 1:
            self._add(models[0], "/")
            self._owner |= dict.fromkeys(self._get, models[0])
        else:
            names = [each.settings.model for each in models]
            self._get["/docs"] = lambda _: Reply(200, docs_page.index(names).encode(), "text/html; charset=utf-8")
        self._get |= open_inference_routes.server_routes(models, self._health, self._ready)
        for each in models:
            get, post = open_inference_routes.model_get(each, self._ready), open_inference_routes.model_post(each)
            self._get |= get
            self._post |= post
            self._owner |= dict.fromkeys((*get, *post), each)
        self._counted = {path for path in self._post if path.endswith(("/invocations", "/infer"))}

    def _add(self, model: ModelRoutes, root: str) -> None:
        self._get |= {root + name: answer for name, answer in model.get.items()}
        self._post |= {root + name: answer for name, answer in model.post.items()}
        self._owner |= {root + name: model for name in (*model.get, *model.post)}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, whatever it is."""
        if scope["type"] != "http":
            return
        began = time.perf_counter()
        headers = dict(scope["headers"])
        path = scope["path"]
        owner = self._owner.get(path) or (self._models[0] if len(self._models) == 1 else None)
        who = owner.who() if owner else _NOBODY
        try:
            self._admit(path, headers)
            self._check_route(scope)
            if post := self._post.get(path):
                _refuse_packed(headers)
                reply = await post(scope, headers, receive)
            else:
                reply = self._get[path](scope)
        except Refused as refused:
            body = open_inference_routes.refused_body(refused) if path.startswith(_V2) else refused.body()
            reply = Reply(refused.status, body, version=refused.who or who, more=_about(refused))
        except Exception:  # noqa: BLE001  (what nobody thought of: the client learns that, the operator where)
            _log.exception("a request could not be answered")
            reply = Reply(500, b'{"error_code": "INTERNAL_ERROR", "message": "the server failed"}', version=who)
        version, named = reply.version if reply.version[1] else who
        if owner and path in self._counted:
            seconds = time.perf_counter() - began
            self._metrics.answered(owner.settings.model, version, reply.status, reply.rows, seconds)
        more = reply.more
        if is_unread(scope, headers):
            await self._shared.incoming.drain(
                receive
            )  # who is still sending when the connection closes would not see the answer
            more = (*more, _CLOSE)
        elif self.phase in (Phase.DRAINING, Phase.REPLACED):
            more = (*more, _CLOSE)
        length = str(len(reply.content)).encode()
        start = [(b"content-type", reply.kind.encode()), (b"content-length", length), *named, *more]
        await send({"type": "http.response.start", "status": reply.status, "headers": start})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else reply.content})
        if reply.after:
            reply.after()

    def _admit(self, path: str, headers: dict[bytes, bytes]) -> None:
        if not self._tokens or path in self._open:
            return
        kind, _, given = headers.get(b"authorization", b"").partition(b" ")
        known = [hmac.compare_digest(given.strip(), token) for token in self._tokens]  # all, so that time tells nothing
        if kind.lower() != b"bearer" or not any(known):
            raise Refused(401, "a bearer token is needed", field="authorization", expected="Bearer TOKEN")

    def _check_route(self, scope: Scope) -> None:
        path, method = scope["path"], scope["method"]
        if path not in self._get and path not in self._post:
            known = ", ".join([*self._post, *self._get])
            raise Refused(404, "there is no such path", field="path", expected=known, got=path[:80])
        allowed = ("POST",) if path in self._post else ("GET", "HEAD")
        if method not in allowed:
            expected = ", ".join(allowed)
            raise Refused(405, f"{path} takes {expected}", field="method", expected=expected, got=method[:20])

    def _health(self) -> Reply:
        """Whether it lives: it does unless a part of it has ended that nothing starts again."""
        found = [each.health() for each in self._models]
        said = found[0]
        if len(found) > 1:
            worst = "degraded" if any(each["problems"] for each in found) else "ok"
            said = {"status": worst, "models": {each["model"]: each for each in found}}
        return Reply(503 if any(BROKEN in each["problems"] for each in found) else 200, orjson.dumps(said))

    def _ready(self, models: Sequence[ModelRoutes]) -> Reply:
        """Whether requests are to be sent here: versions answer, and the server is not about to end.

        Of several models those count that were loaded once: one that never was does not keep the others back.
        """
        said = self.phase.value
        if self.phase is Phase.REPLACED:  # whoever comes to this port is answered
            said = Phase.READY.value
        elif self.phase is Phase.READY:
            answering = [each for each in models if each.follower.current]
            if not answering:
                said = Phase.STARTING.value
            elif not all(each.has_process for each in answering):
                said = "restarting"
        return Reply(200 if said == Phase.READY.value else 503, orjson.dumps({"status": said}))

    def _counts(self) -> Reply:
        self._metrics.waiting.set(self._shared.waiting)
        logs = [each.log for each in self._models if each.log]
        if logs:
            self._metrics.log_dropped.set(sum(log.dropped for log in logs))
        return Reply(200, self._metrics.text(), METRICS)


def _refuse_packed(headers: dict[bytes, bytes]) -> None:
    """Refuse a compressed body.

    Raises:
        Refused: 415 where it is packed.
    """
    how = headers.get(b"content-encoding", b"").strip().lower()
    if how not in (b"", b"identity"):
        raise Refused(415, "a body that is packed is not read here", field="content-encoding", expected="identity",
                      got=how.decode("latin-1")[:80])  # fmt: skip


def _about(refused: Refused) -> tuple[Header, ...]:
    if refused.status == 503:  # noqa: PLR2004  (as HTTP numbers it)
        return ((b"retry-after", b"1"),)
    if refused.status == 401:  # noqa: PLR2004
        return ((b"www-authenticate", b"Bearer"),)
    if refused.status == 405:  # noqa: PLR2004
        return ((b"allow", refused.about["expected"].encode()),)
    return ()
