"""A request's body as it arrives: within the limits, counted among all that are under way."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

from dovetail.serving.protocol.refused import Refused
from dovetail.serving.settings import ServeOptions

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]

_DRAIN_SECONDS, _DRAIN_PAUSE = 2.0, 0.25  # in all; between two parts
_READ = "dovetail.read"  # in a request's scope: its body is here, whole


class IncomingBodies:
    """The bodies of all requests of one server."""

    def __init__(self, options: ServeOptions) -> None:
        self._options = options
        self._bytes = 0  # of the bodies under way

    @asynccontextmanager
    async def whole(self, scope: Scope, headers: dict[bytes, bytes], receive: Receive) -> AsyncIterator[bytes]:
        """The request's body; it counts among what is under way until the block ends.

        Raises:
            Refused: 413 as soon as it is too large, 408 if it does not arrive in time, 503 if too much is under way.
        """
        most, seconds = self._options.body_bytes, self._options.timeout
        said = headers.get(b"content-length", b"0")
        if said.isdigit() and int(said) > most:
            raise _too_large(most)
        body = bytearray()
        try:
            try:
                async with asyncio.timeout(seconds):
                    async for part in _parts(receive):
                        body += part
                        self._bytes += len(part)
                        if len(body) > most:
                            raise _too_large(most)
                        if self._bytes > self._options.waiting_bytes:
                            raise Refused(503, f"requests of {self._bytes} bytes are under way already")
            except TimeoutError:
                raise Refused(408, f"the body did not arrive in {seconds:g} s") from None
            scope[_READ] = True
            yield bytes(body)
        finally:
            self._bytes -= len(body)

    async def drain(self, receive: Receive) -> None:
        """Read and discard the rest of a body that nobody needs, while it keeps coming and is not endless."""
        left = 4 * self._options.body_bytes
        until = time.monotonic() + _DRAIN_SECONDS
        with suppress(TimeoutError, Refused):
            parts = _parts(receive)
            while left > 0 and time.monotonic() < until:
                async with asyncio.timeout(_DRAIN_PAUSE):
                    left -= len(await anext(parts, b"")) or left


def is_unread(scope: Scope, headers: dict[bytes, bytes]) -> bool:
    """Whether a body comes with the request that was not read."""
    has_body = headers.get(b"content-length", b"0") != b"0" or b"transfer-encoding" in headers
    return has_body and not scope.get(_READ)


async def _parts(receive: Receive) -> AsyncIterator[bytes]:
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Refused(400, "the client went away")
        yield message.get("body", b"")
        more = message.get("more_body", False)


def _too_large(most: int) -> Refused:
    return Refused(413, f"the body is larger than {most} bytes; send it in parts", field="body",
                   expected=f"at most {most} bytes")  # fmt: skip
