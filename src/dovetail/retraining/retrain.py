"""Close the loop: labelled rows added to a model's data on a branch, the pipeline run, the gates asked."""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from dovetail.errors import DovetailError, Interrupted, MissingFile, UnknownReference, UserError
from dovetail.promotion.promote import Wish, promote
from dovetail.repo.dvc_values import Model
from dovetail.repo.trees import Revision
from dovetail.repo.workspace import Workspace
from dovetail.retraining import branches
from dovetail.retraining.new_rows import FEEDBACK, ReadLog, Rows, Settings, Target, from_feedback, from_file, settings
from dovetail.retraining.pipeline_run import Made, Order, run
from dovetail.retraining.raw_tables import RawTable, choose, raw_tables, tables_in
from dovetail.retraining.table_shape import Shape, shape_of
from dovetail.system.locks import exclusive
from dovetail.system.processes import interruptible
from dovetail.tracking.connection import open_store, tracking_uri
from dovetail.values.tables import open_table

# What these gates ask for is done after the branch is made: `next` says how. They tell nothing about the candidate.
_LATER = ("provenance.data", "provenance.pushed", "provenance.reproduced")


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked for: `data` is a file or the word feedback, `pause` in hours."""

    model: str
    data: str
    into: str | None = None
    base: str = "HEAD"
    pause: float = 24.0
    dry_run: bool = False


def retrain(
    workspace: Workspace, request: Request, read_log: ReadLog, tell: Callable[[str], None] = lambda _: None
) -> dict[str, Any]:
    """The answer of `dovetail retrain`; `passed` says whether the candidate passes its gates.

    `read_log` gives the rows of a folder of prediction logs.

    Raises:
        UserError: before anything is run, when the rows do not fit; or when the pipeline does not take them.
        Busy: when another one is at work.
        OutsideError: when git, MLflow or the remote refuses.
        Interrupted: after Ctrl-C or a signal; the message says what is made.
    """
    if request.dry_run:
        return _retrain(workspace, request, read_log, tell)
    with exclusive(workspace.store_root, "dovetail-retrain", 0):
        return _retrain(workspace, request, read_log, tell)


def _retrain(workspace: Workspace, request: Request, read_log: ReadLog, tell: Callable[[str], None]) -> dict[str, Any]:
    now, order = datetime.now(UTC), None
    try:
        with interruptible():
            if not request.dry_run and (refused := _too_early(workspace, request, now)):
                return _answer(request, None, refused=refused)
            order, before = _order(workspace, request, read_log, now)
            refused = _nothing_new(workspace, request, order)
            if order is None or refused or request.dry_run:
                return _answer(request, order, before, refused)
            made = run(workspace, order, tracking_uri(workspace.store_root), tell)
            tell("asking the gates")
            return _judged(workspace, request, order, before, made)
    except KeyboardInterrupt as error:
        if order is None or workspace.git.commit(order.branch) is None:
            what, following = f"{request.model} was not retrained, everything is as it was", "the same again"
        else:
            what, following = f"{order.branch} is made, its gates were not asked", f"git show {order.branch}"
        raise Interrupted(what, following) from error


def _nothing_new(workspace: Workspace, request: Request, order: Order | None) -> tuple[str, str] | None:
    """Why there is nothing to add: HEAD has it all, or a branch that waits has."""
    if order is None:
        why = f"nothing new: no labelled row of {request.model} that was not added before"
        return why, "label predictions, or give a file"
    for candidate in branches.waiting(workspace.git, request.model, order.raw.memory):
        if set(order.rows.keys) <= candidate.added:
            following = f"merge it, or forget it: {candidate.deletion}"
            return f"nothing new: {candidate.branch} added these rows", following
    return None


def _too_early(workspace: Workspace, request: Request, now: datetime) -> tuple[str, str] | None:
    newest = branches.last(workspace.git, request.model)
    if newest is None or not request.pause:
        return None
    free = datetime.fromtimestamp(newest.time, UTC) + timedelta(hours=request.pause)
    if now >= free:
        return None
    what = f"{request.model} was retrained by {newest.sha[:8]}; the next may begin at {free:%Y-%m-%dT%H:%M:%SZ}"
    return f"{what}, {request.pause:g} hours after it", "the same again then, or by hand with --pause 0"


def _order(workspace: Workspace, request: Request, read_log: ReadLog, now: datetime) -> tuple[Order | None, int]:
    """What is to be made, and how many rows there are now; everything is checked that needs no pipeline."""
    commit = workspace.git.commit(request.base)
    if commit is None:
        raise UnknownReference(f"git knows no revision {request.base!r}", "git log --oneline --all")
    tree = workspace.at(commit)
    model = tree.model(request.model)
    name = branches.branch_name(model.name, now)
    branches.check(workspace.git, name)
    wanted = settings(model.name, model.retrain)
    lineage = tree.lineage(model)
    raw = choose(raw_tables(tree, lineage), request.into or wanted.into, model.name)
    files = tables_in(tree, raw)
    if not files:
        raise UserError(f"the folder {raw.ref.path} holds no table", "put the first one there yourself")
    with tempfile.TemporaryDirectory() as folder:
        places = [workspace.locate(file, commit, Path(folder)) for file in files]
        shape = shape_of(places[0], files[0].path)
        known = _known(workspace, tree, raw)
        target = Target(model.name, shape, wanted, _label(tree, model, wanted, shape))
        rows = _rows(workspace, request, read_log, target, known)
        before = sum(open_table(place, file.path).count() for place, file in zip(places, files, strict=True))
    if rows is None or set(rows.keys) <= known:
        return None, before
    return Order(tree, model, lineage, raw, files[0], rows, name), before


def _known(workspace: Workspace, tree: Revision, raw: RawTable) -> frozenset[str]:
    assert tree.commit is not None
    return branches.keys(workspace.git("show", f"{tree.commit.sha}:./{raw.memory}"))


def _rows(
    workspace: Workspace, request: Request, read_log: ReadLog, target: Target, known: frozenset[str]
) -> Rows | None:
    if request.data != FEEDBACK:
        return from_file(Path(request.data), target)
    folder = workspace.store_root / "monitoring" / target.model
    if not folder.is_dir():
        what = f"{folder} is not there: no served {target.model} has written a prediction log"
        raise MissingFile(what, f"dovetail serve {target.model}")
    try:
        return from_feedback(read_log(folder), target, known)
    except OSError as error:
        raise MissingFile(f"the prediction log {folder} cannot be read: {error}", f"ls -l {folder}") from error


def _label(tree: Revision, model: Model, wanted: Settings, shape: Shape) -> str | None:
    """The label's column in the raw table: as it is set, else the only one that the model does not take."""
    named = [*wanted.columns.values(), *([wanted.raw_label] if wanted.raw_label else [])]
    if unknown := sorted(set(named) - set(shape.types)):
        what = (
            f"artifacts.{model.name}.meta.retrain names columns that {shape.path} does not have: {', '.join(unknown)}"
        )
        raise UserError(what, f"use {', '.join(shape.types)}")
    if wanted.raw_label:
        return wanted.raw_label
    try:
        card = tree.card(model)
    except DovetailError:  # it is in no cache and no remote; a file needs none
        card = None
    taken = {wanted.columns.get(entry["name"], entry["name"]) for entry in (card or {}).get("inputs", ())}
    left = [name for name in shape.types if name not in taken]
    return left[0] if taken and len(left) == 1 else None


