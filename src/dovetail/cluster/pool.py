"""Workers on Dask: this machine's own, a cluster that runs, or one that a job queue is asked for."""

import logging
import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any

from dovetail.cluster.job_queue import is_queue, open_queue
from dovetail.cluster.worker_task import end_processes, run_task
from dovetail.errors import OutsideError, UserError, one_line
from dovetail.repo.experiment_task import ExperimentTask
from dovetail.repo.stage_task import StageRun, StageTask
from dovetail.values.computing import cores
from dovetail.values.environment import deciding

if TYPE_CHECKING:
    from distributed import Client

_SILENT = {"distributed": "critical", "distributed.client": "critical"}  # what concerns users is an error of ours
_ANSWER_SECONDS, _START_SECONDS = 10, 300
ORPHANED = "each worker that was to take it is gone"
_GONE = "the scheduler is gone"
LOOK_SECONDS, ALONE_SECONDS = 5, 60  # between two looks at who works; without any worker until that is said
_HERE = "this machine"
_UNSEEN = "127.0.0.1:0"  # Dask's web server, which cannot be left out: any port of the loopback, and nothing on it


@dataclass(frozen=True, slots=True)
class _Open:
    """A task that is not done.

    Attributes:
        future: Dask's.
        resources: What it asks for.
        able: The workers that could take it when it was sent away; none where the first was still to come.
        narrowed: Whether no other one may.
        done: Who is told what came of it.
    """

    future: Any
    resources: Mapping[str, float]
    able: set[str]
    narrowed: bool
    done: Callable[[StageRun], None]

    def left(self, workers: Mapping[str, Any]) -> set[str]:
        """Those of the workers that can take it now."""
        able = _having(self.resources, workers)
        return able & self.able if self.narrowed else able


class Pool:
    """Workers that run tasks."""

    def __init__(self, client: "Client", cluster: str | None) -> None:
        """Workers of `cluster`, or this machine's own."""
        self._client = client
        self._cluster = cluster
        self._packages = deciding() if cluster else {}  # the workers of this machine have its own
        self._topic = f"dovetail-{client.id}"
        self._started: dict[str, Callable[[str], None]] = {}
        self._waiting: dict[str, Any] = {}
        self._open: dict[str, _Open] = {}  # by key
        self._orphaned: set[str] = set()  # the keys of those that nobody may take any more
        self._seen = monotonic()  # when there was a worker
        client.subscribe_topic(self._topic, self._heard)

    def submit(  # noqa: PLR0913, PLR0917
        self,
        task: StageTask | ExperimentTask,
        resources: Mapping[str, float],
        besides: frozenset[str],
        place: int,
        started: Callable[[str], None],
        done: Callable[[StageRun], None],
    ) -> None:
        """Let a worker, none of those `besides`, run the task; of two that wait that of the lower `place` comes first.

        `started` is told the worker's name, `done` what came of it; both in another thread.

        Raises:
            UserError: when no worker has these resources.
        """
        able = self._able(task.address, resources) - besides
        self._started[task.address] = started
        try:
            future = self._client.submit(
                _run, task, self._packages, self._topic, not self._cluster, priority=-place, pure=False,
                key=f"{task.address}-{secrets.token_hex(4)}", resources=dict(resources) or None,
                workers=sorted(able) if besides else None,
            )  # fmt: skip
        except Exception as error:  # noqa: BLE001  (the scheduler is gone: Dask has many words for that)
            done(StageRun(unusable=one_line(error)))
        else:
            self._waiting[task.address] = future
            self._open[str(future.key)] = _Open(future, resources, able, bool(besides), done)
            future.add_done_callback(self._settled)

    def _settled(self, future: Any) -> None:
        self._tell(future.key, StageRun(unusable=ORPHANED) if future.key in self._orphaned else _outcome(future))

    def _tell(self, key: str, run: StageRun) -> None:
        if one := self._open.pop(key, None):
            one.done(run)

    def look(self) -> None:
        """Look whether a worker is left for what is not done: Dask itself waits for one for ever.

        A task of which each worker that could take it is gone, though there are others, ends as `ORPHANED`.

        Raises:
            OutsideError: when there has been no worker for a minute.
        """
        if self._client.status in {"closing", "closed"}:  # now and then Dask says nothing more of what was not done
            for key in list(self._open):
                self._tell(key, StageRun(unusable=_GONE))
        workers = self._workers() if self._cluster and self._open else None
        if workers is None or workers:
            self._seen = monotonic()
        elif monotonic() - self._seen > ALONE_SECONDS:
            raise no_worker_left(self._cluster or "")
        for one in list(self._open.values()) if workers else ():
            if one.able and not one.left(workers or {}):
                self._orphaned.add(one.future.key)
                one.future.cancel()

    def withdraw(self) -> None:
        """Take back the tasks that no worker has begun; their `done` is told so."""
        for future in list(self._waiting.values()):
            future.cancel()

    def _heard(self, event: tuple[float, tuple[str, str]]) -> None:
        stage, worker = event[1]
        self._waiting.pop(stage, None)
        self._started[stage](worker)

    @property
    def slots(self) -> int:
        """How many tasks run side by side."""
        return max(1, sum(int(worker["nthreads"]) for worker in self._workers().values()))

    def others(self, besides: frozenset[str]) -> bool:
        """Whether there is a worker that is none of these; this machine's own are one."""
        return bool(self._cluster) and bool(set(self._workers()) - besides)

    def _able(self, address: str, resources: Mapping[str, float]) -> set[str]:
        """The workers that have the resources.

        Raises:
            UserError: when none has them.
        """
        workers = self._workers()
        for name, asked in resources.items() if workers else ():  # one that comes may have it
            most = max((info["resources"].get(name, 0) for info in workers.values()), default=0)
            if asked > most:
                raise UserError(
                    f"{address} asks for {name}: {asked:g}; no worker has more than {most:g}",
                    f"lower meta.resources.{name} of the stage in dvc.yaml, or start a worker with more",
                )
        return _having(resources, workers)

    def _workers(self) -> dict[str, Any]:
        return workers_of(self._client)


