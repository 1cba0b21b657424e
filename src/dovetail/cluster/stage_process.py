"""A process that runs one stage after another, with DVC imported once; started as a module, it is that process.

A stage changes the folder and the environment of its process, prints to its standard output, and may take it down: so
it has one of its own, which ends, with all that the stage has started, when the one that asked is gone.
"""

import os
import pickle
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from time import monotonic, sleep
from typing import IO, Any

from dovetail.errors import one_line
from dovetail.repo.single_stage import get_ready
from dovetail.repo.stage_task import StageRun

_GONE_SECONDS = 2


class Died(Exception):
    """The process ended before it answered."""


class StageProcess:
    """The process, as the one that asks it sees it."""

    def __init__(self) -> None:
        """Started at once: DVC is imported while the first question is thought of."""
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", __name__],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True,
        )  # fmt: skip
        self._lock = threading.Lock()
        self._resting: threading.Timer | None = None
        self._is_closed = False

    def ask(self, work: Callable[..., StageRun], *arguments: Any, env: dict[str, str], log: Path) -> StageRun:
        """What `work` answers in the other process, with the environment `env`, what is printed written to `log`.

        Raises:
            Died: when it does not answer.
        """
        assert self._process.stdin
        assert self._process.stdout
        try:
            pickle.dump((work, arguments, env, str(log)), self._process.stdin)
            self._process.stdin.flush()
            answer: StageRun = pickle.load(self._process.stdout)  # noqa: S301  (written by our own process)
        except (EOFError, OSError, pickle.UnpicklingError):
            self.close()
            raise Died(f"the process that ran it died ({self._process.returncode})") from None
        return answer

    @property
    def is_alive(self) -> bool:
        """Whether it is there."""
        return self._process.poll() is None

    def rest(self, seconds: float) -> None:
        """End it after so long, unless it is woken before."""
        timer = threading.Timer(seconds, self._end)
        timer.daemon = True
        with self._lock:
            self._resting = timer
        timer.start()

    def wake(self) -> bool:
        """Whether it can be asked; it does not end by itself then."""
        with self._lock:
            if self._resting:
                self._resting.cancel()
                self._resting = None
            return self.is_alive

    def _end(self) -> None:
        with self._lock:
            if self._resting is threading.current_thread():
                self.close()

    def kill(self) -> None:
        """End it, and what it has started, while another thread waits for its answer."""
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)

    def close(self) -> None:
        """End it, and what it has started, once: later its number may be another process's."""
        if self._is_closed:
            return
        self._is_closed = True
        self.kill()
        self._process.wait()
        end = monotonic() + _GONE_SECONDS
        with suppress(ProcessLookupError):  # what it had started writes where it ran until it is gone, too
            while monotonic() < end:
                os.killpg(self._process.pid, 0)
                sleep(0.01)
        for pipe in (self._process.stdin, self._process.stdout):
            with suppress(OSError):
                if pipe:
                    pipe.close()


def main() -> None:
    """Answer questions until nobody is left to ask one."""
    asked, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    get_ready()
    questions: list[Any] = []
    arrived = threading.Semaphore(0)
    threading.Thread(target=_listen, args=(asked, questions, arrived), daemon=True).start()
    while True:
        arrived.acquire()
        answer = _answer(*questions.pop(0))
        os.chdir(os.sep)  # the folder that it ran in may be removed
        pickle.dump(answer, answers)
        answers.flush()


def _listen(asked: IO[bytes], questions: list[Any], arrived: threading.Semaphore) -> None:
    """Pass questions on; when their pipe ends, so does this process's group, in the middle of whatever it does."""
    with suppress(EOFError, OSError):
        while True:
            questions.append(pickle.load(asked))  # noqa: S301  (as above)
            arrived.release()
    os.killpg(0, signal.SIGKILL)


def _answer(work: Callable[..., StageRun], arguments: tuple[Any, ...], env: dict[str, str], log: str) -> StageRun:
    os.environ.clear()
    os.environ.update(env)
    with Path(log).open("ab") as file:
        for number in (1, 2):
            os.dup2(file.fileno(), number)
    try:
        return work(*arguments)
    except Exception as error:  # noqa: BLE001  (whatever it is, another worker may do better)
        return StageRun(unusable=one_line(error))


if __name__ == "__main__":
    main()
