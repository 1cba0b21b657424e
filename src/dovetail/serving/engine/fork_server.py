"""The process that imports once what every model needs, and is forked for each process that holds one.

So they share the libraries' memory. It reads no model itself: behind the walls, where models are read, nothing forks.
"""

import ctypes
import gc
import os
import select
import signal
import socket
import struct
import sys
from contextlib import suppress

FORK, END = b"F", b"E"
_MESSAGE = struct.Struct("!cI")
_REAP_SECONDS = 1.0
_PARENT_DEATH_SIGNAL = 1  # of prctl(2)
_NAME = "dovetail-worker"


def message(what: bytes, number: int) -> bytes:
    """What the server sends: to fork process `number`, the connection with it, or to end it."""
    return _MESSAGE.pack(what, number)


def main() -> None:
    """Fork what the server asks for, until it closes the connection."""
    from dovetail.serving.engine import model_process

    control = socket.socket(fileno=int(sys.argv[1]))
    _end_with_parent(int(sys.argv[2]))
    model_process.import_libraries()
    gc.collect()
    gc.freeze()  # a later collection would write to, and so copy, what is shared
    children: dict[int, int] = {}  # process ids by the server's number
    while True:
        ready, _, _ = select.select([control], [], [], _REAP_SECONDS)
        _reap(children)
        if not ready:
            continue
        said, opened, _, _ = socket.recv_fds(control, _MESSAGE.size, 1)
        if not said:
            return
        what, number = _MESSAGE.unpack(said)
        if what == END:
            if number in children:  # not reaped, so that the process id is its own
                os.kill(children[number], signal.SIGKILL)
            continue
        with socket.socket(fileno=opened[0]) as connection, suppress(OSError):  # no room: the server sees it closed
            me = os.getpid()
            if pid := os.fork():
                children[number] = pid
                continue
            control.close()
            _work(connection, me)


def _work(connection: socket.socket, parent: int) -> None:
    """Be the process that holds a model; never returns."""
    from dovetail.serving.engine import model_process

    code = 1
    try:
        _end_with_parent(parent)
        os.setsid()  # Linux shares cores out by session: a worker gets what a server's only process would
        with suppress(OSError), open("/proc/self/comm", "w", encoding="ascii") as name:  # noqa: PTH123  (a kernel's file)
            name.write(_NAME)
        import numpy as np

        np.random.seed()  # noqa: NPY002  (the global one, which a model may draw from: each process its own numbers)
        model_process.answer_questions(connection)
        code = 0
    finally:
        os._exit(code)


def _reap(children: dict[int, int]) -> None:
    for number, pid in list(children.items()):
        if os.waitpid(pid, os.WNOHANG)[0]:
            del children[number]


def _end_with_parent(parent: int) -> None:
    """Let the kernel end this process when its parent ends, however that happens."""
    ctypes.CDLL(None).prctl(_PARENT_DEATH_SIGNAL, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)


if __name__ == "__main__":
    main()
