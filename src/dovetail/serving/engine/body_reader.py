"""The server's side of the processes that read bodies: at most two at a time, each started when it is needed."""

import asyncio
import io
import json
import pickle
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from dovetail.serving.engine import frames
from dovetail.serving.engine.body_process import SECONDS, TOO_MUCH_MEMORY
from dovetail.serving.engine.process_client import ProcessClient, ProcessLost
from dovetail.serving.protocol.body import PredictionRequest
from dovetail.serving.protocol.body_limits import UNPACKED
from dovetail.serving.protocol.refused import Refused
from dovetail.serving.protocol.signature import Signature
from dovetail.serving.settings import ServeOptions

_AT_ONCE = 2
_MODULE = "dovetail.serving.engine.body_process"
_DIED_OF_MEMORY = (-signal.SIGABRT, -signal.SIGSEGV, -signal.SIGBUS)


class BodyReader:
    """Reads bodies in processes of their own, so that no body stalls or outgrows the server."""

    def __init__(self, options: ServeOptions, *, memory: int | None = None, seconds: float = SECONDS) -> None:
        """Read bodies within the limits of `options`.

        Args:
            options: Of the server.
            memory: Bytes that a body may cost; None: three times of what it may unpack to.
            seconds: Of processor time that it may cost.
        """
        self._options = options
        self._seconds = seconds
        self._arguments = (str(memory or 3 * max(UNPACKED, options.body_bytes)), str(seconds))
        self._free = asyncio.Semaphore(_AT_ONCE)
        self._idle: list[ProcessClient] = []

    async def request(
        self, body: bytes, content_type: str, signature: Signature, until: float | None = None
    ) -> PredictionRequest:
        """The request in a body; `until` is when it has to be read, of time.monotonic, by default as long as a request.

        Raises:
            Refused: when it cannot be read, is not what the model takes, or costs too much.
        """
        return PredictionRequest(*await self._read(body, content_type, signature, until))

    async def feedback(self, body: bytes, until: float | None = None) -> tuple[str, list[Any]]:
        """The request id and the labels in a body, likewise.

        Raises:
            Refused: when it is something else, or costs too much.
        """
        request_id, labels = await self._read(body, None, None, until)
        return request_id, labels

    def close(self) -> None:
        """End the processes."""
        for client in self._idle:
            client.close()

    async def _read(
        self, body: bytes, content_type: str | None, signature: Signature | None, until: float | None
    ) -> Any:
        until = until or time.monotonic() + self._options.timeout  # the clock of the loop, too
        try:
            async with asyncio.timeout_at(until), self._client() as client:
                frame = frames.request((body, content_type, signature, self._options.max_rows))
                parts = await client.answer(frame)
                if parts is None:
                    raise self._why(client.exit_code)
        except TimeoutError:
            raise Refused(503, "the body was not read in time") from None
        ((well, content),) = parts
        if not well:
            status, message, about = json.loads(content)
            raise Refused(status, message, **about)
        return _Plain(io.BytesIO(content)).load()

    def _why(self, exit_code: int | None) -> Refused:
        """Why a body ended the process that read it."""
        if exit_code == -signal.SIGPROF:
            return Refused(413, f"the body takes more than {self._seconds:g} s to read; send it in parts")
        if exit_code in _DIED_OF_MEMORY:
            return Refused(413, TOO_MUCH_MEMORY)
        return Refused(503, "the process that reads the body ended")

    @asynccontextmanager
    async def _client(self) -> AsyncIterator[ProcessClient]:
        async with self._free:
            try:
                client = self._idle.pop() if self._idle else await ProcessClient.start(_MODULE, *self._arguments)
            except ProcessLost as error:
                raise Refused(503, str(error)) from error
            is_whole = False
            try:
                yield client
                is_whole = True
            except Refused:
                is_whole = True
                raise
            finally:
                if is_whole and not client.lost:
                    self._idle.append(client)
                else:
                    client.close()


class _Plain(pickle.Unpickler):
    """Reads lists, texts, numbers and times, and resolves no other name."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("datetime", "datetime"):
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f"{module}.{name} is not a value of a table")
