"""Work done in a process of its own: what it reads, and dies of, this one does not."""

import multiprocessing
import sys
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any


class NoAnswer(Exception):
    """The process died, or took too long; the message says which."""


@dataclass(frozen=True, slots=True)
class Running:
    """Work under way."""

    process: BaseProcess
    answer: Connection

    def result(self, seconds: float) -> Any:
        """Wait for what the work returns.

        Raises:
            NoAnswer: when it returns nothing.
        """
        try:
            if not self.answer.poll(seconds):
                raise NoAnswer(f"no answer in {seconds:.0f} s")
            return self.answer.recv()
        except EOFError:
            self.process.join()
            raise NoAnswer(f"the process that loaded it died ({self.process.exitcode})") from None
        finally:
            self.process.kill()
            self.process.join()
            self.answer.close()


def start(work: Callable[[Any], Any], argument: Any) -> Running:
    """Begin `work(argument)`. Where a system forks safely, what this process has imported is there already."""
    answer, theirs = multiprocessing.Pipe(duplex=False)
    context: Any = multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")
    process = context.Process(target=_run, args=(work, argument, theirs), daemon=True)
    process.start()
    theirs.close()
    return Running(process, answer)


def _run(work: Callable[[Any], Any], argument: Any, answer: Connection) -> None:
    answer.send(work(argument))
