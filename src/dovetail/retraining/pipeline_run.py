"""The pipeline, run in a clean worktree on a commit with more rows: the model is registered, the result a branch."""

import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from dovetail.errors import PipelineFailed, UserError
from dovetail.repo.dvc_files import is_in
from dovetail.repo.dvc_values import Model
from dovetail.repo.revision import Revision
from dovetail.repo.workspace import Workspace, open_workspace
from dovetail.repo.worktree import Worktree, sharing_worktree
from dovetail.retraining import branches
from dovetail.retraining.append_rows import append_rows, write_rows
from dovetail.retraining.finished_stages import tell_finished_stages
from dovetail.retraining.new_rows import NewRows, digest
from dovetail.retraining.raw_tables import GIT, RawTable
from dovetail.retraining.remove_stage import remove_stage
from dovetail.system.processes import deferred
from dovetail.values.lineage import FileRef, Lineage
from dovetail.values.reading import Reading, reading_of

_LINES = 4  # of a failed stage's output


@dataclass(frozen=True, slots=True)
class RetrainPlan:
    """What a retraining will do.

    Attributes:
        tree: The commit to start from; `lineage` is that of `model` there.
        raw: The table that `rows` are added to; `sample` is a file of it.
        branch: The name of the branch to make.
        workers: How many stages run side by side; None: one after another, as under `dvc repro`.
    """

    tree: Revision
    model: Model
    lineage: Lineage
    raw: RawTable
    sample: FileRef
    rows: NewRows
    branch: str
    workers: int | None = None

    @property
    def how(self) -> Reading:
        """How the data set of the raw table reads it."""
        return reading_of(self.raw.ref.path, self.lineage.stages)


@dataclass(frozen=True, slots=True)
class RetrainedBranch:
    """The commit on the new branch, and the digests of the raw table and of the model there."""

    commit: str
    data_md5: str
    model_md5: str


def run_pipeline(workspace: Workspace, plan: RetrainPlan, store: str, tell: Callable[[str], None]) -> RetrainedBranch:
    """Make the branch. Until the model is registered only DVC's cache changes, which grows.

    Raises:
        UserError: when the pipeline does not take the rows, or a stage that reads from outside cannot be removed.
        DataUnavailable: when data that is needed is in neither the cache nor the remote.
        OutsideError: when git or MLflow refuses.
    """
    who = workspace.git.identity()
    with sharing_worktree(workspace, plan.tree.commit, store) as place:
        _restore_data(workspace, plan, place)
        added = _write(plan, place)
        pipeline, registration = _commands(plan, place, added)
        tell(f"running the pipeline upstream of {plan.model.name}")
        with tell_finished_stages(place.root / "dvc.lock", tell):
            _run(place, pipeline, plan)
        # From here to the branch an interruption waits: an alias must not move for what no commit holds.
        with deferred():
            tell(f"registering {plan.model.name}")
            _run(place, registration, plan)
            with open_workspace(place.root) as copy:
                data = copy.storage.hash(plan.raw.ref.path).md5
                made = copy.tree.artifact(copy.tree.model(plan.model.name)).md5
                files = [*_new_files(copy, added), plan.raw.record]
            text = branches.message(plan.model.name, str(plan.rows), plan.raw.ref.path, plan.raw.ref.md5, data)
            commit = place.commit(plan.branch, text, files, who)
            workspace.git.take_branch(place.repository, plan.branch)
            workspace.remote.forget()  # stages may push
    return RetrainedBranch(commit, data, made)


def _restore_data(workspace: Workspace, plan: RetrainPlan, place: Worktree) -> None:
    """Restore the data that no stage makes anew: what DVC keeps, and outputs that the rows do not change."""
    with open_workspace(place.root) as copy:
        frozen = {stage.address for stage in copy.pipeline.stages if stage.frozen}
        sources = [ref for ref in _sources(plan) if not plan.tree.keeps(ref.path)]
        outs = [ref for ref in _untouched(plan, frozen) if not plan.tree.keeps(ref.path)]
        unavailable = workspace.remote.missing_everywhere(outs)  # DVC runs their stages
        needed = [*sources, *(ref for ref in outs if ref not in unavailable)]
        workspace.storage.fetch(needed)
        copy.storage.check_out(needed)


def _sources(plan: RetrainPlan) -> Iterator[FileRef]:
    read = [dep.path for stage in plan.lineage.stages for dep in stage.deps] + list(plan.model.register_deps)
    yield from (e.ref for e in plan.tree.tracked.values() if any(e.ref.overlaps(path) for path in read))
    yield from (plan.raw.stage.outs if plan.raw.stage else ())


