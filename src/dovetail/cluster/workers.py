"""Where stages run: a process for what belongs here, a pool for the rest; each is started when it is needed."""

import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Thread
from time import monotonic
from typing import TypeVar

from dovetail.cluster.pool import LOOK_SECONDS, ORPHANED, Pool, open_pool
from dovetail.cluster.resource_amount import resource_amount
from dovetail.cluster.stage_process import Died, StageProcess
from dovetail.cluster.worker_task import COPIES, JOBS, SITE, UNSEEN
from dovetail.errors import UserError
from dovetail.repo.dag import Dag
from dovetail.repo.dag_step import Step
from dovetail.repo.single_stage import run_in_place
from dovetail.repo.snapshot import Snapshot, packed, take_snapshot
from dovetail.repo.stage_task import StageRun
from dovetail.repo.workspace import Workspace
from dovetail.repo.worktree import held_folder, remove_leftovers

T = TypeVar("T")
HERE = "here"  # in the workspace itself
_ATTEMPTS = 3  # of a stage whose workers die


class Workers:
    """Stages under way; of each the caller is told, in another thread, who has begun it and what came of it.

    Attributes:
        packed: Whether a worker does not see the repository's folder, so that data go by DVC's remote.
    """

    def __init__(self, workspace: Workspace, stack: ExitStack, workers: int | None, cluster: str | None) -> None:
        self._workspace = workspace
        self._stack = stack
        self._asked = (workers, cluster)
        self.packed = False
        self._attempts: Counter[str] = Counter()
        self._besides: dict[str, set[str]] = {}
        self._idle: list[StageProcess] = []  # for what runs in the workspace
        self._unseen: set[str] = set()  # steps that a worker has declined who does not see the folder
        if cluster:
            self.pool  # noqa: B018  (one that does not answer is said before anything is done)

    def start_here(self, step: Step, told: Callable[[str | StageRun], None]) -> None:
        """Let DVC run the step in the workspace; what else writes there meanwhile, DVC's locks keep apart from it."""
        self._folder  # noqa: B018  (made by this thread alone)

        def run() -> None:
            told(HERE)
            told(self._run_here(step))

        Thread(target=run, daemon=True).start()

    def start_away(self, step: Step, dag: Dag, told: Callable[[str | StageRun], None]) -> None:
        """Let a worker run the step.

        Raises:
            UserError: when what it asks for is not an amount, or no worker has it.
            GitFailed: when git cannot read the working tree.
        """
        resources = _resources(step)
        besides = frozenset(self._besides.get(step.address, ()))
        self.pool.submit(dag.task(step, self._snapshot), resources, besides, step.place, told, told)

    def next_event(self, told: "SimpleQueue[T]") -> T:
        """The next of what they tell, for as long as there is a worker.

        Raises:
            OutsideError: when none of the cluster's is left.
        """
        while True:
            try:
                return told.get(timeout=LOOK_SECONDS)
            except Empty:
                if "pool" in self.__dict__:
                    self.pool.look()

    def withdraw(self) -> None:
        """Take back what no worker has begun."""
        if "pool" in self.__dict__:
            self.pool.withdraw()

    def should_retry(self, step: Step, run: StageRun) -> bool:
        """Whether to ask a worker once more for a step that this one could not run."""
        if run.unusable == UNSEEN and step.address not in self._unseen:
            self._unseen.add(step.address)
            if not self.packed:
                self.packed = True
                self.__dict__.pop("_snapshot", None)
            return True
        if run.unusable == ORPHANED:
            return True
        besides = self._besides.setdefault(step.address, set())
        if self.pool.others(frozenset(besides | {run.worker})):
            besides.add(run.worker)
            if run.worker and not run.died:  # it declined: each is asked once
                return True
        elif not run.died:
            return False
        self._attempts[step.address] += 1
        return bool(run.worker) and self._attempts[step.address] < _ATTEMPTS

    def _run_here(self, step: Step) -> StageRun:
        begun, log = monotonic(), self._folder / f"{step.place}.log"
        process = self._idle.pop() if self._idle else self._process()
        try:
            run = process.ask(
                run_in_place, self._workspace.root, step.address, step.force, env=dict(os.environ), log=log
            )
            self._idle.append(process)
        except Died as error:
            run = StageRun(failed=str(error), died=True)
        output = log.read_text(encoding="utf-8", errors="replace") if log.is_file() else ""
        return replace(run, failed=run.failed or run.unusable, output=output, worker=HERE, seconds=monotonic() - begun)

    def _process(self) -> StageProcess:
        process = StageProcess()
        self._stack.callback(process.close)
        return process

    @cached_property
    def pool(self) -> Pool:
        """The workers that run what is sent away, started with the first."""
        return self._stack.enter_context(open_pool(*self._asked, self._workspace.scratch / JOBS))

    @cached_property
    def _folder(self) -> Path:
        return self._stack.enter_context(held_folder(self._workspace.scratch / COPIES))

    @cached_property
    def _snapshot(self) -> Snapshot:
        """The working tree as it was when the first step was sent away."""
        taken = take_snapshot(self._workspace.root, self._folder)
        if self.packed:
            return replace(taken, pack=packed(taken))
        site = self._workspace.scratch / SITE
        return replace(taken, settings=self._workspace.storage.sharing(self._folder, site))


def _resources(step: Step) -> dict[str, float]:
    """What it asks for, by name.

    Raises:
        UserError: when that is not an amount, or of nothing that has a name.
    """
    place, found = f"{step.address}: meta.resources", {}
    if not isinstance(step.resources, Mapping):
        raise UserError(f"{place}: {step.resources!r} does not say of what", "resources: {cpu: 4} there, in dvc.yaml")
    for name, value in step.resources.items():
        if (asked := resource_amount(value)) is None:
            what = f"{place}.{name}: {value!r} is not an amount"
            raise UserError(what, f"{name}: 2, or {name}: 8 GB, in dvc.yaml")
        found[name] = asked
    return found


@contextmanager
def open_workers(workspace: Workspace, workers: int | None, cluster: str | None) -> Iterator[Workers]:
    """Workers for the stages of a workspace; at the end none of theirs runs any more.

    Raises:
        UserError, OutsideError: as `open_pool`.
    """
    with ExitStack() as stack:
        _remove_leftovers(workspace)
        stack.callback(_remove_leftovers, workspace)  # of a worker that was killed meanwhile
        yield Workers(workspace, stack, workers, cluster)


def _remove_leftovers(workspace: Workspace) -> None:
    if (place := workspace.scratch / COPIES).is_dir():
        remove_leftovers(place)
