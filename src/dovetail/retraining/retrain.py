"""`dovetail retrain`: labelled rows added to a model's data on a branch, the pipeline run, the gates asked."""

import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from dovetail.errors import Interrupted, UnknownReference, UserError
from dovetail.gates.gate_verdict import Verdict
from dovetail.gates.rules import PROVENANCE_DATA, PROVENANCE_PUSHED, PROVENANCE_REPRODUCED
from dovetail.promotion.promote import PromoteRequest, promote
from dovetail.repo.workspace import Workspace
from dovetail.retraining import branches
from dovetail.retraining.new_rows import FEEDBACK, Target, card_of, from_file, from_log, label_column, parse_settings
from dovetail.retraining.pipeline_run import RetrainedBranch, RetrainPlan, run_pipeline
from dovetail.retraining.raw_tables import choose_table, raw_tables, tables_in
from dovetail.retraining.refusal import Refusal, nothing_new, too_early
from dovetail.retraining.table_shape import check_there, shape_of
from dovetail.serving.log.location import log_folder
from dovetail.system.locks import RETRAIN, exclusive
from dovetail.system.processes import interruptible
from dovetail.tracking.connection import Tracking
from dovetail.values.answer import Answer
from dovetail.values.reading import reading_of
from dovetail.values.registered_name import registered_name
from dovetail.values.tables import open_table

# These gates ask for what is done after the branch is made: `next` says how. They say nothing about the candidate.
_LATER = (PROVENANCE_DATA, PROVENANCE_PUSHED, PROVENANCE_REPRODUCED)


@dataclass(frozen=True, slots=True)
class RetrainRequest:
    """Which rows to add to the data of `model`, and how.

    Attributes:
        data: A file of labelled rows, or the word `feedback`.
        into: The raw table that gets them, where there are several.
        base: The revision to start from.
        pause: Hours that must have passed since the last retraining; 0 for none.
        dry_run: Check the rows and change nothing.
        workers: Run so many stages of the pipeline side by side, as `dovetail repro` does; None: one after another.
    """

    model: str
    data: str
    into: str | None = None
    base: str = "HEAD"
    pause: float = 24.0
    dry_run: bool = False
    workers: int | None = None


@dataclass(frozen=True, slots=True)
class AddedRows:
    """How many rows were added to how many."""

    added: int
    before: int

    def as_json(self) -> dict[str, int]:
        """The counts as `--json` gives them."""
        return {"added": self.added, "before": self.before, "after": self.before + self.added}


@dataclass(frozen=True, slots=True)
class DataChange:
    """The digest of a raw table before and after; `b` is None where nothing was changed."""

    path: str
    a: str
    b: str | None = None


@dataclass(frozen=True, slots=True, repr=False)
class RetrainAnswer(Answer):
    """What came of a retraining.

    Attributes:
        source: Where the rows are from.
        base: The commit that it started from.
        branch: The new branch, and `commit` the commit on it; None where nothing was run.
        into: The raw table that the rows were added to.
        version: The candidate, which `run_id` shows; `before` is the version in production.
        gates: What `dovetail promote` would say of the candidate.
        later: The names of the gates that ask for what is done after the branch is made.
        passed: Whether every other gate passed; None where nothing was run.
        refused: Why nothing was run.
        next: The commands to type next.
        set_aside: How many rows of feedback were left out, for their label is of another type or no class of the model.
    """

    model: str
    source: str
    base: str | None
    into: str | None
    rows: AddedRows | None
    data: DataChange | None
    dry_run: bool
    next: tuple[str, ...]
    refused: str | None = None
    branch: str | None = None
    commit: str | None = None
    version: int | None = None
    run_id: str | None = None
    before: int | None = None
    gates: tuple[Verdict, ...] = ()
    later: tuple[str, ...] = ()
    passed: bool | None = None
    set_aside: int = 0

    def __repr__(self) -> str:
        if self.refused:
            return f"<RetrainAnswer {self.model}: refused, {self.refused}>"
        if self.branch is None:
            return f"<RetrainAnswer {self.model}: dry run>"
        outcome = "passes its gates" if self.passed else "does not pass its gates"
        return f"<RetrainAnswer {self.model}/{self.version} on {self.branch}: {outcome}>"

    def as_json(self) -> dict[str, Any]:
        """The answer of `dovetail retrain --json`."""
        return {
            "model": self.model,
            "source": self.source,
            "base": self.base,
            "branch": self.branch,
            "commit": self.commit,
            "into": self.into,
            "rows": self.rows.as_json() if self.rows else None,
            "data": asdict(self.data) if self.data else None,
            "set_aside": self.set_aside,
            "version": self.version,
            "run_id": self.run_id,
            "from": self.before,
            "gates": [verdict.as_json() for verdict in self.gates],
            "later": list(self.later),
            "passed": self.passed,
            "dry_run": self.dry_run,
            "refused": self.refused,
            "next": list(self.next),
        }


