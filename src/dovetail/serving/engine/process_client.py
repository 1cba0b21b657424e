"""The server's side of a process of its own: start it, ask it, learn that it ended."""

import asyncio
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from typing import Protocol, Self

from dovetail.serving.engine import frames
from dovetail.serving.settings import SECRETS

_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


class Process(Protocol):
    """A process, whoever started it."""

    returncode: int | None

    def kill(self) -> None:
        """End it at once."""

    def wait(self) -> int:
        """Let it be gone."""


class ProcessLost(Exception):
    """A process ended, or gave an invalid answer."""


class ProcessClient(asyncio.Protocol):
    """Of one process; it answers one request at a time."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._then: Callable[[list[frames.Part] | None], None] | None = None
        self._transport: asyncio.WriteTransport | None = None
        self._process: Process | None = None
        self.on_lost: Callable[[], None] | None = None
        self.lost = False

    @classmethod
    async def start(cls, module: str, *arguments: str) -> Self:
        """A new process that runs `module`, whose first argument is the connection.

        Raises:
            ProcessLost: when the machine has no room for one.
        """
        return await cls.start_by(lambda theirs: spawn(theirs, module, arguments))

    @classmethod
    async def start_by(cls, begin: Callable[[socket.socket], Process]) -> Self:
        """A new process, which `begin` starts with its side of the connection.

        Raises:
            ProcessLost: when the machine has no room for one.
        """
        try:
            ours, theirs = socket.socketpair()
            with theirs:
                process = begin(theirs)
            ours.setblocking(False)  # noqa: FBT003  (socket's signature)
            _, client = await asyncio.get_running_loop().create_connection(cls, sock=ours)
        except OSError as error:
            raise ProcessLost(f"a process cannot be started: {error}") from error
        client._process = process  # noqa: SLF001  (its own)
        return client

    @property
    def exit_code(self) -> int | None:
        """Of the process; the negative number of the signal that ended it, None while it lives."""
        return self._process.returncode if self._process else None

    def ask(self, frame: bytes, then: Callable[[list[frames.Part] | None], None]) -> None:
        """Send a frame; `then` gets the answer, or None when the process is lost."""
        self._then = then
        if self._transport is None or self.lost:
            self._answered(None)
        else:
            self._transport.write(frame)

    async def answer(self, frame: bytes) -> list[frames.Part] | None:
        """The answer to a frame; None when the process is lost."""
        done: asyncio.Future[list[frames.Part] | None] = asyncio.get_running_loop().create_future()
        self.ask(frame, lambda parts: None if done.done() else done.set_result(parts))
        return await done

    def close(self) -> None:
        """Let the process end."""
        self.on_lost = None
        self.lost = True
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


def spawn(connection: socket.socket, module: str, arguments: tuple[str, ...] = ()) -> "subprocess.Popen[bytes]":
    """Start a process that runs `module`, whose first argument is its end of the connection."""
    return subprocess.Popen(
        # -P: nothing in the current folder is a library.
        [sys.executable, "-P", "-m", module, str(connection.fileno()), *arguments],
        pass_fds=[connection.fileno()], stdin=subprocess.DEVNULL, start_new_session=True,
        env=dict.fromkeys(_THREADS, "1") | {k: v for k, v in os.environ.items() if k not in SECRETS},
    )  # fmt: skip


def _end(process: Process | None) -> None:
    if process:
        process.kill()
        process.wait()
