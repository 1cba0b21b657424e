"""Requests that wait are asked together, and each gets its own answer."""

import asyncio
import json
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
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


@dataclass(slots=True, eq=False)
class _Worker:
    """A process, and what is asked of it now."""

    client: ModelClient
    asked: list[WaitingRequest] = field(default_factory=list)
    since: float = 0.0  # when the prediction under way was asked for


class Batcher:
    """One loaded version: its processes, and the requests that wait for one of them.

    While all of them predict, what arrives is collected. The next prediction is of what waits and fits together: of all
    where there is one process, else of its share, so that nobody waits behind what another process could predict.
    """

    def __init__(
        self, clients: Sequence[ModelClient], *, seconds: float, together: bool, on_batch: Callable[[int], None]
    ) -> None:
        """Answer with the processes of `clients`.

        Args:
            clients: Of the processes, each loaded with the same version.
            seconds: After which a request is given up, and a prediction.
            together: Requests may share a prediction.
            on_batch: Hears how many do.
        """
        self._seconds = seconds
        self._together = together
        self._on_batch = on_batch
        self._waiting: deque[WaitingRequest] = deque()
        self._idle: list[_Worker] = []
        self._busy: list[_Worker] = []
        self._closing = False
        for client in clients:
            self.attach(client)

    @property
    def processes(self) -> int:
        """How many live."""
        return len(self._idle) + len(self._busy)

    @property
    def closed(self) -> bool:
        """Another version answers by now."""
        return self._closing

    @property
    def idle(self) -> bool:
        """Nobody waits for an answer."""
        return not self._waiting and not self._busy

    def attach(self, client: ModelClient) -> None:
        """Go on with another process of the same version."""
        self._idle.append(_Worker(client))
        self._next()

    def detach(self, client: ModelClient) -> None:
        """A process is lost; what was asked of it is answered, what waits goes on waiting."""
        self._idle = [worker for worker in self._idle if worker.client is not client]
        self._busy = [worker for worker in self._busy if worker.client is not client]

    async def predict(self, request: PredictionRequest, until: float | None = None) -> bytes:
        """The predictions for a request, as a JSON list.

        `until` is when they are given up, of time.monotonic; by default as long as a request may take from now on.

        Raises:
            Refused: 422 when the model refuses the rows; 503 when there was no answer in time.
        """
        answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._waiting.append(WaitingRequest(request, answer, until or time.monotonic() + self._seconds))
        if self._idle:
            self._next()
        return await answer

    def expire(self) -> None:
        """Answer those whose time is up; a process whose prediction overruns it is ended: it may never come back."""
        now = time.monotonic()
        asked = [waiting for worker in self._busy for waiting in worker.asked]
        for waiting in (*self._waiting, *asked):
            if waiting.until < now:
                _fail(waiting, "there was no answer in time")
        while self._waiting and self._waiting[0].answer.done():
            self._waiting.popleft()
        for worker in self._busy:
            if worker.since + self._seconds < now:
                worker.client.kill()

    def close(self) -> None:
        """End the processes once nobody waits for them."""
        self._closing = True
        if self.idle:
            self.end()

    def end(self) -> None:
        """End the processes now."""
        for worker in (*self._idle, *self._busy):
            worker.client.close()
        self._idle, self._busy = [], []

    def _next(self) -> None:
        while self._idle and (requests := self._batch()):
            worker = self._idle.pop()
            self._busy.append(worker)
            self._ask(worker, requests)
        if self._closing and self.idle:
            self.end()

    def _ask(self, worker: _Worker, requests: list[WaitingRequest]) -> None:
        first = requests[0].request
        if len(requests) == 1:
            columns: Mapping[str, list[Any]] = first.columns
        else:
            columns = {
                name: [v for waiting in requests for v in waiting.request.columns[name]] for name in first.columns
            }
        worker.asked, worker.since = requests, time.monotonic()
        sizes = [waiting.request.rows for waiting in requests]
        self._on_batch(len(requests))
        frame = frames.request(("predict", first.method, sizes, columns))
        worker.client.ask(frame, lambda parts: self._answered(worker, parts))

    def _batch(self) -> list[WaitingRequest]:
        """What waits longest, and what fits to it."""
        queue, rows, share = self._waiting, 0, -(-len(self._waiting) // self.processes)
        requests: list[WaitingRequest] = []
        other: list[WaitingRequest] = []
        while queue and len(requests) < share:
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

    def _answered(self, worker: _Worker, parts: list[frames.Part] | None) -> None:
        requests, worker.asked = worker.asked, []
        if worker in self._busy:  # else it is lost
            self._busy.remove(worker)
            self._idle.append(worker)
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
