"""Ranges on a Dask cluster whose machines share this folder: who works changes no byte, and DVC is not told of it.

Dask hands out the work. A process beside each worker does it, with the code of this tree as it is now: a worker that
runs for weeks would remember a cleaning script of last week.
"""

import os
import pickle
import secrets
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any, TypeVar

from stages.common import reproducible
from stages.common.errors import OutsideError, StageError
from stages.parts import dask_worker_client, range_process
from stages.parts.in_order import in_order

ENV_CLUSTER = "PARTS_CLUSTER"  # the address of a Dask scheduler
_ANSWER_SECONDS = 10
_LOOK_SECONDS, _ALONE_SECONDS = 5, 60  # between two looks at who works; without any worker until that is said
_RETRIES = 2  # of a range whose process died
T = TypeVar("T")
R = TypeVar("R")


class Cluster:
    """The workers of a cluster; what they answer comes in order."""

    def __init__(self, client: Any, address: str, run: dask_worker_client.Run) -> None:
        self._client, self._address, self._run = client, address, run

    def map(self, work: Callable[[T], R], tasks: Iterable[T]) -> Iterator[R]:
        """What `work` makes of each task, in their order.

        Raises:
            StageError: as `work`, of the first task in order that fails.
            OutsideError: no worker could do it.
        """
        from distributed.client import FutureCancelledError
        from distributed.scheduler import KilledWorker

        run = self._run
        ask = lambda question: dask_worker_client.ask(run, question)  # noqa: E731  (a named function would go by its name)

        def submit(work: Callable[[T], R], task: T) -> Any:
            return _Answer(self, self._client.submit(ask, pickle.dumps((work, task)), pure=False, retries=_RETRIES))

        threads = sum(self._client.nthreads().values())
        answers = in_order(submit, work, tasks, max(1, threads) * 3)
        while True:
            try:
                answer = next(answers)
            except StopIteration:
                return
            except (KilledWorker, FutureCancelledError, RuntimeError, OSError) as error:
                what = " ".join(str(error).split())[:300]
                raise OutsideError(
                    f"{ENV_CLUSTER} = {self._address}: {what}; see to it, or unset {ENV_CLUSTER}"
                ) from error
            yield range_process.read(answer)

    def wait_for(self, future: Any) -> bytes:
        """What a worker answers. Dask waits for ever, also when none of them is left.

        Raises:
            OutsideError: there has been no worker for a while.
            Exception: as the task, or Dask.
        """
        seen = monotonic()
        while True:
            try:
                said: bytes = future.result(timeout=None if future.done() else _LOOK_SECONDS)
            except TimeoutError:
                if future.status == "error":  # it is the task's own
                    raise
            else:
                return said
            if self._client.nthreads():
                seen = monotonic()
            elif monotonic() - seen >= _ALONE_SECONDS:
                raise OutsideError(
                    f"{ENV_CLUSTER} = {self._address}: no worker is left; start one: dask worker {self._address}, then "
                    f"run it again, or unset {ENV_CLUSTER}"
                )


@dataclass(frozen=True)
class _Answer:
    """What a worker will have answered, for `in_order`."""

    cluster: Cluster
    future: Any

    def result(self) -> bytes:
        return self.cluster.wait_for(self.future)

    def cancel(self) -> None:
        self.future.cancel()


@contextmanager
def open_cluster(address: str, module: str, shared: Path) -> Iterator[Cluster]:
    """The workers of the scheduler at `address`; at the end none of them works for us any more.

    Args:
        address: such as tcp://10.0.0.1:8786.
        module: where the functions that they are to call stand.
        shared: a folder that this run has made; a worker that does not see it is none.

    Raises:
        StageError: Dask is not installed.
        OutsideError: it does not answer, or has no workers.
    """
    try:
        import cloudpickle  # type: ignore[import-untyped]
        import distributed
    except ImportError as error:
        raise StageError(
            f"{ENV_CLUSTER} needs {error.name}, which is not installed: python -m pip install distributed"
        ) from error
    # Workers have no `stages`, or those of another tree. A lambda goes by value, with all that it uses.
    cloudpickle.register_pickle_by_value(dask_worker_client)
    run = dask_worker_client.Run(
        name=secrets.token_hex(8),
        command=(
            str(Path(range_process.__file__).resolve()),
            module,
            range_process.packages(range_process.deciding(module)),
        ),
        folder=str(Path.cwd()),
        shared=str(shared.resolve()),
        env={name: os.environ[name] for name in reproducible.settings() if name in os.environ},
    )
    try:
        client = distributed.Client(address, timeout=_ANSWER_SECONDS, set_as_default=False)
    except (OSError, TimeoutError, ValueError) as error:
        why = " ".join(str(error).split())[:200]
        raise OutsideError(f"{ENV_CLUSTER} = {address} does not answer ({why}); start it: dask scheduler") from error
    try:
        if not client.nthreads():
            raise OutsideError(f"{ENV_CLUSTER} = {address} has no workers; start one: dask worker {address}")
        yield Cluster(client, address, run)
    finally:
        with suppress(Exception):  # a worker that is gone has ended its process, too
            client.run(lambda dask_worker: dask_worker_client.end(run, dask_worker), on_error="ignore")
        client.close()