def _judged(workspace: Workspace, request: Request, order: Order, before: int, made: Made) -> dict[str, Any]:
    """The answer, with what `dovetail promote` would say of the candidate."""
    with open_store(workspace.store_root) as store:
        version = store.find_version(request.model, made.model_md5)
    if version is None:
        raise UnknownReference(
            f"{order.branch} is made, but MLflow has no version of {request.model} with md5 {made.model_md5}",
            "dovetail sync --all",
        )
    verdict = promote(Wish(request.model, version.number, dry_run=True))
    answer = _answer(request, order, before)
    refusing = [gate["name"] for gate in verdict["gates"] if not gate["passed"]]
    later = [name for name in refusing if name in _LATER]
    passed = refusing == later
    rebuilt = [f"dovetail reproduce {request.model}/{version.number}"] if "provenance.reproduced" in later else []
    promoted = f"dovetail promote {request.model} --version {version.number}"
    refused = [f"dovetail diff {request.model} {request.model}/{version.number}", f"git branch -D {order.branch}"]
    return {
        **answer,
        "branch": order.branch,
        "commit": made.commit,
        "data": {**answer["data"], "b": made.data_md5},
        "version": version.number,
        "run_id": version.run_id,
        "from": verdict["from"],
        "gates": verdict["gates"],
        "later": later,
        "passed": passed,
        "next": [*_publishing(workspace, order, made), *rebuilt, promoted] if passed else refused,
    }


def _publishing(workspace: Workspace, order: Order, made: Made) -> list[str]:
    """What shows the branch and its data to others, where there is somewhere to show them."""
    remotes = workspace.git("remote").split()
    shown = [f"git push {remotes[0]} {order.branch}" if remotes else f"git merge {order.branch}"]
    commits = workspace.git.commits([made.commit], limit=1)
    return [*shown, workspace.push_command(commits)] if workspace.remote() else shown


def _answer(
    request: Request, order: Order | None, before: int = 0, refused: tuple[str, str] | None = None
) -> dict[str, Any]:
    """What is known before anything is run."""
    added = order.rows.table.num_rows if order else 0
    path = order.raw.ref.path if order else request.into
    return {
        "model": request.model,
        "source": order.rows.source if order else request.data,
        "base": order.tree.commit.sha if order else None,
        "branch": None,
        "commit": None,
        "into": path,
        "rows": {"added": added, "before": before, "after": before + added} if order else None,
        "data": {"path": path, "a": order.raw.ref.md5, "b": None} if order else None,
        "version": None,
        "run_id": None,
        "from": None,
        "gates": [],
        "later": [],
        "passed": None,
        "dry_run": request.dry_run,
        "refused": refused[0] if refused else None,
        "next": [refused[1]] if refused else [f"dovetail retrain {request.model} --with {request.data}"],
    }
