"""The server's side of the fork server: ask it for a process, and to end one."""

import os
import socket
import sys
from contextlib import suppress

from dovetail.serving.engine.fork_server import END, FORK, message
from dovetail.serving.engine.process_client import Process, spawn

CAN_FORK = sys.platform.startswith("linux")  # on macOS system libraries do not outlive a fork

_MODULE = "dovetail.serving.engine.fork_server"


class ForkClient:
    """Of one fork server, started when it is needed and again when it was lost; its processes end with it."""

    def __init__(self) -> None:
        self._server: Process | None = None
        self._control: socket.socket | None = None
        self._number = 0

    def fork(self, connection: socket.socket) -> Process:
        """A process that answers on the connection.

        Raises:
            OSError: when the machine has no room for one.
        """
        self._number += 1
        asked = message(FORK, self._number)
        control = self._control or self._start()
        try:
            socket.send_fds(control, [asked], [connection.fileno()])
        except (BrokenPipeError, ConnectionResetError):
            self.close()
            control = self._start()
            socket.send_fds(control, [asked], [connection.fileno()])
        return _Forked(self._number, control)

    def close(self) -> None:
        """End the fork server, and its processes with it."""
        if self._control:
            self._control.close()
        if self._server:
            self._server.kill()
            self._server.wait()
        self._control = self._server = None

    def _start(self) -> socket.socket:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)  # noqa: FBT003  (socket's signature)
        with theirs:
            try:
                self._server = spawn(theirs, _MODULE, (str(os.getpid()),))
            except OSError:
                ours.close()
                raise
        self._control = ours
        return ours


class _Forked:
    """A process that the fork server started."""

    returncode: int | None = None

    def __init__(self, number: int, control: socket.socket) -> None:
        self._number = number
        self._control = control

    def kill(self) -> None:
        """Let the fork server end it: only its parent knows that the process id is still of that process."""
        with suppress(OSError):  # the fork server is gone, and it with it
            self._control.send(message(END, self._number))

    def wait(self) -> int:
        """The fork server waits for it."""
        return 0
