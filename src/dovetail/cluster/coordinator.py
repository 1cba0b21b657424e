"""The way through the DAG: each step as soon as it can begin, where it may run, and what it made brought home.

This thread alone asks DVC about the workspace and changes it. A step that is what its inputs make of it runs on a
worker, in a clean copy; what it made comes back by digest, through DVC's cache. Every other one runs in the workspace,
one at a time: DVC writes dvc.lock in place, and what reads it meanwhile, as a registration does, gets half a file.
Nothing is recorded but in git, DVC's cache and dvc.lock: a coordinator that is killed leaves what a killed `dvc repro`
leaves, and the next finds in the run-cache what workers had done.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from queue import SimpleQueue

from dovetail.cluster.outcome import StageOutcome
from dovetail.cluster.workers import HERE, Workers
from dovetail.repo.dag import Dag
from dovetail.repo.dag_step import Step, StepAction
from dovetail.repo.stage_task import StageRun
from dovetail.values.order import Order


@dataclass(frozen=True, slots=True)
class StageListeners:
    """Who hears of what: of a stage that begins and where, of what became of it, of what DVC recorded of it."""

    begun: Callable[[str, str], None]
    ended: Callable[[StageOutcome], None]
    made: Callable[[Step, StageRun], None]


class Coordinator:
    """One run of a plan."""

    def __init__(
        self,
        dag: Dag,
        workers: Workers,
        hears: StageListeners,
        *,
        keep_going: bool,
    ) -> None:
        self._dag = dag
        self._workers = workers
        self._hears = hears
        self._keep_going = keep_going
        self._steps = {step.address: step for step in dag.steps}
        self._order = Order({step.address: step.upstream for step in dag.steps})
        self._outcomes: dict[str, StageOutcome] = {}
        self._told: SimpleQueue[tuple[Step, str | StageRun]] = SimpleQueue()
        self._away = 0
        self._declined: dict[str, str] = {}  # why no worker could run a step
        self._here: deque[Step] = deque()
        self._busy: Step | None = None  # in the workspace
        self._stopped = False

    def run(self) -> list[StageOutcome]:
        """Go through the plan; returns the outcomes in its order.

        Raises:
            DovetailError: when DVC refuses what it reads, or no worker is available; what was done is in dvc.lock.
        """
        try:
            while self._order.left:
                while not self._stopped and (name := self._order.next()):
                    self._begin(self._steps[name])
                self._begin_here()
                if not (self._away or self._busy):
                    break  # a failure, and nothing that may go on
                step, said = self._workers.next_event(self._told)
                if not isinstance(said, str):
                    self._take(step, said)
                elif step.address not in self._outcomes:  # what a worker says goes another way than its answer
                    self._hears.begun(step.address, said)
        finally:
            failed = any(outcome.how == "failed" for outcome in self._outcomes.values())
            self._dag.finish(goes_on=failed and not self._keep_going)
        for name in self._order.left:
            self._note(StageOutcome(name, "skipped"))
        return [self._outcomes[name] for name in self._steps]

    def _begin(self, step: Step) -> None:
        action = self._dag.next_action(step)
        if action is StepAction.UNCHANGED:
            self._done(StageOutcome(step.address, "unchanged"))
        elif action is StepAction.RESTORE and self._dag.restore(step):
            self._done(StageOutcome(step.address, "restored"))
        elif action is StepAction.AWAY:
            self._send(step)
        else:
            self._here.append(step)

    def _send(self, step: Step) -> None:
        self._workers.start_away(step, self._dag, lambda said: self._told.put((step, said)))
        self._away += 1

    def _begin_here(self) -> None:
        """One at a time, and only while dvc.lock says all that is known."""
        if self._busy or self._stopped or not self._here:
            return
        step = self._here.popleft()
        self._dag.write_lock()
        self._busy = step
        self._dag.busy_here = True
        self._workers.start_here(step, lambda said: self._told.put((step, said)))

    def _take(self, step: Step, run: StageRun) -> None:
        if run.worker == HERE:
            self._busy = None
            self._dag.busy_here = False
            if run.died:
                self._dag.clear_locks()
        else:
            self._away -= 1
        how = "ran"
        if run.entry is None and not run.failed:
            if self._stopped:
                return
            if self._workers.should_retry(step, run):
                self._send(step)
            else:
                self._declined[step.address] = run.unusable
                self._here.append(step)
            return
        if run.failed:
            how = "failed"
        elif run.worker == HERE:
            self._dag.done_here(step, run.entry or {})
        elif not self._dag.restore(step, run.entry, pull=self._workers.packed):
            self._here.append(step)  # an input was changed here meanwhile, or its bytes are gone
            return
        if not run.failed:
            self._hears.made(step, run)
        why = run.failed or self._declined.get(step.address, "")
        self._done(StageOutcome(step.address, how, run.worker, run.seconds, run.output, why))

    def _done(self, outcome: StageOutcome) -> None:
        self._note(outcome)
        if outcome.how != "failed":
            self._order.done(outcome.stage)
            return
        for name in self._order.failed(outcome.stage):
            self._note(StageOutcome(name, "skipped", why=f"{outcome.stage} failed"))
        if not self._keep_going:
            self._stopped = True
            self._workers.withdraw()

    def _note(self, outcome: StageOutcome) -> None:
        self._outcomes[outcome.stage] = outcome
        self._hears.ended(outcome)
