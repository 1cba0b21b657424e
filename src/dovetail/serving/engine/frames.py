"""Frames between the server and the process that holds a model: a length, then that many bytes.

The server pickles what it asks, the model's process answers in plain bytes: nothing that it says is ever unpickled.
"""

import pickle
import socket
import struct
from collections.abc import Iterable
from typing import Any

_LENGTH = struct.Struct("!I")
_PART = struct.Struct("!?I")


class Malformed(ValueError):
    """Bytes that `answer` did not make."""


Part = tuple[bool, bytes]  # whether it went well, and JSON


def request(asked: tuple[Any, ...]) -> bytes:
    """A frame for the model's process."""
    return _frame(pickle.dumps(asked, protocol=5))


def answer(parts: Iterable[Part]) -> bytes:
    """A frame for the server."""
    pieces = [piece for well, content in parts for piece in (_PART.pack(well, len(content)), content)]
    return b"".join([_LENGTH.pack(sum(map(len, pieces))), *pieces])


def parts(payload: bytes) -> list[Part]:
    """What `answer` put in.

    Raises:
        Malformed: when it is nothing that `answer` made.
    """
    found, start = [], 0
    while start < len(payload):
        try:
            well, length = _PART.unpack_from(payload, start)
        except struct.error as error:
            raise Malformed(str(error)) from error
        start += _PART.size
        found.append((well, payload[start : start + length]))
        start += length
    return found


def receive(connection: socket.socket) -> Any:
    """The next request; None when the server is gone."""
    payload = received(connection)
    return None if payload is None else pickle.loads(payload)  # noqa: S301  (the server's own process wrote it)


def received(connection: socket.socket) -> bytes | None:
    """The payload of the next frame; None when the other side is gone."""
    head = _exactly(connection, _LENGTH.size)
    return None if head is None else _exactly(connection, _LENGTH.unpack(head)[0])


def split(buffer: bytearray) -> bytes | None:
    """The payload of the first frame in `buffer`, taken out of it; None while it is not whole."""
    if len(buffer) < _LENGTH.size:
        return None
    end = _LENGTH.size + _LENGTH.unpack_from(buffer)[0]
    if len(buffer) < end:
        return None
    with memoryview(buffer) as view:
        payload = bytes(view[_LENGTH.size : end])
    del buffer[:end]
    return payload


def _frame(payload: bytes) -> bytes:
    return _LENGTH.pack(len(payload)) + payload


def _exactly(connection: socket.socket, size: int) -> bytes | None:
    content = bytearray(size)
    view, have = memoryview(content), 0
    while have < size:
        if not (got := connection.recv_into(view[have:])):
            return None
        have += got
    return bytes(content)
