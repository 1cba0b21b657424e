"""Queued experiments on the same workers: as many at a time as there is room for, each as DVC's own worker runs it.

An experiment is in DVC's queue until there is room for it, and told to DVC when it has ended. Killed, this leaves those
that it had begun where the next run finds them.
"""

from collections import Counter
from collections.abc import Callable
from queue import SimpleQueue

from dovetail.cluster.outcome import StageOutcome
from dovetail.cluster.workers import Workers
from dovetail.repo.experiment_queue import ExperimentQueue
from dovetail.repo.experiment_task import ExperimentTask
from dovetail.repo.stage_task import StageRun

_ATTEMPTS = 3  # of an experiment whose workers die


class Experiments:
    """One run of the queue."""

    def __init__(
        self,
        queue: ExperimentQueue,
        workers: Workers,
        begun: Callable[[str, str], None],
        ended: Callable[[StageOutcome], None],
    ) -> None:
        self._queue = queue
        self._workers = workers
        self._begun, self._ended = begun, ended
        self._told: SimpleQueue[tuple[ExperimentTask, str | StageRun]] = SimpleQueue()
        self._under_way: dict[str, ExperimentTask] = {}
        self._attempts: Counter[str] = Counter()
        self._besides: dict[str, set[str]] = {}
        self._declined: list[ExperimentTask] = []  # queued again at the end: sooner, it would be taken once more

    def run(self) -> list[StageOutcome]:
        """Run what is queued, until nothing is; a failure does not end the rest.

        Raises:
            UserError: when DVC refuses what it reads.
        """
        outcomes: list[StageOutcome] = []
        left = self._queue.begun()
        try:
            while True:
                while self._has_room() and (task := left.pop(0) if left else self._queue.take()):
                    self._submit(task)
                if not self._under_way:
                    return outcomes
                task, said = self._workers.next_event(self._told)
                if isinstance(said, str):
                    self._begun(task.address, said)
                elif outcome := self._take(task, said):
                    outcomes.append(outcome)
                    self._ended(outcome)
        finally:
            for task in (*self._under_way.values(), *left, *self._declined):
                self._queue.give_back(task)

    def _has_room(self) -> bool:
        """Whether one more would run at once; without one no worker is started."""
        return not self._under_way or len(self._under_way) < self._workers.pool.slots

    def _submit(self, task: ExperimentTask) -> None:
        self._under_way[task.message] = task
        besides = frozenset(self._besides.get(task.message, ()))
        place = len(self._attempts)

        def told(said: str | StageRun) -> None:
            self._told.put((task, said))

        self._workers.pool.submit(task, {}, besides, place, told, told)

    def _take(self, task: ExperimentTask, run: StageRun) -> StageOutcome | None:
        del self._under_way[task.message]
        if run.unusable:
            besides = self._besides.setdefault(task.message, set())
            another = self._workers.pool.others(frozenset(besides | {run.worker}))
            if another:
                besides.add(run.worker)
            has_declined = bool(another and run.worker and not run.died)  # each is asked once
            self._attempts[task.message] += not has_declined
            if has_declined or ((another or run.died) and self._attempts[task.message] < _ATTEMPTS):
                self._submit(task)
                return None
            self._declined.append(task)
            why = f"no worker could run it, it is queued again: {run.unusable}"
            return StageOutcome(task.address, "failed", run.worker, run.seconds, run.output, why)
        self._queue.done(task, failed=bool(run.failed))
        how = "failed" if run.failed else "ran"
        return StageOutcome(task.address, how, run.worker, run.seconds, run.output, run.failed)
