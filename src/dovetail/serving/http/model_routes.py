"""What one model answers: the same for a server of one and of several."""

import time
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import orjson

from dovetail.serving.engine.body_reader import BodyReader
from dovetail.serving.engine.follower import Follower
from dovetail.serving.engine.version_loader import ServedVersion
from dovetail.serving.http import docs_page, openapi
from dovetail.serving.http.incoming import IncomingBodies, Receive, Scope
from dovetail.serving.http.reply import JSON, Header, Look, Post, Reply, named
from dovetail.serving.http.request_ids import RequestIds
from dovetail.serving.log.prediction_log import PredictionLog, Served
from dovetail.serving.protocol import open_inference
from dovetail.serving.protocol.body import PredictionRequest, read
from dovetail.serving.protocol.body_limits import MOST_VALUES
from dovetail.serving.protocol.feedback import check_labels, read_feedback
from dovetail.serving.protocol.refused import Refused
from dovetail.serving.settings import ServeOptions, Settings

_MOST_VALUES = 16 * MOST_VALUES  # of requests that wait for an answer: as Python objects they take about a gigabyte
_BIG = 1 << 18  # bytes from which a body is read in a process of its own, so that others are answered meanwhile


class Shared:
    """What the models of one server have together, so that the bounds are those of the server.

    Attributes:
        waiting: Requests without an answer yet.
        values: What those of them ask about whose bodies have been read.
    """

    def __init__(self, options: ServeOptions, bodies: BodyReader, ids: RequestIds) -> None:
        self.options = options
        self.bodies = bodies
        self.ids = ids
        self.incoming = IncomingBodies(options)
        self.waiting = 0
        self.values = 0

    def refuse_a_crowd(self) -> None:
        """Refuse a request if too many wait.

        Raises:
            Refused: 503 where they do.
        """
        if self.waiting >= self.options.max_waiting:
            raise Refused(503, f"{self.waiting} requests wait already")

    def refuse_too_much(self) -> None:
        """Refuse a request if what all of them ask about does not fit into memory.

        Raises:
            Refused: 503 where it does not.
        """
        if self.values > _MOST_VALUES:
            raise Refused(503, f"requests of {self.values} values are under way already")


@dataclass(frozen=True, slots=True)
class Predicted:
    """What a version said: `content` is a JSON list."""

    loaded: ServedVersion
    request: PredictionRequest
    content: bytes
    body_bytes: int


