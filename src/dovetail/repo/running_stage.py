"""The process of DVC's that runs the stage in which this process is."""

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from dovetail.repo.dvc_variables import ENV_STAGE

if TYPE_CHECKING:
    from psutil import Process

_WITH_VALUE = ("-W", "-X")  # options of Python
_FETCHES = "--pul"  # of `dvc repro --pull`, which DVC takes abbreviated, too


def runner() -> "Process | None":
    """The nearest process above this one that is no part of the stage; None outside of one, or where it is not seen."""
    import psutil

    if ENV_STAGE not in os.environ:
        return None
    try:
        return next((parent for parent in psutil.Process().parents() if ENV_STAGE not in parent.environ()), None)
    except psutil.Error:
        return None


def dvc_began() -> float | None:
    """When the `dvc` command began that runs this stage, in seconds since the epoch.

    None where none does, or where it fetches, too: what it fetches and what its stages make cannot be told apart by
    the time of a file.
    """
    import psutil

    process = runner()
    if process is None:
        return None
    try:
        words, began = process.cmdline(), float(process.create_time())
    except psutil.Error:
        return None
    return began + _rounding() if _is_dvc(words) and not any(word.startswith(_FETCHES) for word in words) else None


def _is_dvc(words: Sequence[str]) -> bool:
    """Whether the command is DVC: started by its name, by a Python and its file, or as Python's module `dvc`.

    Python takes options before `-m`: Dovetail starts it with `-P`.
    """
    if "dvc" in [Path(word).stem for word in words[:2]]:
        return True
    options = iter(words[1:])
    for word in options:
        if word == "-m":
            return next(options, "") == "dvc"
        if word in _WITH_VALUE:
            next(options, "")
        elif not word.startswith("-"):
            break
    return False


def _rounding() -> float:
    """What psutil's times lack on Linux, which tells in whole seconds when the machine was started."""
    import psutil

    if not hasattr(time, "CLOCK_BOOTTIME"):
        return 0.0
    missing = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME) - float(psutil.boot_time())
    return missing if 0 <= missing <= 1 else 0.0
