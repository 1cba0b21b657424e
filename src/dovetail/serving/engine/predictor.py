"""The server's side of a model's process: requests that wait are asked together, each gets its own answer."""

import asyncio
import json
import os
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from dovetail.serving.engine import frames
from dovetail.serving.engine.kept_copies import Target
from dovetail.serving.protocol.body import ARRAY, Question
from dovetail.serving.protocol.rejected import Rejected
from dovetail.serving.settings import ENV_TOKENS

_TOGETHER = 4_096  # rows of one prediction, unless a single request has more
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


class EngineLost(Exception):
    """The model's process ended, or answers nothing that makes sense."""


class Engine(asyncio.Protocol):
    """A model's process. One question at a time."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._then: Callable[[list[frames.Part] | None], None] | None = None
        self._transport: asyncio.WriteTransport | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self.on_lost: Callable[[], None] | None = None
        self.lost = False

    @classmethod
    async def start(cls) -> "Engine":
        """A new process, empty.

        Raises:
            EngineLost: when the machine has no room for one.
        """
        try:
            ours, theirs = socket.socketpair()
            with theirs:
                process = _spawn(theirs)
            ours.setblocking(False)  # noqa: FBT003  (socket's signature)
            _, engine = await asyncio.get_running_loop().create_connection(cls, sock=ours)
        except OSError as error:
            raise EngineLost(f"a process cannot be started: {error}") from error
        engine._process = process  # noqa: SLF001  (its own)
        return engine

    @property
    def pid(self) -> int | None:
        """Of the process."""
        return self._process.pid if self._process else None

    def ask(self, frame: bytes, then: Callable[[list[frames.Part] | None], None]) -> None:
        """Send a frame; `then` gets the answer, or None when the process is lost."""
        self._then = then
        if self._transport is None or self.lost:
            self._answered(None)
        else:
            self._transport.write(frame)

    async def load(self, target: Target) -> dict[str, Any]:
        """Let the process read a model; what it takes and gives.

        Raises:
            ValueError: with the reason, when it cannot.
            EngineLost: when reading it ended the process.
        """
        done: asyncio.Future[list[frames.Part] | None] = asyncio.get_running_loop().create_future()
        self.ask(
            frames.question(("load", target.folder, target.md5, target.allow, target.onnx)),
            lambda p: None if done.done() else done.set_result(p),
        )
        parts = await done
        if parts is None:
            raise EngineLost("the process that loaded it died")
        ((well, content),) = parts
        said: dict[str, Any] = json.loads(content)
        if not well:
            raise ValueError(said["message"])
        return said

    def close(self) -> None:
        """Let the process end."""
        self.on_lost = None
        if self._transport:
            self._transport.close()
        _end(self._process)

    def kill(self) -> None:
        """End the process at once; whoever waits for it learns that it is lost."""
        if self._process:
            self._process.kill()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The process can be written to."""
        self._transport = transport  # type: ignore[assignment]  # a socket's transport can write

    def data_received(self, data: bytes) -> None:
        """Part of an answer."""
        self._buffer += data
        while (payload := frames.split(self._buffer)) is not None:
            try:
                self._answered(frames.parts(payload))
            except frames.Malformed:
                self.kill()

    def connection_lost(self, _: Exception | None) -> None:
        """The process has ended."""
        self.lost = True
        _end(self._process)
        if self.on_lost:  # first: what waits must not be asked of a process that is gone
            self.on_lost()
        self._answered(None)

    def _answered(self, parts: list[frames.Part] | None) -> None:
        then, self._then = self._then, None
        if then:
            then(parts)


def _spawn(connection: socket.socket) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        # -P: what lies in the current folder is no library.
        [sys.executable, "-P", "-m", "dovetail.serving.engine.model_process", str(connection.fileno())],
        pass_fds=[connection.fileno()], stdin=subprocess.DEVNULL, start_new_session=True,
        env=dict.fromkeys(_THREADS, "1") | {k: v for k, v in os.environ.items() if k != ENV_TOKENS},
    )  # fmt: skip


def _end(process: subprocess.Popen[bytes] | None) -> None:
    if process:
        process.kill()
        process.wait()


@dataclass(slots=True)
class Job:
    """A request that waits for its answer."""

    question: Question
    answer: "asyncio.Future[bytes]"
    until: float  # of time.monotonic
    key: tuple[Any, ...] = field(init=False)

    def __post_init__(self) -> None:
        self.key = (self.question.method, *self.question.columns)


