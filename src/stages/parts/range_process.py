"""A process beside a Dask worker: `python range_process.py MODULE PACKAGES` answers questions on its standard input.

It runs the code of the tree that it stands in. It ends with the worker, or when it has not been asked for a while.
"""

import importlib
import os
import pickle
import select
import sys
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import IO, Any

_SIZE = 8  # bytes that say how long a message is
_IDLE_SECONDS = 60  # of a run that is over, or was killed
_DECIDING = ("polars", "pyarrow", "pandas", "numpy", "pandera", "narwhals")  # what bytes go by
_FITTING = ("scikit-learn", "scipy", "skrub", "lightgbm", "xgboost", "catboost")  # what scores go by


def deciding(module: str) -> tuple[str, ...]:
    """The packages by which goes what the module's functions make."""
    return (*_DECIDING, *_FITTING) if module.startswith("stages.training.") else _DECIDING


def packages(names: Iterable[str]) -> str:
    """What is installed here of the packages."""
    found = [f"Python {sys.version_info.major}.{sys.version_info.minor}"]
    for name in names:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            found.append(f"no {name}")
    return ", ".join(found)


def read(said: bytes) -> Any:
    """What a process has answered.

    Raises:
        Exception: what was raised there.
    """
    result, error = pickle.loads(said)  # noqa: S301  (of our own process)
    if error is not None:
        raise error
    return result


def main(module: str, wanted: str) -> None:
    """Answer until nobody asks any more."""
    questions, answers = os.fdopen(os.dup(0), "rb", buffering=0), os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a script prints is no answer
    sys.path[0] = str(Path(__file__).resolve().parents[2])
    importlib.import_module(module)
    while question := _next(questions):
        said = answer(question, wanted)
        answers.write(len(said).to_bytes(_SIZE, "big") + said)
        answers.flush()


def _next(questions: IO[bytes]) -> bytes:
    if not select.select([questions], [], [], _IDLE_SECONDS)[0]:
        return b""
    left, found = int.from_bytes(questions.read(_SIZE), "big"), b""
    while left and (piece := questions.read(left)):
        found, left = found + piece, left - len(piece)
    return found


def answer(question: bytes, wanted: str) -> bytes:
    """What the question's function makes of its task, or the error that it raised; both as `read` takes them.

    Where other packages are installed than the one who asks wants, that is the error.
    """
    from stages.common.errors import OutsideError

    names = [one.removeprefix("no ").partition(" ")[0] for one in wanted.split(", ")[1:]]
    if (here := packages(names)) != wanted:
        differ = [f"{one} instead of {other}" for one, other in zip(here.split(", "), wanted.split(", "), strict=True)
                  if one != other]  # fmt: skip
        refused = OutsideError(f"{os.uname().nodename} has {', '.join(differ)}: install the same on all machines")
        return pickle.dumps((None, refused))
    try:
        work, task = pickle.loads(question)  # noqa: S301  (of our own run)
        return pickle.dumps((work(task), None))
    except Exception as error:  # noqa: BLE001  it is raised where it was asked
        return pickle.dumps((None, error))


if __name__ == "__main__":
    main(*sys.argv[1:])
