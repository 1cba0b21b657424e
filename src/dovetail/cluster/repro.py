"""`dovetail repro`: the stages of a pipeline side by side, and the workspace as `dvc repro` would have left it.

This thread alone asks DVC about the workspace and changes it. A stage that is what its inputs make of it runs on a
worker, in a clean copy; what it made comes back by digest, through DVC's cache. Every other stage runs here, one after
another, in a process of its own. Nothing is recorded but in git, DVC's cache and dvc.lock: a coordinator that is killed
leaves what `dvc repro` killed leaves, and the next run finds in the run-cache what workers had done.
"""

import os
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from dovetail.cluster.coordinator import Coordinator
from dovetail.cluster.outcome import StageOutcome
from dovetail.cluster.workers import open_workers
from dovetail.repo.workspace import Workspace
from dovetail.system.locks import exclusive
from dovetail.system.processes import interruptible

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
    """

    targets: tuple[str, ...] = ()
    workers: int | None = None
    cluster: str | None = None
    keep_going: bool = False
    force: bool = False
    single_item: bool = False
    dry: bool = False


@dataclass(frozen=True, slots=True)
class ReproAnswer:
    """What became of each stage, in the order in which DVC goes through them."""

    stages: tuple[StageOutcome, ...]

    @property
    def failed(self) -> list[StageOutcome]:
        """The stages that failed."""
        return [stage for stage in self.stages if stage.how == "failed"]

    def as_json(self) -> dict[str, Any]:
        """The answer as `--json` gives it."""
        return {"stages": [stage.as_json() for stage in self.stages], "failed": [stage.stage for stage in self.failed]}


def repro(
    workspace: Workspace,
    request: ReproRequest,
    *,
    begun: Callable[[str, str], None] = lambda _stage, _worker: None,
    ended: Callable[[StageOutcome], None] = lambda _outcome: None,
) -> ReproAnswer:
    """Reproduce the targets; `begun` hears of a stage and of where it runs, `ended` of what became of it.

    Raises:
        UserError: when DVC refuses a target or a file, or no worker has what a stage asks for.
        OutsideError: when the workers cannot be reached.
    """
    with ExitStack() as stack:
        stack.enter_context(interruptible())
        stack.enter_context(exclusive(workspace.root, "repro", _TURN_SECONDS))
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
        count = request.workers or (None if request.cluster else os.cpu_count())
        workers = stack.enter_context(open_workers(workspace, count, request.cluster))
        with dag.at_work():
            found = Coordinator(dag, workers, begun, ended, keep_going=request.keep_going).run()
    return ReproAnswer(tuple(found))
