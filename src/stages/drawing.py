"""The pictures, drawn by a second process, which imports matplotlib while this one imports scikit-learn."""

import multiprocessing
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection
from pathlib import Path

from stages.outcome import Findings

Draw = Callable[[Path, Findings], None]


@contextmanager
def drawing() -> Iterator[Draw]:
    """Give what draws into a folder; entered before heavy imports.

    Where a system cannot fork safely, or the other process died, the pictures are drawn here.
    """
    if sys.platform != "linux" or "sklearn" in sys.modules:
        yield _draw
        return
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("fork").Process(target=_wait_and_draw, args=(ours, theirs), daemon=True)
    process.start()
    theirs.close()

    def draw(folder: Path, found: Findings) -> None:
        try:
            ours.send((folder, found))
            ours.recv()
        except (EOFError, BrokenPipeError):
            _draw(folder, found)

    try:
        yield draw
    finally:
        ours.close()
        process.join()


def _draw(folder: Path, found: Findings) -> None:
    from stages import plots

    plots.draw(folder, found)


def _wait_and_draw(parent: Connection, pipe: Connection) -> None:
    parent.close()  # ours is a copy: the pipe has to end when the parent does
    with suppress(Exception, KeyboardInterrupt):  # then the parent draws, and says what is wrong
        from stages import plots

        while True:
            plots.draw(*pipe.recv())
            pipe.send("drawn")
