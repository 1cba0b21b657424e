"""What is sent to a Dask worker, which need not know this project: it keeps a process that does, and asks it.

The functions travel by value, so that they use nothing of `stages`.
"""

import os
import subprocess
import sys
import threading
from dataclasses import dataclass
from typing import Any

_HELD = "range_processes"  # at Dask's worker object
_SIZE = 8  # bytes that say how long a message is


@dataclass(frozen=True)
class Run:
    """Who asks.

    Attributes:
        name: another one each time.
        command: the script that answers, and what it is started with.
        folder: the repository's.
        shared: a folder that who works must see.
        env: variables for the process.
    """

    name: str
    command: tuple[str, ...]
    folder: str
    shared: str
    env: dict[str, str]


def ask(run: Run, question: bytes) -> bytes:
    """The answer of the process that this thread of the worker keeps for the run; it is started anew where it died.

    Raises:
        RuntimeError: the worker does not see the run's folder, or the process died.
    """
    from distributed import get_worker

    worker = get_worker()
    if not os.path.isdir(run.shared):  # noqa: PTH112  (no import that each call would carry)
        raise RuntimeError(f"worker {worker.address} does not see {run.shared}: its machine has to share the folder")
    held: dict[tuple[str, int], Any] = worker.__dict__.setdefault(_HELD, {})
    key = (run.name, threading.get_ident())
    process = held.get(key)
    if process is None or process.poll() is not None:
        threads = str(max(1, (os.cpu_count() or 1) // worker.state.nthreads))
        env = {"POLARS_MAX_THREADS": threads, **os.environ, **run.env}
        process = held[key] = subprocess.Popen(
            [sys.executable, *run.command], cwd=run.folder, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
    assert process.stdin and process.stdout  # noqa: PT018
    try:
        process.stdin.write(len(question).to_bytes(_SIZE, "big") + question)
        process.stdin.flush()
        size = int.from_bytes(process.stdout.read(_SIZE), "big")
        answer: bytes = process.stdout.read(size)
    except OSError:
        size, answer = 0, b""
    if not size or len(answer) < size:
        process.kill()
        code = process.wait()
        raise RuntimeError(f"a process of worker {worker.address} died ({code}), perhaps for want of memory")
    return answer


def end(run: Run, dask_worker: Any = None) -> None:
    """End the worker's processes for the run."""
    held = dask_worker.__dict__.get(_HELD, {})
    for key in [key for key in held if key[0] == run.name]:
        process = held.pop(key)
        process.kill()
        process.wait()
