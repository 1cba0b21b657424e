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
MODULES = {  # what is asked for as `python -P -m MODULE`, and by whom it is run
    "dovetail.cluster.stage_process": "commands",
    "dovetail.serving.engine.alias_watch": "commands",
    "dovetail.serving.engine.model_process": "engines",
    "dvc": "commands",
}
MODULE = ARGUMENTS[:2] == ["-P", "-m"] and ARGUMENTS[2] in MODULES
TRACKS = False  # importing MLflow is a moment that counts: the plugin says then where its store is
if SCRIPT.endswith("/python"):  # a script of a small project; all else that Python can be asked, it is asked itself
    if ARGUMENTS and ARGUMENTS[0].endswith("src/stages"):
        SERVER = "stages"
    elif MODULE:
        del ARGUMENTS[:2]
        SERVER = MODULES[ARGUMENTS[0]]
    elif not ARGUMENTS or not ARGUMENTS[0].endswith(".py"):
        os.execv(SCRIPT, [SCRIPT, *ARGUMENTS])
    else:
        try:
            with open(ARGUMENTS[0], "rb") as script:  # noqa: PTH123
                TRACKS = b"mlflow" in script.read()
        except OSError:
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


def inherited(number):
    """Whether a file was open when this process began: Python opens none that way. The listing's own is closed."""
    try:
        return os.get_inheritable(number)
    except OSError:
        return False


ignored = [number for number in FORWARDED if signal.getsignal(number) == signal.SIG_IGN]
for number in FORWARDED:
    if number not in ignored:
        signal.signal(number, forward)
given = [int(name) for name in os.listdir("/proc/self/fd")]  # noqa: PTH208
given = [number for number in given if number > 2 and inherited(number)]
umask = os.umask(0)
os.umask(umask)
request = marshal.dumps(
    {
        "script": SCRIPT,
        "module": MODULE,
        "imports_mlflow": TRACKS,
        "arguments": ARGUMENTS,
        "environment": dict(os.environ),
        "shims": FOLDER,
        "caller": os.getppid(),
        "umask": umask,
        "ignored": [int(number) for number in ignored],
        "group": os.getpgrp(),
        "session": os.getsid(0),
        "given": given,
    }
)
files = array.array("i", [os.open(".", os.O_RDONLY), 0, 1, 2, *given])
connection = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
connection.connect(f"{FOLDER}/{SERVER}.socket")
connection.sendmsg([len(request).to_bytes(4, "big")], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, files)])
connection.sendall(request)
process = answer()
if not process:  # its environment asks for a process of its own
    for number in waiting:
        end(number)
    os.execv(sys.executable, [sys.executable, *(("-P", "-m") if MODULE else ()), SCRIPT, *ARGUMENTS])
for number in given:  # whoever is at the other end is to learn when the command ends
    os.close(number)
for number in waiting:
    forward(number, None)
code = answer()
if code < 0:
    end(-code)
os._exit(code)
