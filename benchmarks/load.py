"""HTTP load on a server of this machine: keep-alive connections that each ask again as soon as they were answered."""

import asyncio
import statistics
import time
from dataclasses import dataclass

import uvloop

HEAD_END = b"\r\n\r\n"


@dataclass(frozen=True)
class Load:
    """What came of it: every answer had status 200."""

    seconds: float
    times: list[float]

    @property
    def per_second(self) -> float:
        return len(self.times) / self.seconds

    @property
    def p50_ms(self) -> float:
        return statistics.median(self.times) * 1000


def load(port: int, body: bytes, *, connections: int, requests: int) -> Load:
    """POST `body` to /invocations, `requests` times in all."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_load(port, body, connections, requests))


async def _load(port: int, body: bytes, connections: int, requests: int) -> Load:
    head = (
        f"POST /invocations HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n"
        f"content-length: {len(body)}\r\n\r\n"
    )
    work = _Work(head.encode() + body, requests, asyncio.get_running_loop().create_future())
    began = time.perf_counter()
    await asyncio.gather(
        *(asyncio.get_running_loop().create_connection(lambda: _Client(work), "127.0.0.1", port)
          for _ in range(connections))
    )  # fmt: skip
    await work.done
    return Load(time.perf_counter() - began, work.times)


class _Work:
    def __init__(self, request: bytes, left: int, done: "asyncio.Future[None]") -> None:
        self.request = request
        self.left = left
        self.unanswered = left
        self.done = done
        self.times: list[float] = []


class _Client(asyncio.Protocol):
    def __init__(self, work: _Work) -> None:
        self._work = work
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._ask()

    def _ask(self) -> None:
        if not self._work.left:
            self._transport.close()
            return
        self._work.left -= 1
        self._began = time.perf_counter()
        self._transport.write(self._work.request)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, end, body = self._buffer.partition(HEAD_END)
        if not end:
            return
        if not head.startswith(b"HTTP/1.1 200"):
            self._work.done.set_exception(RuntimeError(self._buffer.decode()))
            return
        lower = head.lower()
        at = lower.index(b"content-length:") + len(b"content-length:")
        if len(body) < int(lower[at:].split(b"\r\n", 1)[0]):
            return
        self._buffer = b""
        self._work.times.append(time.perf_counter() - self._began)
        self._work.unanswered -= 1
        if not self._work.unanswered and not self._work.done.done():
            self._work.done.set_result(None)
        self._ask()

    def connection_lost(self, error: Exception | None) -> None:
        if self._work.unanswered and not self._work.done.done() and self._work.left:
            self._work.done.set_exception(error or ConnectionError("the server closed a connection"))
