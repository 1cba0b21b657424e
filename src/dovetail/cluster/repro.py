"""`dovetail repro`: the stages of a pipeline side by side, and the workspace as `dvc repro` would have left it.

This thread alone asks DVC about the workspace and changes it. A stage that is what its inputs make of it runs on a
worker, in a clean copy; what it made comes back by digest, through DVC's cache. Every other stage runs here, one after
another, in a process of its own. Nothing is recorded but in git, DVC's cache and dvc.lock: a coordinator that is killed
leaves what `dvc repro` killed leaves, and the next run finds in the run-cache what workers had done.
"""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any

from dovetail.cluster.coordinator import Coordinator, StageListeners
from dovetail.cluster.experiments import Experiments
from dovetail.cluster.outcome import StageOutcome
from dovetail.cluster.workers import open_workers
from dovetail.errors import UserError
from dovetail.registration import stage_times
from dovetail.repo.dag_step import Step
from dovetail.repo.stage_task import StageRun
from dovetail.repo.workspace import Workspace
from dovetail.system.locks import REPRO, exclusive
from dovetail.system.processes import interruptible
from dovetail.values.answer import Answer
from dovetail.values.computing import cores

_TURN_SECONDS = 7 * 24 * 3600  # for another `dovetail repro` of the workspace to end


@dataclass(frozen=True, slots=True)
class ReproRequest:
    """What to reproduce, and on which workers.

    Attributes:
        targets: As `dvc repro` takes them; none: the dvc.yaml of the root.
        workers: How many stages run side by side on this machine; by default one a core.
        cluster: In place of that: a Dask scheduler's address, or a job queue, `slurm:jobs=4,cores=2`.
        keep_going: After a failure go on with what does not depend on it.
        force, single_item: As in DVC.
        dry: Say what would run, and run nothing.
        experiments: Run the queued experiments in place of the workspace's stages.
    """

    targets: tuple[str, ...] = ()
    workers: int | None = None
    cluster: str | None = None
    keep_going: bool = False
    force: bool = False
    single_item: bool = False
    dry: bool = False
    experiments: bool = False


@dataclass(frozen=True, slots=True, repr=False)
class ReproAnswer(Answer):
    """What became of each stage, in the order in which DVC goes through them."""

    stages: tuple[StageOutcome, ...]

    @property
    def failed(self) -> list[StageOutcome]:
        """The stages that failed."""
        return [stage for stage in self.stages if stage.how == "failed"]

    def __repr__(self) -> str:
        failed = f", {len(self.failed)} failed" if self.failed else ""
        return f"<ReproAnswer {len(self.stages)} stage{'s' if len(self.stages) != 1 else ''}{failed}>"

    def as_json(self) -> dict[str, Any]:
        """The answer as `--json` gives it."""
        return {"stages": [stage.as_json() for stage in self.stages], "failed": [stage.stage for stage in self.failed]}


def repro(
    workspace: Workspace,
    request: ReproRequest,
    *,
    begun: Callable[[str, str], None] = lambda _stage, _worker: None,
    ended: Callable[[StageOutcome], None] = lambda _outcome: None,
    waiting: Callable[[str], None] = lambda _holder: None,
) -> ReproAnswer:
    """Reproduce the targets; `begun` hears of a stage and of where it runs, `ended` of what became of it.

    Of two in one repository the second waits; `waiting` hears for whom.

    Raises:
        UserError: when DVC refuses a target or a file, or no worker has what a stage asks for.
        OutsideError: when the workers cannot be reached.
    """
    with ExitStack() as stack:
        stack.enter_context(interruptible())
        stack.enter_context(exclusive(workspace.root, REPRO, _TURN_SECONDS, waiting))
        if request.experiments:
            return ReproAnswer(tuple(_experiments(workspace, request, stack, begun, ended)))
        dag = workspace.dag()
        dag.plan(request.targets, single_item=request.single_item, force=request.force)
        if request.dry:
            runs = set(dag.would_run())
            found = [
                StageOutcome(step.address, "would run" if step.address in runs else "unchanged") for step in dag.steps
            ]
            for outcome in found:
                ended(outcome)
            return ReproAnswer(tuple(found))
        workers = stack.enter_context(open_workers(workspace, _count(request), request.cluster))
        with dag.at_work():
            hears = StageListeners(begun, ended, partial(_note_time, workspace))
            found = Coordinator(dag, workers, hears, keep_going=request.keep_going).run()
    return ReproAnswer(tuple(found))


def _note_time(workspace: Workspace, step: Step, run: StageRun) -> None:
    """Keep when the stage ran, for the run in MLflow of a model that it made: its files' times say until when."""
    if step.name and run.entry:
        record = step.record(run.entry)
        span = stage_times.of_outs(workspace, record.outs, round(run.since * 1000))
        stage_times.keep(workspace.store_root, record, span)


def _count(request: ReproRequest) -> int | None:
    return request.workers or (None if request.cluster else cores())


def _experiments(
    workspace: Workspace,
    request: ReproRequest,
    stack: ExitStack,
    begun: Callable[[str, str], None],
    ended: Callable[[StageOutcome], None],
) -> list[StageOutcome]:
    if request.targets or request.force or request.single_item:
        what = "--experiments takes no targets, no --force and no --single-item"
        raise UserError(what, "dvc exp run --queue, which takes them for each experiment")
    queue = workspace.experiment_queue()
    if not request.dry:
        workers = stack.enter_context(open_workers(workspace, _count(request), request.cluster))
        return Experiments(queue, workers, begun, ended).run()
    outcomes = [StageOutcome(name, "would run") for name in queue.waiting()]
    for outcome in outcomes:
        ended(outcome)
    return outcomes
