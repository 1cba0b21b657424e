"""Run a command of somebody else's so that it ends when we end, together with all that it started."""

import os
import signal
import subprocess
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_GRACE_SECONDS = 5  # to end on its own before it is killed


def run(command: list[str], *, folder: Path, env: Mapping[str, str], output: Path) -> int:
    """Run a command to its end, what it prints appended to `output`; returns its exit code."""
    process = None
    try:
        with output.open("ab") as log, deferred():  # between its start and knowing it no interruption can lose it
            process = subprocess.Popen(
                command, cwd=folder, env=dict(env), stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
                start_new_session=True,
            )  # fmt: skip
        return process.wait()
    except BaseException:
        if process is not None:
            with deferred():
                _end(process)
        raise


@contextmanager
def interruptible() -> Iterator[None]:
    """In the block `kill` and a closed terminal are what Ctrl-C is: KeyboardInterrupt, so that `finally` is reached."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    with _handling(interrupt):
        yield


@contextmanager
def deferred() -> Iterator[None]:
    """An interruption that comes during the block is delivered after it, once."""
    arrived: list[int] = []
    with _handling(lambda number, _: arrived.append(number)):
        yield
    if arrived:
        signal.raise_signal(arrived[0])


@contextmanager
def _handling(handler: Any) -> Iterator[None]:
    """The signals that ask to end go to `handler` during the block; only the main thread can arrange that."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, handler) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, previous in before.items():
            signal.signal(number, previous)


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the process and its group: asked first, then killed."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    with suppress(subprocess.TimeoutExpired):
        process.wait(_GRACE_SECONDS)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
