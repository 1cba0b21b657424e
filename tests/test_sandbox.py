"""The walls around a process that reads a model: what it may not do, and that it may still think."""

import json
import subprocess
import sys

import pytest

from dovetail.system.processes import start_worker
from dovetail.system.sandbox import ENDED, walls

TRIES = """
import json, os, socket, subprocess, sys, tempfile, threading
from pathlib import Path
from dovetail.system import sandbox
folder, outside = Path(sys.argv[1], "own"), Path(sys.argv[1], "outside")
folder.mkdir()
KERNEL
sandbox.enter(folder)
def ends(work):
    try:
        work()
    except OSError as error:
        return type(error).__name__
    return "done"
print(json.dumps({
    "socket": ends(socket.socket), "program": ends(lambda: subprocess.run(["true"])), "fork": ends(os.fork),
    "write": ends(lambda: outside.write_text("x")), "mode": ends(lambda: os.chmod(sys.argv[1], 0o700)),
    "remove": ends(lambda: os.rmdir(sys.argv[1])), "signal": ends(lambda: os.kill(os.getppid(), 0)),
    "read": ends(lambda: Path("/etc/hosts").read_bytes()), "thread": ends(lambda: threading.Thread(target=len, args=[""]).start()),
}))
"""
needs_kernel = pytest.mark.skipif(not all(wall.holds for wall in walls()), reason="this kernel holds no walls")


def tried(tmp_path, kernel=""):
    code = TRIES.replace("KERNEL", kernel)
    return subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, timeout=60, check=False
    )


@needs_kernel
@pytest.mark.parametrize("kernel", ["", "sandbox.landlock_version = lambda: 0"], ids=["as it is", "without Landlock"])
def test_the_kernel_refuses_sockets_programs_and_writing(tmp_path, kernel):
    said = json.loads(tried(tmp_path, kernel).stdout)
    assert {said.pop("read"), said.pop("thread")} == {"done"}
    assert set(said.values()) == {"PermissionError"}, said
    assert [file.name for file in tmp_path.iterdir()] == ["own"]


def test_without_the_kernel_a_hook_ends_the_process(tmp_path):
    done = tried(tmp_path, "sandbox._has_seccomp = lambda: False; sandbox.landlock_version = lambda: 0")
    assert (done.returncode, "a model tried socket" in done.stderr) == (ENDED, True)


def _open(_):
    try:
        import socket

        socket.socket()
    except OSError as error:
        return type(error).__name__
    return "open"


@needs_kernel
def test_a_worker_is_behind_the_walls_and_answers():
    assert start_worker(_open, None).result(60) == "PermissionError"
