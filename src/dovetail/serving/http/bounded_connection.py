"""A connection within bounds: how large a head may be, how long it may take, how much may wait for a client."""

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from dovetail.serving.protocol.refused import Refused

HEAD_BYTES, HEAD_LINES = 64 * 1024, 100  # of a request's line and headers; above it 431
_LINGER_SECONDS = 0.5
MOST_PIPELINED = 16  # requests that wait on one connection for the one before; the connection ends after them


class Connection(HttpToolsProtocol):
    """uvicorn's, which bounds the head, what a client sends ahead, and what it does not read.

    Attributes:
        seconds: For a head to arrive, and for an answer to be read.
    """

    seconds = 30.0
    _head_timer: asyncio.TimerHandle | None = None
    _unread_timer: asyncio.TimerHandle | None = None
    _in_head = True  # what comes next belongs to a head
    _heads = 0  # that were whole
    _head_bytes = _head_lines = 0
    _ends = False  # no more is read

    def connection_made(self, transport: Any) -> None:
        """A client has connected."""
        super().connection_made(transport)
        self._wait_for_head()

    def data_received(self, data: bytes) -> None:
        """Part of a request, or of several."""
        if self._ends:
            return
        began, heads, counted = self._in_head, self._heads, self._head_bytes
        super().data_received(data)
        if began and self._in_head and self._heads == heads and not self._ends:
            self._head_bytes = max(self._head_bytes, counted + len(data))  # a line that does not end is counted, too
            self._check_head()
            if self._head_timer is None and self._is_idle():
                self._wait_for_head()  # empty lines are no request

    def on_message_begin(self) -> None:
        """A request begins."""
        if len(self.pipeline) >= MOST_PIPELINED:
            self.cycle.keep_alive = False
            self._ends = True
        super().on_message_begin()
        self._in_head = True
        self._head_bytes = self._head_lines = 0
        if not self._ends:
            self._wait_for_head()

    def on_url(self, url: bytes) -> None:
        """Part of its path."""
        self._count(len(url))
        if not self._ends:
            super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """One of its headers, or of its trailers."""
        self._head_lines += 1
        self._count(len(name) + len(value) + 4)
        if not self._ends:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Its head is whole."""
        self._head_arrived()
        self._in_head = False
        self._heads += 1
        if not self._ends:
            super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Part of its body."""
        if not self._ends:
            super().on_body(body)

    def on_message_complete(self) -> None:
        """It is whole."""
        if not self._ends:
            self._in_head = True  # of the next request
            self._head_bytes = self._head_lines = 0
            super().on_message_complete()

    def on_response_complete(self) -> None:
        """It is answered."""
        super().on_response_complete()
        self._watch_unread()

    def pause_writing(self) -> None:
        """The client reads more slowly than it is answered."""
        super().pause_writing()
        self._watch_unread()

    def eof_received(self) -> bool:  # type: ignore[override]  # asyncio asks for it
        """The client sends no more; what it has asked is answered before the connection ends."""
        cycle = self.cycle
        if self._ends or self._is_idle() or cycle.more_body:
            return False
        self._ends = True
        self._head_arrived()
        cycle.keep_alive = False
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection has ended."""
        self._ends = True
        self._head_arrived()
        if self._unread_timer:
            self._unread_timer.cancel()
        super().connection_lost(exc)

    def _is_idle(self) -> bool:
        cycle: Any = self.cycle
        return cycle is None or cycle.response_complete

    def _count(self, size: int) -> None:
        self._head_bytes += size
        self._check_head()

    def _check_head(self) -> None:
        if self._ends or (self._head_bytes <= HEAD_BYTES and self._head_lines <= HEAD_LINES):
            return
        self._ends = True
        self._head_arrived()
        if not self._in_head or not self._is_idle():
            self.transport.abort()  # trailers without end, or a head behind a request that is being answered
            return
        refused = Refused(431, f"the head is larger than {HEAD_BYTES} bytes or {HEAD_LINES} lines", field="headers",
                          expected=f"at most {HEAD_BYTES} bytes and {HEAD_LINES} lines")  # fmt: skip
        body = refused.body()
        head = (
            "HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-type: application/json\r\n"
            f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
        )
        self.transport.write(head.encode() + body)
        self.loop.call_later(_LINGER_SECONDS, self.transport.close)  # who still sends would see a reset connection
        self._watch_unread()

    def _wait_for_head(self) -> None:
        self._head_arrived()
        self._head_timer = self.loop.call_later(self.seconds, self.transport.close)

    def _head_arrived(self) -> None:
        if self._head_timer:
            self._head_timer.cancel()
            self._head_timer = None

    def _watch_unread(self) -> None:
        """End the connection if the client reads nothing of what waits for it."""
        waiting = self.transport.get_write_buffer_size()
        if waiting and self._unread_timer is None:
            self._unread_timer = self.loop.call_later(self.seconds, self._end_if_unread, waiting)

    def _end_if_unread(self, before: int) -> None:
        self._unread_timer = None
        if self.transport.get_write_buffer_size() >= before:
            self.transport.abort()
        else:
            self._watch_unread()
