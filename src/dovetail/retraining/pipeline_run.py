"""A commit and more rows, run through the pipeline in a clean worktree: registered, committed and made a branch."""

import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from dovetail.errors import PipelineFailed, UserError
from dovetail.repo.dvc_files import is_in
from dovetail.repo.dvc_values import Model
from dovetail.repo.trees import Revision
from dovetail.repo.workspace import Workspace, open_workspace
from dovetail.repo.worktree import Worktree, sharing_worktree
from dovetail.retraining import branches
from dovetail.retraining.append_rows import append, begin
from dovetail.retraining.new_rows import Rows, digest
from dovetail.retraining.raw_tables import GIT, RawTable
from dovetail.retraining.remove_stage import withdraw
from dovetail.system.processes import deferred
from dovetail.values.lineage import FileRef, Lineage

_LINES = 4  # of a failed stage's output


@dataclass(frozen=True, slots=True)
class Order:
    """What is to be made.

    Attributes:
        tree: The commit to begin with, and `lineage` what it says of `model`.
        raw: The table that gets `rows`; `sample` is a file of it.
        branch: The name of the branch to make.
    """

    tree: Revision
    model: Model
    lineage: Lineage
    raw: RawTable
    sample: FileRef
    rows: Rows
    branch: str


@dataclass(frozen=True, slots=True)
class Made:
    """The commit on the new branch, the raw table's digest and the model's there."""

    commit: str
    data_md5: str
    model_md5: str


def run(workspace: Workspace, order: Order, store: str, tell: Callable[[str], None]) -> Made:
    """Make the branch. Until the model is registered nothing of the user's is changed but DVC's cache, which grows.

    Raises:
        UserError: when the pipeline does not take the rows, or what reads them from outside cannot be taken out of it.
        DataUnavailable: when data that is needed is in neither the cache nor the remote.
        OutsideError: when git or MLflow refuses.
    """
    who = workspace.git.identity()
    with sharing_worktree(workspace, order.tree.commit, store) as place:
        _lay(workspace, order, place)
        added = _write(order, place)
        pipeline, registration = _commands(order, place, added)
        tell(f"running the pipeline upstream of {order.model.name}")
        _run(place, pipeline, order)
        # From here to the branch an interruption waits: an alias must not move for what no commit holds.
        with deferred():
            tell(f"registering {order.model.name}")
            _run(place, registration, order)
            with open_workspace(place.root) as copy:
                data = copy.hash(order.raw.ref.path).md5
                made = copy.tree.artifact(copy.tree.model(order.model.name)).md5
                files = [*_new_files(copy, added), order.raw.memory]
            text = branches.message(order.model.name, str(order.rows), order.raw.ref.path, order.raw.ref.md5, data)
            commit = place.commit(order.branch, text, files, who)
            workspace.git.take_branch(place.repository, order.branch)
    return Made(commit, data, made)


def _lay(workspace: Workspace, order: Order, place: Worktree) -> None:
    """Bring the data that no stage will make anew: what DVC keeps, and what comes of that alone."""
    with open_workspace(place.root) as copy:
        frozen = {name for name, recipe in copy.recipes().items() if recipe.frozen}
        sources = [ref for ref in _sources(order) if not order.tree.keeps(ref.path)]
        outs = [ref for ref in _untouched(order, frozen) if not order.tree.keeps(ref.path)]
        gone = workspace.unobtainable(outs)  # DVC runs their stages
        needed = [*sources, *(ref for ref in outs if ref not in gone)]
        workspace.fetch(needed)
        copy.check_out(needed)


def _sources(order: Order) -> Iterator[FileRef]:
    read = [dep.path for stage in order.lineage.stages for dep in stage.deps] + list(order.model.beside)
    yield from (e.ref for e in order.tree.tracked.values() if any(e.ref.overlaps(path) for path in read))
    yield from (order.raw.stage.outs if order.raw.stage else ())


