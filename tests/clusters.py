"""Dask clusters for tests: real schedulers and workers, on the loopback."""

import os
import signal
import subprocess
import time
from contextlib import contextmanager, suppress

from project import free_port


def wait_for(condition, seconds=120):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.02)


@contextmanager
def cluster(folder, *wrapped, nanny="--no-nanny"):
    """A Dask scheduler and workers of one thread, each started by a command line in place of `wrapped`'s `{}`."""
    port, folder = free_port(), folder / "cluster"
    (folder / "logs").mkdir(parents=True)
    address = f"tcp://127.0.0.1:{port}"
    lines = [f"dask scheduler --host 127.0.0.1 --port {port} --no-dashboard"]
    lines += [form.format(f"exec dask worker {address} --nthreads 1 --no-dashboard {nanny}") for form in wrapped]
    started = []
    try:
        for number, line in enumerate(lines):
            place = folder / str(number)
            place.mkdir()
            with (folder / "logs" / str(number)).open("w") as log:
                started.append(
                    subprocess.Popen(["sh", "-c", line], cwd=place, stdout=log, stderr=log, start_new_session=True)
                )
        wait_for(lambda: all("Registered to" in (folder / "logs" / str(n)).read_text() for n in range(1, len(lines))))
        yield address, started[1:]
    finally:
        for process in started:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
