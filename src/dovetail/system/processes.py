"""Work done outside of this process: a command of somebody else's, and a function of ours in a process of its own."""

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import FrameType
from typing import Any, TypeVar, cast

from dovetail.errors import DovetailError
from dovetail.system import sandbox
from dovetail.system.forking import start_process

T = TypeVar("T")

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_LOOK_SECONDS = 0.02
_TICK_SECONDS = 1.0  # between two looks at what a process does that does not answer
_GRACE_SECONDS = 5  # to end on its own before it is killed


class Stopped(Exception):
    """A command was ended because nobody wants it any more."""


def run(
    command: list[str], *, folder: Path, env: Mapping[str, str], output: Path, stop: threading.Event | None = None
) -> int:
    """Run a command to its end, what it prints appended to `output`; returns its exit code.

    It ends when this process ends, together with all that it started.

    Raises:
        Stopped: `stop` was set, as another thread does for one that no interruption reaches.
    """
    process = None
    try:
        with output.open("ab") as log, deferred():  # between its start and knowing it no interruption can lose it
            process = subprocess.Popen(
                command, cwd=folder, env=dict(env), stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
                start_new_session=True,
            )  # fmt: skip
        return process.wait() if stop is None else _wait(process, stop)
    except BaseException:
        if process is not None:
            with deferred():
                _end(process)
        raise


def _wait(process: subprocess.Popen[bytes], stop: threading.Event) -> int:
    while (code := process.poll()) is None:
        if stop.wait(_LOOK_SECONDS):
            raise Stopped
    return code


@contextmanager
def started(
    command: list[str], *, folder: Path, env: Mapping[str, str], output: Path, grace: float = _GRACE_SECONDS
) -> Iterator[Callable[[], int | None]]:
    """Run a command during the block; the value says its exit code, None while it runs.

    After the block it has ended, and with it all that it started.
    """
    process = None
    try:
        with output.open("ab") as log, deferred():
            process = subprocess.Popen(
                command, cwd=folder, env=dict(env), stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
                start_new_session=True,
            )  # fmt: skip
        yield process.poll
    finally:
        if process is not None:
            with deferred():
                _end(process, grace)


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