def _having(resources: Mapping[str, float], workers: Mapping[str, Any]) -> set[str]:
    """Those of the workers that have the resources."""
    return {
        worker
        for worker, info in workers.items()
        if all(info["resources"].get(n, 0) >= v for n, v in resources.items())
    }


def _run(
    task: StageTask | ExperimentTask,
    packages: Mapping[str, str],
    topic: str,
    local: bool,  # noqa: FBT001  (Dask passes arguments by position)
) -> StageRun:
    from distributed import get_worker

    worker = get_worker()
    name, key = _HERE if local else worker.address, worker.get_current_task()
    worker.log_event(topic, (task.address, name))

    def wanted() -> bool:
        known = worker.state.tasks.get(key)
        return known is not None and known.state != "cancelled"

    return run_task(task, packages, name, wanted)


def _outcome(future: Any) -> StageRun:
    if future.status == "finished":
        run: StageRun = future.result()
        return run
    error = future.exception() if future.status == "error" else "it was cancelled"
    return StageRun(unusable=one_line(error))


def workers_of(client: "Client") -> dict[str, Any]:
    """The workers that the scheduler knows, by address; none where it is gone."""
    found: dict[str, Any] = client.scheduler_info(n_workers=-1).get("workers", {})
    return found


def no_worker_left(cluster: str, what: str = "") -> OutsideError:
    """The error for work that waits on a cluster where nobody works, by default any more."""
    again = f"dask worker {cluster}, then run the same command again"
    if is_queue(cluster):
        again = "run the same command again: it asks the queue for new ones"
    return OutsideError(what or f"no worker of {cluster} is left", again)


@contextmanager
def open_pool(workers: int | None, cluster: str | None, logs: Path) -> Iterator[Pool]:
    """Workers for stages.

    Raises:
        UserError, OutsideError: as `open_client`.
    """
    with open_client(workers, cluster, logs) as client:
        yield Pool(client, None if workers is not None else cluster)


@contextmanager
def open_client(workers: int | None, cluster: str | None, logs: Path | None = None) -> Iterator["Client"]:
    """`workers` on this machine, or those of `cluster`: the address of a Dask scheduler, or of a job queue.

    What a queue's jobs print goes to `logs`, or where the settings of Dask say.

    Raises:
        UserError: when the extra is not installed, or `cluster` is neither.
        OutsideError: when the scheduler does not answer, or no worker comes.
    """
    try:
        import dask

        dask.config.set({"logging": _SILENT})  # before the import, which lets it say all that it does
        import distributed
    except ImportError as error:
        raise UserError(f"{error.name} is not installed", "pip install 'dovetail-ml[cluster]'") from error
    settings = {
        "distributed.comm.timeouts.connect": _ANSWER_SECONDS,
        "distributed.scheduler.http.routes": [], "distributed.worker.http.routes": [],
    }  # fmt: skip
    with ExitStack() as stack:
        stack.enter_context(dask.config.set(settings))
        if workers is not None:
            stack.callback(end_processes)
            place = stack.enter_context(
                distributed.LocalCluster(
                    n_workers=1, threads_per_worker=workers, processes=False, dashboard_address=_UNSEEN,
                    worker_dashboard_address=_UNSEEN, memory_limit=0,
                    resources=_of_this_machine(), silence_logs=logging.ERROR,
                )
            )  # fmt: skip
        elif cluster and is_queue(cluster):
            place = stack.enter_context(open_queue(cluster, logs))
        else:
            place = cluster
        try:
            client = stack.enter_context(distributed.Client(place, timeout=_ANSWER_SECONDS, set_as_default=False))
            client.wait_for_workers(1, timeout=_START_SECONDS if place is not cluster else _ANSWER_SECONDS)
        except (OSError, TimeoutError, ValueError) as error:
            raise no_worker_left(cluster or "", f"no worker of {cluster} answers: {one_line(error)}") from error
        yield client


def _of_this_machine() -> dict[str, float]:
    import psutil

    return {"cpu": cores(), "memory": psutil.virtual_memory().total}
