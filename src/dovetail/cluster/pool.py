"""Workers on Dask: this machine's own, a cluster that runs, or one that a job queue is asked for."""

import importlib
import logging
import os
import secrets
import shlex
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any

from dovetail.cluster.lane import end_processes, run_task
from dovetail.errors import OutsideError, UserError, one_line
from dovetail.repo.experiment_task import ExperimentTask
from dovetail.repo.stage_task import StageRun, StageTask

if TYPE_CHECKING:
    from distributed import Client

_ANSWER_SECONDS, _START_SECONDS = 10, 300
ORPHANED = "each worker that was to take it is gone"
LOOK_SECONDS, ALONE_SECONDS = 5, 60  # between two looks at who works; without any worker until that is said
_HERE = "this machine"
_UNSEEN = "127.0.0.1:0"  # Dask's web server, which cannot be left out: any port of the loopback, and nothing on it
_SIZES = {"kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12, "kib": 2**10, "mib": 2**20, "gib": 2**30, "tib": 2**40}
# `slurm:…` and the like: the class of dask-jobqueue that asks such a queue for workers.
_QUEUES = {
    "htcondor": "HTCondorCluster", "lsf": "LSFCluster", "moab": "MoabCluster", "oar": "OARCluster", "pbs": "PBSCluster",
    "sge": "SGECluster", "slurm": "SLURMCluster",
}  # fmt: skip


class Pool:
    """Workers that run tasks."""

    def __init__(self, client: "Client", cluster: str | None) -> None:
        """Workers of `cluster`, or this machine's own."""
        self._client = client
        self._cluster = cluster
        self._topic = f"dovetail-{client.id}"
        self._started: dict[str, Callable[[str], None]] = {}
        self._waiting: dict[str, Any] = {}
        self._able_of: dict[str, tuple[Any, set[str]]] = {}  # by key, what is not done, and who may take it; empty: all
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
                _run, task, self._topic, not self._cluster, key=f"{task.address}-{secrets.token_hex(4)}", pure=False,
                priority=-place, resources=dict(resources) or None, workers=sorted(able) if besides else None,
            )  # fmt: skip
        except Exception as error:  # noqa: BLE001  (the scheduler is gone: Dask has many words for that)
            done(StageRun(unusable=one_line(error)))
        else:
            self._waiting[task.address] = future
            self._able_of[str(future.key)] = future, able if besides else set()
            future.add_done_callback(lambda settled: done(self._settled(settled)))

    def _settled(self, future: Any) -> StageRun:
        self._able_of.pop(future.key, None)
        return StageRun(unusable=ORPHANED) if future.key in self._orphaned else _outcome(future)

    def look(self) -> None:
        """Look whether a worker is left for what is not done: Dask itself waits for one for ever.

        A task of which each worker that was to take it is gone, though others came, ends as `ORPHANED`.

        Raises:
            OutsideError: when there has been no worker for a minute.
        """
        workers = set(self._workers()) if self._cluster and self._able_of else None
        if workers is None or workers:
            self._seen = monotonic()
        elif monotonic() - self._seen > ALONE_SECONDS:
            raise no_worker_left(self._cluster or "")
        for future, able in list(self._able_of.values()) if workers else ():
            if able and workers and able.isdisjoint(workers):
                self._orphaned.add(future.key)
                future.cancel()

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
        """Whether there is a worker that is none of these."""
        return bool(set(self._workers()) - besides)

    def _able(self, address: str, resources: Mapping[str, float]) -> set[str]:
        """The workers that have the resources.

        Raises:
            UserError: when none has them.
        """
        workers = {name: info["resources"] for name, info in self._workers().items()}
        for name, asked in resources.items() if workers else ():  # one that comes may have it
            most = max((has.get(name, 0) for has in workers.values()), default=0)
            if asked > most:
                raise UserError(
                    f"{address} asks for {name}: {asked:g}; no worker has more than {most:g}",
                    f"lower meta.resources.{name} of the stage in dvc.yaml, or start a worker with more",
                )
        return {worker for worker, has in workers.items() if all(has.get(n, 0) >= v for n, v in resources.items())}

    def _workers(self) -> dict[str, Any]:
        return workers_of(self._client)


def _run(task: StageTask | ExperimentTask, topic: str, local: bool) -> StageRun:  # noqa: FBT001  (Dask passes arguments by position)
    from distributed import get_worker

    worker = get_worker()
    name, key = _HERE if local else worker.address, worker.get_current_task()
    worker.log_event(topic, (task.address, name))

    def wanted() -> bool:
        known = worker.state.tasks.get(key)
        return known is not None and known.state != "cancelled"

    return run_task(task, name, wanted)


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


def no_worker_left(cluster: str) -> OutsideError:
    """The error for work that waits on a cluster where nobody works any more."""
    again = f"dask worker {cluster}, then run the same command again"
    if cluster.partition(":")[0] in _QUEUES:
        again = "run the same command again: it asks the queue for new ones"
    return OutsideError(f"no worker of {cluster} is left", again)


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

        dask.config.set({"logging": {"distributed": "error"}})  # before the import, which lets it say all that it does
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
        elif cluster and cluster.partition(":")[0] in _QUEUES:
            place = stack.enter_context(_queue(cluster, logs))
        else:
            place = cluster
        try:
            client = stack.enter_context(distributed.Client(place, timeout=_ANSWER_SECONDS, set_as_default=False))
            client.wait_for_workers(1, timeout=_START_SECONDS if place is not cluster else _ANSWER_SECONDS)
        except (OSError, TimeoutError, ValueError) as error:
            what = f"no worker of {cluster} answers: {one_line(error)}"
            raise OutsideError(what, f"dask worker {cluster}, then run the same command again") from error
        yield client


def _of_this_machine() -> dict[str, float]:
    import psutil

    return {"cpu": os.cpu_count() or 1, "memory": psutil.virtual_memory().total}


def _queue(cluster: str, logs: Path | None) -> Any:
    """The workers that a job queue is asked for: `slurm:jobs=4,cores=2,memory=8GB,queue=short`.

    Raises:
        UserError: when dask-jobqueue refuses an option.
    """
    kind, _, said = cluster.partition(":")
    options: dict[str, Any] = ({"log_directory": str(logs)} if logs else {}) | dict(
        part.partition("=")[::2] for part in said.split(",") if part
    )
    jobs = int(options.pop("jobs", 1))
    for name in ("cores", "processes"):
        if name in options:
            options[name] = int(options[name])
    cores, memory = options.setdefault("cores", 1), options.setdefault("memory", "4GB")
    own = f"cpu={cores} memory={amount('memory', memory):.0f}"
    try:
        made = getattr(importlib.import_module("dask_jobqueue"), _QUEUES[kind])(
            **options, worker_extra_args=["--resources", shlex.quote(own)]
        )
        made.scale(jobs=jobs)
    except (TypeError, ValueError, OSError) as error:
        raise UserError(f"{cluster}: {one_line(error)}", "dovetail repro --help") from error
    return made


def amount(name: str, value: Any) -> float:
    """A resource as a number: 4, 0.5, or `8 GB` in bytes.

    Raises:
        UserError: when it is none.
    """
    said = str(value).strip().lower()
    number = said.rstrip("abcdefghijklmnopqrstuvwxyz ")
    try:
        found = float(number) * _SIZES[unit] if (unit := said[len(number) :].strip()) else float(number)
    except (ValueError, KeyError):
        found = -1.0
    if not 0 < found < float("inf"):
        raise UserError(f"resources: {name}: {value!r} is not an amount", f"{name}: 2, or {name}: 8 GB, in dvc.yaml")
    return found