class ModelRoutes:
    """One model's, by the last part of their paths."""

    def __init__(self, settings: Settings, follower: Follower, log: PredictionLog | None, shared: Shared) -> None:
        """Answer with what `follower` holds."""
        self.settings = settings
        self.follower = follower
        self.log = log
        self._shared = shared
        self._named: tuple[ServedVersion | None, tuple[str, list[Header]]] = (None, ("", []))
        self.get: dict[str, Look] = {
            "model": lambda _: self._model(),
            "openapi.json": lambda scope: self._reply(orjson.dumps(self._described(_root(scope)))),
            "docs": self._docs,
        }
        self.post: dict[str, Post] = {
            "invocations": self._invocations, "feedback": self._feedback,
        }  # fmt: skip

    def who(self) -> tuple[str, list[Header]]:
        """The version that answers now, and the headers that name it."""
        loaded = self.follower.current
        if loaded is None or self._named[0] is not loaded:
            self._named = loaded, named(self.settings.model, loaded)
        return self._named[1]

    def loaded(self) -> ServedVersion:
        """The version that answers now.

        Raises:
            Refused: 503 where none does yet.
        """
        if self.follower.current is None:
            raise Refused(503, "no version is loaded yet")
        return self.follower.current

    @property
    def has_process(self) -> bool:
        """Whether a version is there, and a process that answers for it."""
        return self.follower.current is not None and self.follower.current.batcher.processes > 0

    def health(self) -> dict[str, Any]:
        """What is served, and what is wrong."""
        loaded, problems = self.follower.current, dict(self.follower.health.problems)
        if self.log and self.log.problem:
            problems["log"] = f"{self.settings.log}: {self.log.problem}"
        loading = self.follower.health.loading
        return {
            "status": "degraded" if problems else "ok",
            "model": self.settings.model,
            "follows": self.settings.what,
            "version": loaded.copy.version if loaded else None,
            "workers": loaded.batcher.processes if loaded else 0,
            **({"loading": loading} if loading else {}),
            "trust": self.follower.health.trust,
            "problems": problems,
        }

    async def predicted(
        self, scope: Scope, headers: dict[bytes, bytes], receive: Receive, kind: str | None = None
    ) -> Predicted:
        """The answer of the version that is there when the body has arrived; `kind` is its type, else its header's.

        Raises:
            Refused: when the body is no request, the model does not take it, or there is no answer in time.
        """
        self._shared.refuse_a_crowd()
        async with self._shared.incoming.whole(scope, headers, receive) as body:
            self._shared.refuse_a_crowd()
            self._shared.waiting += 1
            until = time.monotonic() + self._shared.options.timeout  # for all that is done from here on
            loaded, values = self.follower.current, 0
            try:
                loaded = self.loaded()
                kind = kind or headers.get(b"content-type", b"").decode("latin-1")
                loaded, request = await self._read(body, kind, loaded, until)
                values = _values(request, len(body))
                self._shared.values += values
                self._shared.refuse_too_much()
                return Predicted(loaded, request, await loaded.batcher.predict(request, until), len(body))
            except Refused as refused:
                refused.who = named(self.settings.model, loaded)
                raise
            finally:
                self._shared.waiting -= 1
                self._shared.values -= values

    def answered(self, predicted: Predicted, request_id: str, content: bytes) -> Reply:
        """The reply that says it, under an id; what was predicted is remembered once it is sent."""
        loaded, request = predicted.loaded, predicted.request

        def remember() -> None:
            if self.log:
                entry = Served(request_id, time.time(), loaded.copy.version, request.method, request.columns,
                               predicted.content, predicted.body_bytes)  # fmt: skip
                self.log.served(entry)

        who = self.who() if loaded is self.follower.current else named(self.settings.model, loaded)
        more = ((b"x-request-id", request_id.encode()),)
        return Reply(200, content, version=who, more=more, rows=request.rows, after=remember)

    def request_id(self, request: PredictionRequest) -> str:
        """An id for the answer to it."""
        return self._shared.ids.make(request.rows, self.settings.model)

    async def _invocations(self, scope: Scope, headers: dict[bytes, bytes], receive: Receive) -> Reply:
        predicted = await self.predicted(scope, headers, receive)
        content = b'{"predictions": ' + predicted.content + b"}"
        return self.answered(predicted, self.request_id(predicted.request), content)

    async def _read(
        self, body: bytes, kind: str, loaded: ServedVersion, until: float
    ) -> tuple[ServedVersion, PredictionRequest]:
        """The request, and the version whose signature it was checked against."""
        if len(body) < _BIG and kind == open_inference.TYPE:
            return loaded, open_inference.read_infer(body, loaded.signature, self._shared.options.max_rows)
        if len(body) < _BIG and kind.startswith(JSON):
            return loaded, read(body, kind, loaded.signature, self._shared.options.max_rows)
        request = await self._shared.bodies.request(body, kind, loaded.signature, until)
        while loaded.batcher.closed:  # another version took over meanwhile, which may take something else
            loaded = self.loaded()
            request = await self._shared.bodies.request(body, kind, loaded.signature, until)
        return loaded, request

    async def _feedback(self, scope: Scope, headers: dict[bytes, bytes], receive: Receive) -> Reply:
        """True labels for an answer that was given."""
        if self.log is None:
            raise Refused(404, "this server keeps no log, so there is nothing to join a label to")
        async with self._shared.incoming.whole(scope, headers, receive) as body:
            big, rows = len(body) >= _BIG, self._shared.options.max_rows
            request_id, labels = await self._shared.bodies.feedback(body) if big else read_feedback(body, rows)
            size = len(body)
        self._shared.ids.check(request_id, len(labels), self.settings.model)
        check_labels(labels, self.loaded().signature.output)
        if not self.log.labelled(request_id, labels, time.time(), size):
            raise Refused(503, "the log has no room for more labels at the moment")
        return Reply(202, b'{"accepted": %d}' % len(labels), version=self.who())

    def _model(self) -> Reply:
        loaded = self.loaded()
        said = {
            "model": self.settings.model,
            "version": loaded.copy.version,
            "alias": self.settings.alias,
            "md5": loaded.copy.md5,
            "commit": loaded.copy.commit,
            "since": loaded.since,
            "signature": {key: loaded.about[key] for key in ("inputs", "outputs")},
            "methods": loaded.about["methods"],
            "compiled": loaded.about["compiled"],
            "not_compiled": loaded.about["not_compiled"],
        }
        return self._reply(orjson.dumps(said))

    def _docs(self, scope: Scope) -> Reply:
        at = docs_page.address(scope, self.settings.options.host, self.settings.options.port)
        root = _root(scope)
        page = docs_page.page(self._described(root), at + quote(root))
        return self._reply(page.encode(), "text/html; charset=utf-8")

    def _described(self, root: str) -> dict[str, Any]:
        loaded = self.loaded()
        return openapi.document(self.settings, loaded.signature, loaded.about, loaded.copy.version, root)

    def _reply(self, content: bytes, kind: str = JSON) -> Reply:
        return Reply(200, content, kind, self.who())


def _values(request: PredictionRequest, size: int) -> int:
    """How many values it asks about, at most, where some hold others."""
    is_nested = any(isinstance(values[0], list | dict) for values in request.columns.values())
    return min(MOST_VALUES, size // 2) if is_nested else request.rows * len(request.columns)


def _root(scope: Scope) -> str:
    """What stands before the model's paths; nothing at the root."""
    return str(scope["path"]).rpartition("/")[0]
