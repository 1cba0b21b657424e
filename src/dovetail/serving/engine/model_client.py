"""The server's side of the process that holds a model: start it, ask it, learn that it ended."""

import asyncio
import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from typing import Any

from dovetail.serving.engine import frames
from dovetail.serving.engine.kept_copies import VersionCopy
from dovetail.serving.settings import ENV_TOKENS

_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


class ModelProcessLost(Exception):
    """The model's process ended, or answers nothing that makes sense."""


class ModelClient(asyncio.Protocol):
    """Of one process; it answers one request at a time."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._then: Callable[[list[frames.Part] | None], None] | None = None
        self._transport: asyncio.WriteTransport | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self.on_lost: Callable[[], None] | None = None
        self.lost = False

    @classmethod
    async def start(cls) -> "ModelClient":
        """A new process, empty.

        Raises:
            ModelProcessLost: when the machine has no room for one.
        """
        try:
            ours, theirs = socket.socketpair()
            with theirs:
                process = _spawn(theirs)
            ours.setblocking(False)  # noqa: FBT003  (socket's signature)
            _, client = await asyncio.get_running_loop().create_connection(cls, sock=ours)
        except OSError as error:
            raise ModelProcessLost(f"a process cannot be started: {error}") from error
        client._process = process  # noqa: SLF001  (its own)
        return client

    @property
    def pid(self) -> int | None:
        """Of the process."""
        return self._process.pid if self._process else None

    def ask(self, frame: bytes, then: Callable[[list[frames.Part] | None], None]) -> None:
        """Send a frame; `then` gets the answer, or None when the process is lost."""
        self._then = then
        if self._transport is None or self.lost:
            self._answered(None)
        else:
            self._transport.write(frame)

    async def load(self, copy: VersionCopy) -> dict[str, Any]:
        """Let the process read a model; what it takes and gives.

        Raises:
            ValueError: with the reason, when it cannot.
            ModelProcessLost: when reading it ended the process.
        """
        done: asyncio.Future[list[frames.Part] | None] = asyncio.get_running_loop().create_future()
        self.ask(
            frames.request(("load", copy.folder, copy.md5, copy.allow, copy.onnx)),
            lambda p: None if done.done() else done.set_result(p),
        )
        parts = await done
        if parts is None:
            raise ModelProcessLost("the process that loaded it died")
        ((well, content),) = parts
        said: dict[str, Any] = json.loads(content)
        if not well:
            raise ValueError(said["message"])
        return said

    def close(self) -> None:
        """Let the process end."""
        self.on_lost = None
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


def _spawn(connection: socket.socket) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        # -P: what lies in the current folder is no library.
        [sys.executable, "-P", "-m", "dovetail.serving.engine.model_process", str(connection.fileno())],
        pass_fds=[connection.fileno()], stdin=subprocess.DEVNULL, start_new_session=True,
        env=dict.fromkeys(_THREADS, "1") | {k: v for k, v in os.environ.items() if k != ENV_TOKENS},
    )  # fmt: skip


def _end(process: subprocess.Popen[bytes] | None) -> None:
    if process:
        process.kill()
        process.wait()
