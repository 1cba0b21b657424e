"""The process that reads large and foreign bodies, within bounds: what one costs, it costs here.

It may use so much memory and processor time for a body; one that needs more ends the process, and is refused.
"""

import gc
import importlib
import json
import os
import pickle
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from dovetail.serving.engine import frames
from dovetail.serving.protocol import open_inference
from dovetail.serving.protocol.body import CSV, JSON, PARQUET, mime_of, read
from dovetail.serving.protocol.feedback import read_feedback
from dovetail.serving.protocol.refused import Refused
from dovetail.serving.protocol.signature import Signature

SECONDS = 2.0  # of processor time for a body, by default
_LIBRARIES = {JSON: ("orjson",), CSV: ("pandas",), PARQUET: ("pyarrow.parquet", "pyarrow.compute")}


@dataclass(frozen=True, slots=True)
class _Bounds:
    """What a body may cost: `memory` in bytes, `seconds` of processor time."""

    memory: int
    seconds: float


def main() -> None:
    """Read what the server sends until it closes the connection."""
    for number in (signal.SIGINT, signal.SIGTERM):  # the server ends first
        signal.signal(number, signal.SIG_IGN)
    connection = socket.socket(fileno=int(sys.argv[1]))
    bounds = _Bounds(int(sys.argv[2]), float(sys.argv[3]))
    os.environ["ARROW_DEFAULT_MEMORY_POOL"] = "system"  # others reserve more than they are asked for
    gc.disable()  # a body is freed when it is answered; to look through a million values for cycles takes longer
    with suppress(BrokenPipeError, ConnectionResetError):
        while (asked := frames.receive(connection)) is not None:
            connection.sendall(frames.answer([_answer(bounds, asked)]))


def _answer(bounds: _Bounds, asked: tuple[bytes, str | None, Signature | None, int]) -> frames.Part:
    try:
        with _within(bounds, JSON if asked[1] in (None, open_inference.TYPE) else mime_of(asked[1])):
            return True, pickle.dumps(_read(*asked), protocol=5)
    except Refused as refused:
        return False, json.dumps([refused.status, refused.message, refused.about]).encode()
    except MemoryError:
        return False, json.dumps([413, TOO_MUCH_MEMORY, {}]).encode()


def _read(body: bytes, content_type: str | None, signature: Signature | None, rows: int) -> tuple[Any, ...]:
    """What a body says: for a request (columns, rows, method, id), for feedback (request id, labels)."""
    if content_type is None or signature is None:
        return read_feedback(body, rows)
    if content_type == open_inference.TYPE:
        request = open_inference.read_infer(body, signature, rows)
    else:
        request = read(body, content_type, signature, rows)
    return request.columns, request.rows, request.method, request.id


@contextmanager
def _within(bounds: _Bounds, kind: str) -> Iterator[None]:
    """In the block no more may be used; what a kind of body needs to be imported does not count."""
    for library in _LIBRARIES[kind]:
        importlib.import_module(library)
    _limit(bounds.memory)
    signal.setitimer(signal.ITIMER_PROF, bounds.seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        _limit(None)


TOO_MUCH_MEMORY = "the body unpacks to more memory than one request may have; send it in parts"


def _limit(memory: int | None) -> None:
    """Let this process take so many bytes more than it has; None: as many as there are."""
    try:
        import resource
    except ImportError:  # Windows has none
        return
    if not sys.platform.startswith("linux"):  # elsewhere the limit does not count what is mapped
        return
    hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
    soft = hard
    if memory is not None:
        with open("/proc/self/statm", encoding="ascii") as file:  # noqa: PTH123  (a third of the time)
            pages = int(file.read().split()[5])
        soft = pages * resource.getpagesize() + memory
    resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


if __name__ == "__main__":
    main()