def retrain(
    workspace: Workspace, tracking: Tracking, request: RetrainRequest, *, tell: Callable[[str], None] = lambda _: None
) -> RetrainAnswer:
    """Add rows on a new branch, run the pipeline there and ask the gates about the model that it makes.

    Nothing is promoted and the working tree stays as it is. `tell` hears what is being done.

    Raises:
        UserError: before anything is run, when the rows do not fit; or when the pipeline does not take them.
        Busy: when another retraining is at work.
        OutsideError: when git, MLflow or the remote refuses.
        Interrupted: after Ctrl-C or a signal; the message says what is made.
    """
    request = replace(request, model=registered_name(request.model))
    if request.dry_run:
        return _retrain(workspace, tracking, request, tell)
    with exclusive(tracking.root, RETRAIN, 0):
        return _retrain(workspace, tracking, request, tell)


def _retrain(
    workspace: Workspace, tracking: Tracking, request: RetrainRequest, tell: Callable[[str], None]
) -> RetrainAnswer:
    now, plan = datetime.now(UTC), None
    try:
        with interruptible():
            if request.data != FEEDBACK:
                check_there(Path(request.data))
            if not request.dry_run and (refusal := too_early(workspace.git, request.model, request.pause, now)):
                return _refused(request, None, 0, refusal)
            plan, before = _plan(workspace, tracking, request, now)
            if refusal := nothing_new(workspace.git, request.model, plan):
                return _refused(request, plan, before, refusal)
            assert plan is not None  # then nothing would be new
            if request.dry_run:
                return _planned(request, plan, before)
            made = run_pipeline(workspace, plan, tracking.uri, tell)
            tell("asking the gates")
            return _judged(workspace, tracking, _planned(request, plan, before), plan, made)
    except KeyboardInterrupt as error:
        if plan is None or workspace.git.commit(plan.branch) is None:
            what = f"{request.model} was not retrained, everything is as it was"
            next_command = "run the same command again"
        else:
            what, next_command = f"{plan.branch} is made, its gates were not asked", f"git show {plan.branch}"
        raise Interrupted(what, next_command) from error


def _plan(
    workspace: Workspace, tracking: Tracking, request: RetrainRequest, now: datetime
) -> tuple[RetrainPlan | None, int]:
    """What will be done (None: no row is new), and how many rows there are now.

    Everything is checked that needs no run of the pipeline.
    """
    commit = workspace.git.commit(request.base)
    if commit is None:
        raise workspace.unknown_revision(request.base)
    tree = workspace.at(commit)
    model = tree.model(request.model)
    name = branches.branch_name(model.name, now)
    branches.check_name(workspace.git, name)
    settings = parse_settings(model.declared_name, model.retrain)
    lineage = tree.lineage(model)
    raw = choose_table(raw_tables(tree, lineage), request.into or settings.into, model.name)
    files, how = tables_in(tree, raw), reading_of(raw.ref.path, lineage.stages)
    if not files:
        raise UserError(f"the folder {raw.ref.path} holds no table", "put the first one there yourself")
    with tempfile.TemporaryDirectory() as folder:
        places = [workspace.storage.locate(file, commit, Path(folder)) for file in files]
        shape = shape_of(places[0], files[0].path, how)
        known = branches.keys(workspace.git.content(commit.sha, raw.record), f"{commit.sha[:8]}:{raw.record}")
        card = card_of(tree, model)
        label = label_column(model, card, settings, shape)
        target = Target(model.declared_name, shape, settings, label, card.get("classes"))
        if request.data == FEEDBACK:
            rows = from_log(log_folder(tracking.root, model.name), target, known)
        else:
            rows = from_file(Path(request.data), target)
        before = sum(open_table(place, file.path, how).count() for place, file in zip(places, files, strict=True))
    if rows is None or set(rows.keys) <= known:
        return None, before
    return RetrainPlan(tree, model, lineage, raw, files[0], rows, name, request.workers), before


