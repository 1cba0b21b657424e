"""Who works on ranges: this process, several of this machine, or a cluster. Answers come in order, whoever gave them.

The environment says who, for it changes no byte: what stands in params.yaml DVC would take for a change.
"""

import importlib
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol, TypeVar

from stages.common.errors import OutsideError, StageError
from stages.parts.cluster import ENV_CLUSTER, open_cluster
from stages.parts.in_order import in_order

ENV_WORKERS = "PARTS_WORKERS"  # processes of this machine; by default one a core
_AHEAD = 2  # ranges that wait for each worker, so that none of them waits
_THREADS = "POLARS_MAX_THREADS"
T = TypeVar("T")
R = TypeVar("R")


class Workers(Protocol):
    """Whoever works."""

    def map(self, work: Callable[[T], R], tasks: Iterable[T]) -> Iterator[R]:
        """What `work` makes of each task, in their order; no more are taken than are needed to keep all busy.

        Raises:
            StageError: as `work`, of the first task in order that fails.
            OutsideError: when a worker died.
        """


@contextmanager
def open_workers(module: str, shared: Path, tasks: int | None = None) -> Iterator[Workers]:
    """As many workers as the environment says; at the end none of them works any more.

    Args:
        module: where the functions that they are to call stand.
        shared: a folder that this run has made, which a worker on another machine must see.
        tasks: how many there will be, where that is known: more workers would have nothing to do.

    Raises:
        StageError: when it says no number.
        OutsideError: a cluster does not answer.
    """
    if address := os.environ.get(ENV_CLUSTER):
        with open_cluster(address, module, shared) as cluster:
            yield cluster
        return
    count = _count() if tasks is None else min(_count(), tasks)
    if count <= 1:
        yield ThisProcess()
        return
    with _processes(count, module) as processes:
        yield processes


def _count() -> int:
    asked = os.environ.get(ENV_WORKERS, "")
    if not asked:
        return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if not (asked.isdecimal() and int(asked)):
        raise StageError(f"{ENV_WORKERS} = {asked!r} is no number of processes; write a whole one from 1 on")
    return int(asked)


class ThisProcess:
    """This process alone."""

    def map(self, work: Callable[[T], R], tasks: Iterable[T]) -> Iterator[R]:
        """As `Workers.map`, each when it is asked for."""
        return map(work, tasks)


class _Processes:
    def __init__(self, pool: Any, count: int) -> None:
        self._pool, self._count = pool, count

    def map(self, work: Callable[[T], R], tasks: Iterable[T]) -> Iterator[R]:
        from concurrent.futures.process import BrokenProcessPool

        try:
            yield from in_order(self._pool.submit, work, tasks, self._count * (1 + _AHEAD))
        except BrokenProcessPool as error:
            raise OutsideError(
                f"one of {self._count} worker processes was killed, perhaps for want of memory; "
                f"take fewer: {ENV_WORKERS}={max(1, self._count // 2)}, or lower clean.part_rows"
            ) from error


@contextmanager
def _processes(count: int, module: str) -> Iterator[_Processes]:
    """Processes that share this machine's cores; they end with this one, however that ends."""
    import multiprocessing
    from concurrent.futures import ProcessPoolExecutor

    before = os.environ.get(_THREADS)
    os.environ[_THREADS] = before or str(max(1, (os.cpu_count() or 1) // count))  # read when Polars is imported
    pool = ProcessPoolExecutor(count, multiprocessing.get_context("spawn"), _begin, (module,))
    try:
        pool.submit(os.getpid)  # starts one while this process does what comes first; the others come with their tasks
        yield _Processes(pool, count)
    finally:
        pool.shutdown(cancel_futures=True)
        if before is None:
            del os.environ[_THREADS]


def _begin(module: str) -> None:
    """Get ready; a worker whose parent was killed would wait for ever, and Ctrl-C is the parent's affair."""
    import multiprocessing

    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def watch() -> None:
        if parent := multiprocessing.parent_process():
            parent.join()
            os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
    importlib.import_module(module)