def _untouched(plan: RetrainPlan, frozen: set[str]) -> Iterator[FileRef]:
    """The outputs of stages that do not depend on the rows, or that are frozen."""
    changed = [plan.raw.ref]
    for stage in plan.lineage.stages:  # each after those that it needs
        if stage != plan.raw.stage and any(ref.overlaps(dep.path) for ref in changed for dep in stage.deps):
            changed += stage.outs
            if stage.name not in frozen:
                continue
        yield from (out for out in stage.outs if not (plan.raw.stage and out in plan.raw.stage.outs))


def _write(plan: RetrainPlan, place: Worktree) -> list[str]:
    """Add the rows and record their keys; returns what is to be added to DVC."""
    raw, table = plan.raw, plan.rows.table
    if raw.stage:
        remove_stage(place.root, raw.stage.name)
    if raw.ref.is_folder:
        ending = "".join(Path(plan.sample.path).suffixes[-2:] if plan.sample.path.endswith(".gz") else
                         Path(plan.sample.path).suffixes[-1:])  # fmt: skip
        path = f"{raw.ref.path}/added-{digest(table)[:12]}{ending}"
        write_rows(place.root / path, place.root / plan.sample.path, table, plan.how)
    else:
        path = raw.ref.path
        append_rows(place.root / path, table, plan.how)
    record = place.root / raw.record
    before = plan.tree.read(plan.tree.file(raw.record)).decode() if plan.tree.keeps(raw.record) else ""
    record.write_text(branches.with_keys(before, plan.rows.keys), encoding="utf-8")
    if raw.keeper == GIT:
        return []
    if raw.stage:
        return [out.path for out in raw.stage.outs if not plan.tree.keeps(out.path)]
    return [raw.owner if raw.owner in plan.tree.tracked else path]


def _commands(plan: RetrainPlan, place: Worktree, added: Sequence[str]) -> tuple[list[str], list[str]]:
    """The commands that run everything before the model's registration, and those that register it."""
    model = plan.model
    with open_workspace(place.root) as copy:
        copy.storage.add(added)
    with open_workspace(place.root) as copy:
        names = {stage.address for stage in copy.pipeline.stages}
        makers = copy.tree.declared.outs
    if plan.raw.stage and (lost := _lost(plan, names)):
        raise UserError(
            f"{plan.raw.stage.name} cannot be removed from the pipeline without {', '.join(lost)}",
            f"version what it reads yourself: dvc add {shlex.quote(plan.raw.owner)}",
        )
    shown = (model.path, *model.register_deps)
    wanted = list(dict.fromkeys(stage for path, stage in makers.items() if any(is_in(file, path) for file in shown)))
    if not wanted:
        raise UserError(f"no stage makes {model.path}", f"add a stage that trains {model.name} to dvc.yaml")
    repro = f"{shlex.quote(sys.executable)} -P -m dvc repro"  # no module of the user's in place of DVC's
    beside = f"dovetail repro --workers {plan.workers}"  # the command of the environment whose python this is
    register = makers.get(model.receipt)
    return (
        [f"{beside if plan.workers else repro} {shlex.join(wanted)}"],
        [
            f"{repro} --single-item {shlex.quote(register)}"
            if register
            else f"dovetail register {shlex.quote(model.name)}"
        ],
    )


def _lost(plan: RetrainPlan, names: set[str]) -> list[str]:
    """The stages of the lineage that are no longer declared, except the one that was removed."""
    return sorted({s.name for s in plan.lineage.stages if s != plan.raw.stage} - names)


def _run(place: Worktree, commands: Sequence[str], plan: RetrainPlan) -> None:
    if code := place.run("", commands, "", Path(sys.executable)):
        said = [line.strip() for line in place.log_of("").read_text(encoding="utf-8", errors="replace").splitlines()]
        last = " | ".join([line for line in said if line][-_LINES:])
        raise PipelineFailed(
            f"the pipeline of {plan.model.name} ended with exit code {code}, no branch was made: {last}",
            f"correct the rows or the stage, then: dovetail retrain {plan.model.name} --with …",
        )


def _new_files(copy: Workspace, added: Sequence[str]) -> list[str]:
    """The files to commit that git may not know yet: dvc.lock, what `dvc add` wrote, metrics."""
    uncached = [out.path for step in copy.pipeline.stages for out in step.outs if not out.cached]
    locks = [lock.relative_to(copy.root).as_posix() for lock in copy.pipeline.lock_files()]
    written = [name for path in added for name in (f"{path}.dvc", str(Path(path).with_name(".gitignore")))]
    return [file for path in (*locks, *written, *uncached) for file in copy.git.paths(path)]
