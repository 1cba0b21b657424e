"""A process of this program's own: forked, or a new interpreter where a fork could hang."""

import multiprocessing
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import ModuleType
from typing import Any

_OPENMP = ("libgomp", "libomp", "libiomp")
_hiding = threading.Lock()


def start_process(target: Callable[..., None], *arguments: Any) -> BaseProcess:
    """Begin `target(*arguments)` in a process that ends with this one."""
    forks = sys.platform == "linux" and not _may_have_openmp_threads()
    context: Any = multiprocessing.get_context("fork" if forks else "spawn")
    process: BaseProcess = context.Process(target=target, args=arguments, daemon=True)
    if forks:
        process.start()
    else:
        with _without_main():
            process.start()
    return process


def _may_have_openmp_threads() -> bool:
    """Whether OpenMP is here with threads that are not Python's, as in a notebook that trained a LightGBM model.

    A forked process would wait for them for ever: https://gcc.gnu.org/bugzilla/show_bug.cgi?id=52303
    """
    if len([*Path("/proc/self/task").iterdir()]) <= threading.active_count():
        return False
    libraries = Path("/proc/self/maps").read_text(encoding="utf-8", errors="replace")
    return any(name in libraries for name in _OPENMP)


@contextmanager
def _without_main() -> Iterator[None]:
    """In the block the program's main module is hidden: a new interpreter would run it, a user's script, once more."""
    with _hiding:
        main, sys.modules["__main__"] = sys.modules["__main__"], ModuleType("__main__")
        try:
            yield
        finally:
            sys.modules["__main__"] = main
