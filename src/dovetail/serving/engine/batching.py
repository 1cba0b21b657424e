"""Requests that wait are asked together, and each gets its own answer."""

import asyncio
import json
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from dovetail.serving.engine import frames
from dovetail.serving.engine.model_client import ModelClient
from dovetail.serving.protocol.body import PredictionRequest
from dovetail.serving.protocol.json_body import ARRAY
from dovetail.serving.protocol.refused import Refused

_TOGETHER = 4_096  # rows of one prediction, unless a single request has more


@dataclass(slots=True)
class WaitingRequest:
    """A request that waits for its answer."""

    request: PredictionRequest
    answer: "asyncio.Future[bytes]"
    until: float  # of time.monotonic
    key: tuple[Any, ...] = field(init=False)

    def __post_init__(self) -> None:
        self.key = (self.request.method, *self.request.columns)


class Batcher:
    """One loaded version: its process, and the requests that wait for it.

    While a prediction runs, what arrives is collected; the next prediction is of all that waits and fits together.
    """

    def __init__(self, client: ModelClient, *, seconds: float, together: bool, on_batch: Callable[[int], None]) -> None:
        """Answer with the process of `client`.

        Args:
            client: Of the process, loaded.
            seconds: After which a request is given up, and a prediction.
            together: Requests may share a prediction.
            on_batch: Hears how many do.
        """
        self._seconds = seconds
        self._since = 0.0  # when the prediction under way was asked for
        self._together = together
        self._on_batch = on_batch
        self._waiting: deque[WaitingRequest] = deque()
        self._asked: list[WaitingRequest] = []
        self._client: ModelClient | None = None
        self._closing = False
        self.attach(client)

    @property
    def client(self) -> ModelClient | None:
        """The process, while it lives."""
        return self._client

    @property
    def closed(self) -> bool:
        """Another version answers by now."""
        return self._closing

    @property
    def idle(self) -> bool:
        """Nobody waits for an answer."""
        return not self._waiting and not self._asked

    def attach(self, client: ModelClient) -> None:
        """Go on with another process of the same version."""
        self._client = client
        self._next()

    def detach(self) -> None:
        """The process is lost; what was asked of it is answered, what waits goes on waiting."""
        self._client = None

    async def predict(self, request: PredictionRequest) -> bytes:
        """The predictions for a request, as a JSON list.

        Raises:
            Refused: 422 when the model refuses the rows; 503 when there was no answer in time.
        """
        answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._waiting.append(WaitingRequest(request, answer, time.monotonic() + self._seconds))
        if not self._asked:
            self._next()
        return await answer

    def expire(self) -> None:
        """Answer those whose time is up; a process whose prediction overruns it is ended: it may never come back."""
        now = time.monotonic()
        for waiting in (*self._waiting, *self._asked):
            if waiting.until < now:
                _fail(waiting, "there was no answer in time")
        while self._waiting and self._waiting[0].answer.done():
            self._waiting.popleft()
        if self._asked and self._since + self._seconds < now and self._client:
            self._client.kill()

    def close(self) -> None:
        """End the process once nobody waits for it."""
        self._closing = True
        if self.idle and self._client:
            self._client.close()

    def _next(self) -> None:
        if self._client is None or self._asked:
            return
        requests = self._batch()
        if not requests:
            if self._closing:
                self._client.close()
            return
        first = requests[0].request
        if len(requests) == 1:
            columns: Mapping[str, list[Any]] = first.columns
        else:
            columns = {
                name: [v for waiting in requests for v in waiting.request.columns[name]] for name in first.columns
            }
        self._asked, self._since = requests, time.monotonic()
        sizes = [waiting.request.rows for waiting in requests]
        self._on_batch(len(requests))
        self._client.ask(frames.request(("predict", first.method, sizes, columns)), self._answered)

    def _batch(self) -> list[WaitingRequest]:
        """What waits longest, and what fits to it."""
        queue, rows = self._waiting, 0
        requests: list[WaitingRequest] = []
        other: list[WaitingRequest] = []
        while queue:
            waiting = queue.popleft()
            if waiting.answer.done():  # its client is gone
                continue
            fits = not requests or (
                self._together and waiting.key == requests[0].key and ARRAY not in waiting.request.columns
                and rows + waiting.request.rows <= _TOGETHER
            )  # fmt: skip
            if not fits:
                other.append(waiting)
                if len(other) > len(requests):  # do not search a long queue for the few that fit
                    break
                continue
            requests.append(waiting)
            rows += waiting.request.rows
        queue.extendleft(reversed(other))
        return requests

    def _answered(self, parts: list[frames.Part] | None) -> None:
        requests, self._asked = self._asked, []
        if parts is None or len(parts) != len(requests):
            for waiting in requests:
                _fail(waiting, "the process that predicts ended")
        else:
            for waiting, (well, content) in zip(requests, parts, strict=True):
                if waiting.answer.done():
                    continue
                if well:
                    waiting.answer.set_result(content)
                else:
                    said = json.loads(content)["message"]
                    waiting.answer.set_exception(Refused(422, f"the model does not take these rows: {said}"))
        self._next()


def _fail(waiting: WaitingRequest, why: str) -> None:
    if not waiting.answer.done():
        waiting.answer.set_exception(Refused(503, why))
