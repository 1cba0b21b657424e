"""Work in another process is waited for as long as it is at work itself, however busy the machine is."""

import os
import subprocess
import sys
import time

import pytest

from dovetail.promotion.trial import p99_ms
from dovetail.system import forking
from dovetail.system.processes import TookTooLong, WorkServer, start_worker

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="no system else counts how long a process had no core")


def _work(seconds):
    """Compute for so many seconds of a core."""
    while time.process_time() < seconds:
        pass
    return "done"


def _starved(seconds):
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    os.nice(19)
    return _work(time.process_time() + seconds)


@pytest.fixture
def busy():
    """Somebody else needs the core that a starved process has."""
    core = min(os.sched_getaffinity(0))
    code = f"import os\nos.sched_setaffinity(0, {{{core}}})\nwhile True: pass"
    other = subprocess.Popen([sys.executable, "-S", "-c", code])
    try:
        yield
    finally:
        other.kill()
        other.wait()


@pytest.mark.slow
@pytest.mark.usefixtures("busy")
def test_the_time_in_which_others_have_the_core_does_not_count(monkeypatch):
    monkeypatch.setattr(forking, "_may_have_openmp_threads", lambda: False)  # to start anew takes longer than the work
    began = time.monotonic()
    assert start_worker(_starved, 0.01).result(0.5) == "done"
    server = WorkServer(_starved)
    try:
        assert server.ask(0.01, 0.5) == "done"
    finally:
        server.close()
    if time.monotonic() - began < 1:
        pytest.skip("nobody had to wait for a core")


class Slow:
    """A model that takes some milliseconds of a core for a row."""

    def predict(self, _row):
        _work(time.process_time() + 0.004)


def _timed(_):
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    os.nice(8)
    began = time.monotonic()
    return p99_ms(Slow(), None), (time.monotonic() - began) * 1000 / 105


@pytest.mark.slow
@pytest.mark.usefixtures("busy")
def test_what_a_row_takes_is_told_without_the_time_in_which_others_have_the_core():
    slowest, mean = start_worker(_timed, None).result(300)
    if mean < 8:
        pytest.skip("nobody had to wait for a core")
    assert slowest < mean


@pytest.mark.parametrize("work", [_work, time.sleep])
def test_what_computes_or_waits_for_too_long_is_ended(work):
    with pytest.raises(TookTooLong, match="no answer in 0 s"):
        start_worker(work, 60).result(0.3)