def _end(process: subprocess.Popen[bytes], grace: float = _GRACE_SECONDS) -> None:
    """End the process and its group: asked first, then killed."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    with suppress(subprocess.TimeoutExpired):
        process.wait(grace)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


class NoAnswer(Exception):
    """The process died, or took too long; the message says which."""


class TookTooLong(NoAnswer):
    """It was still at work, or waited for something."""


@dataclass(frozen=True, slots=True)
class Worker:
    """A process that does one piece of work; what it reads, and dies of, this one does not."""

    process: BaseProcess
    answer: Connection

    def result(self, seconds: float) -> Any:
        """Wait for what the work returns, for so many seconds beside those in which it waits for a core.

        Raises:
            NoAnswer: when it returns nothing.
        """
        try:
            _await(self.answer, self.process, seconds)
            return self.answer.recv()
        except EOFError:
            self.process.join()
            raise NoAnswer(f"the process that loaded it died ({self.process.exitcode})") from None
        finally:
            self.end()

    def end(self) -> None:
        """End the process, whether it has answered or not."""
        self.process.kill()
        self.process.join()
        self.answer.close()


def _await(line: Connection, process: BaseProcess, seconds: float) -> None:
    """Wait for a message until the process has had so many seconds: of those in which others had the cores, none.

    Raises:
        TookTooLong: when none comes.
    """
    import psutil

    left, tick, before = seconds, min(seconds, _TICK_SECONDS), 0.0
    while not line.poll(tick):
        with suppress(psutil.Error):  # it has just ended: the line says so
            known = psutil.Process(process.pid)
            used = sum(known.cpu_times()[:2])
            left -= min(tick, used - before) if known.status() == psutil.STATUS_RUNNING else tick
            before = used
        if left <= 0:
            raise TookTooLong(f"no answer in {seconds:.0f} s")


def start_worker(work: Callable[[Any], Any], argument: Any, prepare: Callable[[Any], Any] | None = None) -> Worker:
    """Begin `work(argument)` behind the walls of `sandbox`; with `prepare`, `work` of what that gives before them.

    What it writes to stdout and stderr, as some models do when they predict, goes nowhere.
    Where it can be forked safely, what this process has imported is there already.
    """
    answer, theirs = multiprocessing.Pipe(duplex=False)
    process = start_process(_work, work, argument, prepare, theirs)
    theirs.close()
    return Worker(process, answer)


def _work(work: Callable[[Any], Any], argument: Any, prepare: Callable[[Any], Any] | None, answer: Connection) -> None:
    warnings.simplefilter("default")  # where warnings are errors here, that is no fault of the work's
    silence()
    ready = prepare(argument) if prepare else argument
    sandbox.enter(keep=[answer.fileno()])
    answer.send(work(ready))


class WorkServer:
    """A process behind the walls of `sandbox` that does a piece of work for each question, one after another."""

    def __init__(self, work: Callable[[Any], Any]) -> None:
        """Started with the first question; `work` is that of `start_worker`."""
        self._start = partial(_serve, work)
        self._process: BaseProcess | None = None
        self._line: Connection | None = None

    def ask(self, argument: Any, seconds: float) -> Any:
        """What the work returns.

        Raises:
            NoAnswer: when it returns nothing; the next question starts a new process.
        """
        if self._line is None or self._process is None:
            self._line, theirs = multiprocessing.Pipe()
            self._process = start_process(self._start, theirs)
            theirs.close()
        try:
            self._line.send(argument)
            _await(self._line, self._process, seconds)
            return self._line.recv()
        except (EOFError, OSError, TookTooLong) as error:
            self.close()
            raise error if isinstance(error, TookTooLong) else NoAnswer("the process died") from None

    def close(self) -> None:
        """End the process, if it was started."""
        if self._process is not None and self._line is not None:
            self._process.kill()
            self._process.join()
            self._line.close()
        self._process = self._line = None


def _serve(work: Callable[[Any], Any], line: Connection) -> None:
    warnings.simplefilter("default")
    silence()
    sandbox.enter(keep=[line.fileno()])
    with suppress(EOFError):  # nobody asks any more
        while True:
            line.send(work(line.recv()))


def silence(*descriptors: int) -> None:
    """Let what this process and its libraries write to stdout and stderr, or the descriptors given, go nowhere."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for number in descriptors or (1, 2):
        os.dup2(nowhere, number)
    if nowhere not in (0, 1, 2):  # it is one of them where that was closed
        os.close(nowhere)


def in_parallel(work: Callable[[], T], meanwhile: Callable[[], object]) -> T:
    """The result of `work`, which is read only and gives a value that can be pickled; `meanwhile` is done here.

    Called before anything heavy is imported, so that the fork is cheap. Where it is not safe, for the system or because
    threads would be lost, and where the other process died, `work` is done here.

    Raises:
        DovetailError: what `work` raised.
    """
    if sys.platform != "linux" or threading.active_count() > 1:
        return work()
    receive, send = multiprocessing.Pipe(duplex=False)
    process = multiprocessing.get_context("fork").Process(target=_hand_over, args=(send, work), daemon=True)
    process.start()
    send.close()
    meanwhile()
    try:
        given = receive.recv()
    except EOFError:  # it was killed, or failed in a way that only its own traceback explains
        return work()
    finally:
        process.join()
    if isinstance(given, DovetailError):
        raise given
    return cast("T", given)


def _hand_over(send: Connection, work: Callable[[], object]) -> None:
    with suppress(Exception, KeyboardInterrupt):
        try:
            send.send(work())
        except DovetailError as error:
            send.send(error)