def _judged(
    workspace: Workspace, tracking: Tracking, planned: RetrainAnswer, plan: RetrainPlan, made: RetrainedBranch
) -> RetrainAnswer:
    """The answer, with what `dovetail promote` would say of the candidate."""
    model = planned.model
    with tracking.store() as store:
        version = store.find_version(model, made.model_md5)
    if version is None:
        what = f"{plan.branch} was created, but MLflow has no version of {model} with md5 {made.model_md5}"
        raise UnknownReference(what, "dovetail sync --all")
    promotion = promote(workspace, tracking, PromoteRequest(model, version.number, dry_run=True))
    refusing = [gate.name for gate in promotion.gates if not gate.passed]
    later = tuple(name for name in refusing if name in _LATER)
    passed = len(refusing) == len(later)
    rebuild = [f"dovetail reproduce {model}/{version.number}"] if PROVENANCE_REPRODUCED in later else []
    accept = f"dovetail promote {model} --version {version.number}"
    reject = [f"dovetail diff {model} {model}/{version.number}", f"git branch -D {plan.branch}"]
    return replace(
        planned,
        branch=plan.branch,
        commit=made.commit,
        data=DataChange(plan.raw.ref.path, plan.raw.ref.md5, made.data_md5),
        version=version.number,
        run_id=version.run_id,
        before=promotion.before,
        gates=promotion.gates,
        later=later,
        passed=passed,
        next=tuple([*_publishing(workspace, plan, made), *rebuild, accept] if passed else reject),
    )


def _publishing(workspace: Workspace, plan: RetrainPlan, made: RetrainedBranch) -> list[str]:
    """The commands that show the branch and its data to others, where there is a remote for them."""
    remotes = workspace.git("remote").split()
    shown = [f"git push {remotes[0]} {plan.branch}" if remotes else f"git merge {plan.branch}"]
    commits = workspace.git.commits([made.commit], limit=1)
    return [*shown, workspace.remote.push_command(commits)] if workspace.remote.objects() else shown


def _planned(request: RetrainRequest, plan: RetrainPlan, before: int) -> RetrainAnswer:
    """What is known before anything is run."""
    return RetrainAnswer(
        model=request.model,
        source=plan.rows.source,
        base=plan.tree.commit.sha,
        into=plan.raw.ref.path,
        rows=AddedRows(plan.rows.table.num_rows, before),
        data=DataChange(plan.raw.ref.path, plan.raw.ref.md5),
        dry_run=request.dry_run,
        next=(f"dovetail retrain {request.model} --with {request.data}",),
        set_aside=plan.rows.set_aside,
    )


def _refused(request: RetrainRequest, plan: RetrainPlan | None, before: int, refusal: Refusal) -> RetrainAnswer:
    if plan:
        return replace(_planned(request, plan, before), refused=refusal.why, next=(refusal.next,))
    return RetrainAnswer(
        model=request.model,
        source=request.data,
        base=None,
        into=request.into,
        rows=None,
        data=None,
        dry_run=request.dry_run,
        next=(refusal.next,),
        refused=refusal.why,
    )