class Predictor:
    """One loaded version: its process, and the requests that wait for it.

    While a prediction runs, what arrives is collected; the next prediction is of all that waits and fits together.
    """

    def __init__(self, engine: Engine, *, seconds: float, together: bool, on_batch: Callable[[int], None]) -> None:
        """Serve with `engine`.

        Args:
            engine: The process, loaded.
            seconds: After which a request is given up, and a prediction.
            together: Requests may share a prediction.
            on_batch: Hears how many do.
        """
        self._seconds = seconds
        self._since = 0.0  # when the prediction under way was asked for
        self._together = together
        self._on_batch = on_batch
        self._waiting: deque[Job] = deque()
        self._asked: list[Job] = []
        self._engine: Engine | None = None
        self._closing = False
        self.attach(engine)

    @property
    def engine(self) -> Engine | None:
        """The process, while it lives."""
        return self._engine

    @property
    def closed(self) -> bool:
        """Another version answers by now."""
        return self._closing

    @property
    def idle(self) -> bool:
        """Nobody waits for an answer."""
        return not self._waiting and not self._asked

    def attach(self, engine: Engine) -> None:
        """Go on with another process of the same version."""
        self._engine = engine
        self._next()

    def detach(self) -> None:
        """The process is lost; what was asked of it is answered, what waits goes on waiting."""
        self._engine = None

    async def predict(self, question: Question) -> bytes:
        """The predictions for a request, as a JSON list.

        Raises:
            Rejected: 422 when the model refuses the rows; 503 when there was no answer in time.
        """
        answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._waiting.append(Job(question, answer, time.monotonic() + self._seconds))
        if not self._asked:
            self._next()
        return await answer

    def expire(self) -> None:
        """Answer those whose time is up; a process whose prediction overruns it is ended: it may never come back."""
        now = time.monotonic()
        for job in (*self._waiting, *self._asked):
            if job.until < now:
                _fail(job, "there was no answer in time")
        while self._waiting and self._waiting[0].answer.done():
            self._waiting.popleft()
        if self._asked and self._since + self._seconds < now and self._engine:
            self._engine.kill()

    def close(self) -> None:
        """End the process once nobody waits for it."""
        self._closing = True
        if self.idle and self._engine:
            self._engine.close()

    def _next(self) -> None:
        if self._engine is None or self._asked:
            return
        jobs = self._batch()
        if not jobs:
            if self._closing:
                self._engine.close()
            return
        first = jobs[0].question
        if len(jobs) == 1:
            columns: Mapping[str, list[Any]] = first.columns
        else:
            columns = {name: [v for job in jobs for v in job.question.columns[name]] for name in first.columns}
        self._asked, self._since = jobs, time.monotonic()
        sizes = [job.question.rows for job in jobs]
        self._on_batch(len(jobs))
        self._engine.ask(frames.question(("predict", first.method, sizes, columns)), self._answered)

    def _batch(self) -> list[Job]:
        """What waits longest, and what fits to it."""
        waiting, rows = self._waiting, 0
        jobs: list[Job] = []
        other: list[Job] = []
        while waiting:
            job = waiting.popleft()
            if job.answer.done():  # its client is gone
                continue
            fits = not jobs or (
                self._together and job.key == jobs[0].key and ARRAY not in job.question.columns
                and rows + job.question.rows <= _TOGETHER
            )  # fmt: skip
            if not fits:
                other.append(job)
                if len(other) > len(jobs):  # do not search a long queue for the few that fit
                    break
                continue
            jobs.append(job)
            rows += job.question.rows
        waiting.extendleft(reversed(other))
        return jobs

    def _answered(self, parts: list[frames.Part] | None) -> None:
        jobs, self._asked = self._asked, []
        if parts is None or len(parts) != len(jobs):
            for job in jobs:
                _fail(job, "the process that predicts ended")
        else:
            for job, (well, content) in zip(jobs, parts, strict=True):
                if job.answer.done():
                    continue
                if well:
                    job.answer.set_result(content)
                else:
                    said = json.loads(content)["message"]
                    job.answer.set_exception(Rejected(422, f"the model does not take these rows: {said}"))
        self._next()


def _fail(job: Job, why: str) -> None:
    if not job.answer.done():
        job.answer.set_exception(Rejected(503, why))