def _untouched(order: Order, frozen: set[str]) -> Iterator[FileRef]:
    """The outputs of stages that the rows do not reach, or that DVC is told not to run."""
    changed = [order.raw.ref]
    for stage in order.lineage.stages:  # each after those that it needs
        if stage != order.raw.stage and any(ref.overlaps(dep.path) for ref in changed for dep in stage.deps):
            changed += stage.outs
            if stage.name not in frozen:
                continue
        yield from (out for out in stage.outs if not (order.raw.stage and out in order.raw.stage.outs))


def _write(order: Order, place: Worktree) -> list[str]:
    """Add the rows, and note that they were; returns what DVC is to add."""
    raw, table = order.raw, order.rows.table
    if raw.stage:
        withdraw(place.root, raw.stage.name)
    if raw.ref.is_folder:
        ending = "".join(Path(order.sample.path).suffixes[-2:] if order.sample.path.endswith(".gz") else
                         Path(order.sample.path).suffixes[-1:])  # fmt: skip
        path = f"{raw.ref.path}/added-{digest(table)[:12]}{ending}"
        begin(place.root / path, place.root / order.sample.path, table)
    else:
        path = raw.ref.path
        append(place.root / path, table)
    memory = place.root / raw.memory
    before = memory.read_text(encoding="utf-8") if memory.is_file() else ""
    memory.write_text(branches.remembered(before, order.rows.keys), encoding="utf-8")
    if raw.keeper == GIT:
        return []
    if raw.stage:
        return [out.path for out in raw.stage.outs if not order.tree.keeps(out.path)]
    return [raw.owner if raw.owner in order.tree.tracked else path]


def _commands(order: Order, place: Worktree, added: Sequence[str]) -> tuple[list[str], list[str]]:
    """What runs everything before the model's registration, and what registers it."""
    model = order.model
    with open_workspace(place.root) as copy:
        copy.add(added)
    with open_workspace(place.root) as copy:
        names = set(copy.recipes())
        makers = copy.tree.declared.outs
    if order.raw.stage and (lost := _lost(order, names)):
        raise UserError(
            f"{order.raw.stage.name} cannot be taken out of the pipeline without {', '.join(lost)}",
            f"version what it reads yourself: dvc add {order.raw.owner}",
        )
    shown = (model.path, *model.beside)
    wanted = list(dict.fromkeys(stage for path, stage in makers.items() if any(is_in(file, path) for file in shown)))
    if not wanted:
        raise UserError(f"no stage makes {model.path}", f"add a stage that trains {model.name} to dvc.yaml")
    repro = f"{shlex.quote(sys.executable)} -P -m dvc repro"  # no module of the user's in place of DVC's
    register = makers.get(model.receipt)
    return (
        [f"{repro} {shlex.join(wanted)}"],
        [
            f"{repro} --single-item {shlex.quote(register)}"
            if register
            else f"dovetail register {shlex.quote(model.name)}"
        ],
    )


def _lost(order: Order, names: set[str]) -> list[str]:
    """The stages of the lineage that are no longer declared, but for the one that was taken out."""
    return sorted({s.name for s in order.lineage.stages if s != order.raw.stage} - names)


def _run(place: Worktree, commands: Sequence[str], order: Order) -> None:
    if code := place.run("", commands, "", Path(sys.executable)):
        said = [line.strip() for line in place.log.read_text(encoding="utf-8", errors="replace").splitlines()]
        last = " | ".join([line for line in said if line][-_LINES:])
        raise PipelineFailed(
            f"the pipeline of {order.model.name} ended with exit code {code}, no branch was made: {last}",
            f"mend the rows or the stage, then: dovetail retrain {order.model.name} --with …",
        )


def _new_files(copy: Workspace, added: Sequence[str]) -> list[str]:
    """The files that git is to keep and may not know: dvc.lock, what `dvc add` wrote, metrics."""
    uncached = [out.path for step in copy.steps for out in step.outs if not out.cached]
    locks = [lock.relative_to(copy.root).as_posix() for lock in copy.locks()]
    beside = [name for path in added for name in (f"{path}.dvc", str(Path(path).with_name(".gitignore")))]
    return [file for path in (*locks, *beside, *uncached) for file in copy.git.paths(path)]
