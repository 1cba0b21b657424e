"""The listening socket of a server, passed to the one that replaces it: nobody is refused meanwhile.

Each server waits at a Unix socket, named after address and port, in a folder that only its user can enter. Who connects
there gets the listening socket (SCM_RIGHTS). Both hold one queue of connections then, which outlives either of them:
the running server accepts until the new one says that it answers.
"""

import asyncio
import json
import logging
import os
import socket
import stat
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from dovetail.errors import OutsideError, one_line

ENV_RUNTIME = "XDG_RUNTIME_DIR"  # https://specifications.freedesktop.org/basedir-spec/latest/
_READY, _STOPPED = b"ready", b"stopped"  # what the new server says, and what the old one answers
_SECONDS = 5.0  # for an answer of the other server
_MOST_BYTES = 4096
_log = logging.getLogger(__name__)


class Predecessor:
    """The server that this one replaces.

    Attributes:
        listening: Its socket, which this process holds as well.
    """

    def __init__(self, connection: socket.socket, listening: socket.socket) -> None:
        self._connection = connection
        self.listening = listening

    async def end(self) -> None:
        """Let it take no more connections; it finishes what it has begun. One that was killed needs no word."""
        loop = asyncio.get_running_loop()
        self._connection.settimeout(0)
        with self._connection, suppress(OSError, TimeoutError):
            async with asyncio.timeout(_SECONDS):
                await loop.sock_sendall(self._connection, _READY)
                await loop.sock_recv(self._connection, len(_STOPPED))

    def keep(self) -> None:
        """Let it go on: this server does not replace it."""
        self._connection.close()


def predecessor(host: str, port: int) -> Predecessor | None:
    """The server of this user that listens there and hands its socket over; None where nobody waits to do so.

    Raises:
        OutsideError: when it refuses, does not answer, or something else is where it should wait.
    """
    where = f"{host}:{port}"
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.settimeout(_SECONDS)
        connection.connect(str(_folder() / _name(host, port)))
        said, descriptors, _, _ = socket.recv_fds(connection, _MOST_BYTES, 1)
        answer: dict[str, Any] = json.loads(said or b'{"refused": "it is about to end"}')
    except (FileNotFoundError, ConnectionRefusedError):  # what is there was left by a server that was killed
        connection.close()
        return None
    except (OSError, ValueError) as error:
        connection.close()
        what = f"the server at {where} does not hand its socket over: {one_line(error)}"
        raise OutsideError(what, "run the same command again, or end that server first") from error
    listening = [socket.socket(fileno=each) for each in descriptors]
    for each in listening:
        each.set_inheritable(False)
    if len(listening) == 1 and listening[0].getsockname()[:2] == (host, port):
        return Predecessor(connection, listening[0])
    for each in (*listening, connection):
        each.close()
    why = answer.get("refused", "what it gave is another socket")
    raise OutsideError(
        f"the server at {where} does not hand its socket over: {why}", "run the same command again later"
    )


class Handover:
    """Waits for a server that replaces this one, and gives it the listening socket; one at a time.

    Attributes:
        done: Whether another server has said that it answers.
    """

    def __init__(self, listening: socket.socket, replaced: Callable[[int | None], None]) -> None:
        """Nothing waits yet; `replaced` is called with the other's process id, where it is known."""
        self._listening = listening
        self._replaced = replaced
        self._socket: socket.socket | None = None
        self._file: tuple[Path, int] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._taking = False
        self.done = False

    def open(self) -> None:
        """Wait from now on; a server that cannot, as on a disk that is read-only, says so and serves all the same."""
        try:
            path = _folder() / _name(*self._listening.getsockname()[:2])
            temporary = path.with_name(f".{os.getpid()}")  # short: such a path has a hundred bytes at most
            temporary.unlink(missing_ok=True)
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            self._socket.settimeout(0)
            self._socket.bind(str(temporary))
            self._socket.listen()
            temporary.replace(path)  # the one of the server before, which no longer listens
            self._file = path, path.lstat().st_ino
        except OSError as error:
            _log.warning("no other server can take over from this one: %s", one_line(error))
            return
        self._begin(self._accept(self._socket))

    async def close(self) -> None:
        """Wait no more."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._socket:
            self._socket.close()
        if self._file and not self.done:
            path, inode = self._file
            with suppress(OSError):
                if path.lstat().st_ino == inode:
                    path.unlink()

    def _begin(self, work: Any) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _accept(self, waiting: socket.socket) -> None:
        while True:
            connection, _ = await asyncio.get_running_loop().sock_accept(waiting)
            self._begin(self._hand_over(connection))

    async def _hand_over(self, connection: socket.socket) -> None:
        connection.settimeout(0)
        with connection, suppress(OSError):
            if self._taking or self.done:
                connection.send(json.dumps({"refused": "another server is about to take over"}).encode())
                return
            self._taking = True
            try:
                said = json.dumps({"process": os.getpid()}).encode()
                socket.send_fds(connection, [said], [self._listening.fileno()])
                answer = await asyncio.get_running_loop().sock_recv(connection, len(_READY))
            finally:
                self._taking = False
            if answer == _READY:  # else it has ended, and this one goes on
                self.done = True
                self._replaced(_process_of(connection))
                connection.send(_STOPPED)


def _process_of(connection: socket.socket) -> int | None:
    if not hasattr(socket, "SO_PEERCRED"):  # macOS
        return None
    return int.from_bytes(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)[:4], "little")


def _name(host: str, port: int) -> str:
    return f"{host}-{port}.sock"


def _folder() -> Path:
    """Where this user's servers wait.

    Raises:
        OSError: when it cannot be made, or others can enter it.
    """
    runtime = Path(os.environ.get(ENV_RUNTIME, ""))
    folder = Path(tempfile.gettempdir()) / f"dovetail-{os.getuid()}"
    if runtime.is_absolute():
        folder = runtime / "dovetail"
    folder.mkdir(mode=0o700, exist_ok=True)
    about = folder.lstat()
    if not stat.S_ISDIR(about.st_mode) or about.st_uid != os.getuid() or about.st_mode & 0o077:
        raise PermissionError(f"{folder} is not a folder that this user alone can enter")
    return folder
