"""Stands on PATH for `dovetail`, `dvc` and others in tests: has the fork server run it, and is it for the caller.

`tests/commands.py` lays it, under each command's name, beside the servers' sockets and a link to the true script. Only
what costs nothing is imported, for this starts with each command.
"""

import _socket
import array
import marshal
import os
import signal
import sys

FOLDER = os.path.dirname(os.path.abspath(sys.argv[0]))  # noqa: PTH100, PTH120  (pathlib takes longer than all of this)
SERVER = "commands"
SCRIPT = os.readlink(f"{sys.argv[0]}.script")  # noqa: PTH115
ARGUMENTS = sys.argv[1:]
if SCRIPT.endswith("/python"):  # a script of a small project; all else that Python can be asked, it is asked itself
    if ARGUMENTS[:1] == ["src/stages"]:
        SERVER = "stages"
    elif not ARGUMENTS or not ARGUMENTS[0].endswith(".py"):
        os.execv(SCRIPT, [SCRIPT, *ARGUMENTS])
    else:
        try:
            with open(ARGUMENTS[0], "rb") as script:  # noqa: PTH123
                tracks = b"mlflow" in script.read()
        except OSError:
            tracks = True
        if tracks:  # importing MLflow is a moment that counts: the plugin says then where its store is
            os.execv(SCRIPT, [SCRIPT, *ARGUMENTS])
    SCRIPT = ARGUMENTS.pop(0)

FORWARDED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2)
waiting = []  # signals that came before there was a process to send them to
process = 0


def forward(number, _):
    if process:
        try:  # noqa: SIM105  (contextlib is one import more)
            os.kill(process, number)
        except ProcessLookupError:
            pass
    else:
        waiting.append(number)


def answer():
    """A number that the server sends: the process id, later the exit code or the signal, negative."""
    content = b""
    while len(content) < 16:
        part = connection.recv(16 - len(content))
        if not part:
            sys.exit(f"the fork server of the tests is gone: {FOLDER}/{SERVER}.log")
        content += part
    return marshal.loads(content)


def end(number):
    """Die by a signal, as the command did."""
    if number in FORWARDED:
        signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)


ignored = [number for number in FORWARDED if signal.getsignal(number) == signal.SIG_IGN]
for number in FORWARDED:
    if number not in ignored:
        signal.signal(number, forward)
umask = os.umask(0)
os.umask(umask)
request = marshal.dumps(
    {
        "script": SCRIPT,
        "arguments": ARGUMENTS,
        "environment": dict(os.environ),
        "umask": umask,
        "ignored": [int(number) for number in ignored],
        "group": os.getpgrp(),
        "session": os.getsid(0),
    }
)
files = array.array("i", [0, 1, 2, os.open(".", os.O_RDONLY)])
connection = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
connection.connect(f"{FOLDER}/{SERVER}.socket")
connection.sendmsg([len(request).to_bytes(4, "big")], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, files)])
connection.sendall(request)
process = answer()
if not process:  # its environment asks for a process of its own
    for number in waiting:
        end(number)
    os.execv(sys.executable, [sys.executable, SCRIPT, *ARGUMENTS])
for number in waiting:
    forward(number, None)
code = answer()
if code < 0:
    end(-code)
os._exit(code)
