"""Make MLflow say what git and DVC say: every commit a run and a version, every experiment a run, once each."""

from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import asdict, dataclass
from functools import cache, partial
from typing import Any

from dovetail.registration.adoption import declares_models, named
from dovetail.registration.alias_check import disagreements, repair_command
from dovetail.registration.evidence_check import changed_evidence
from dovetail.registration.package_check import other_packages
from dovetail.registration.probe import ValueDigests
from dovetail.registration.register import move_staging
from dovetail.registration.repair import RepairResult, repair_from
from dovetail.registration.restore_order import in_order
from dovetail.registration.restorer import Count, Restorer
from dovetail.registration.row_counts import RowCounts
from dovetail.repo.dvc_files import DOCUMENTS
from dovetail.repo.ledger import UNASSIGN
from dovetail.repo.tree import Tree
from dovetail.repo.workspace import Workspace
from dovetail.system.locks import take_turns, write_lock
from dovetail.tracking.connection import Tracking, relocate_store
from dovetail.tracking.store import Store
from dovetail.values.answer import Answer
from dovetail.values.finding import Finding


@dataclass(frozen=True, slots=True)
class SyncRequest:
    """How much to walk.

    Attributes:
        everything: All branches, tags and experiments, not the history of HEAD alone.
        repair: Read every version's model file too, and repair broken versions.
    """

    everything: bool = False
    repair: bool = False


@dataclass(frozen=True, slots=True)
class AliasMove:
    """An alias that names another version than before; None: no version."""

    model: str
    alias: str
    before: int | None
    after: int | None

    def as_json(self) -> dict[str, Any]:
        """The entry in the answer of `dovetail sync --json`."""
        return {"model": self.model, "alias": self.alias, "from": self.before, "to": self.after}


@dataclass(frozen=True, slots=True, repr=False)
class SyncAnswer(Answer):
    """What was made, what was there, and what could not be restored.

    Attributes:
        relocated: Folders that a moved SQLite store named and that are now this one.
        repaired: Versions that lacked their run or their files.
        passed_over: Models of commits that no ref names, whose bytes nobody has: `m of commit 1234abcd`.
        retagged: How many runs and versions had tags as an older Dovetail laid them out.
    """

    runs: Count
    versions: Count
    aliases: tuple[AliasMove, ...]
    problems: tuple[Finding, ...]
    relocated: tuple[str, ...]
    repaired: tuple[str, ...]
    passed_over: tuple[str, ...] = ()
    retagged: int = 0

    def __repr__(self) -> str:
        made = f"{self.runs.created} runs and {self.versions.created} versions created"
        return f"<SyncAnswer {made}, {len(self.aliases)} aliases moved, {len(self.problems)} problems>"

    def as_json(self) -> dict[str, Any]:
        """The answer of `dovetail sync --json`."""
        return {
            "runs": asdict(self.runs),
            "versions": asdict(self.versions),
            "aliases": [move.as_json() for move in self.aliases],
            "problems": [problem.as_json("what", "why", "next") for problem in self.problems],
            "mended": list(self.relocated),
            "repaired": list(self.repaired),
            "passed_over": list(self.passed_over),
            "retagged": self.retagged,
        }


def sync(
    workspace: Workspace,
    tracking: Tracking,
    request: SyncRequest = SyncRequest(),
    *,
    progress: Callable[[int, int], None] = lambda done, total: None,  # noqa: ARG005  (their names are the contract)
) -> SyncAnswer:
    """Restore what is missing in MLflow, oldest commit first, so that versions get their old numbers.

    The paths in a SQLite store whose folder was moved are corrected first. What is there stays as it is; what cannot be
    restored is listed and the rest is done. Interrupted and run again it goes on. `progress` is told how many of how
    many are done.

    Raises:
        StoreError: when MLflow does not answer.
        UserError: when the working tree's own dvc.yaml or dvc.lock cannot be read.
    """
    problems: list[Finding] = []
    if workspace.git.is_shallow:
        next_command = "git fetch --unshallow, then run the same command again"
        problems.append(Finding("error", "shallow clone", "older commits are not here", next_command))
    relocated = relocate_store(tracking.root)
    known = tracking.exists or declares_models((workspace.tree, *_trees(workspace, request)))
    with closing(ValueDigests()) as values, tracking.store() if known else tracking.reading() as store:
        before = {name: store.aliases(name) for name in workspace.tree.declared.models}
        repaired = RepairResult()
        if request.repair:
            with write_lock(tracking.root):
                repaired = repair_from(_trees(workspace, request), store, workspace.scratch, workspace.ledger)
            problems += [*repaired.problems, *changed_evidence(workspace, store)]
        tips = cache(partial(named, workspace))
        where = workspace.git, workspace.store_root, workspace.scratch
        restorer = Restorer(store, *where, workspace.ledger, problems, values, tips)
        with store.remembering_missing():
            missing = [one for tree in _trees(workspace, request) for one in restorer.missing(tree)]
        outdated = store.outdated_tags(before)
        total = len(missing) + len(outdated)
        ordered = enumerate(in_order(missing, next_number=restorer.next_number), 1)
        for turn in take_turns(tracking.root, ordered):
            with store.remembering_missing():
                for number, one in turn:
                    restorer.restore(one)
                    progress(number, total)
        with write_lock(tracking.root):
            for model, version in restorer.earned.items():
                move_staging(store, model, version)
            restorer.descriptions.write(store, RowCounts(workspace))
            problems += _follow_ledger(workspace, store, set(before), restorer.problems)
            tried = request.repair or restorer.versions.created > 0
            for name in before:
                store.tag_packages(name)
                problems += other_packages(workspace, store, name, tried=tried)
        for places in take_turns(tracking.root, enumerate(outdated, len(missing) + 1)):
            for number, place in places:
                store.migrate_tags(place)
                progress(number, total)
        after = {name: store.aliases(name) for name in before}
        moves = [
            AliasMove(name, alias, old.get(alias), new.get(alias))
            for old, (name, new) in zip(before.values(), after.items(), strict=True)
            for alias in sorted({*old, *new})
            if old.get(alias) != new.get(alias)
        ]
    return SyncAnswer(
        restorer.runs, restorer.versions, tuple(moves), tuple(problems), tuple(relocated), tuple(repaired.versions),
        tuple(restorer.passed_over), len(outdated),
    )  # fmt: skip


def _trees(workspace: Workspace, request: SyncRequest) -> Iterator[Tree]:
    revs = ["HEAD", "--branches", "--tags", "--remotes"] if request.everything else ["HEAD"]
    if workspace.git.head:
        for commit in reversed(workspace.git.commits(revs, *DOCUMENTS)):
            yield workspace.at(commit)
    yield workspace.tree
    if request.everything:
        for name, sha in workspace.git.experiments().items():
            if tip := workspace.git.commit(sha):
                yield workspace.at(tip, experiment=name)


def _follow_ledger(workspace: Workspace, store: Store, models: set[str], problems: list[Finding]) -> Iterator[Finding]:
    """Let each alias name what the ledger says; gives those for which that is not possible.

    `problems` says why versions could not be restored: what is to be done about one is to be done about its aliases.
    """
    known = {problem.what: problem.next for problem in problems}
    for found in disagreements(workspace, store, models):
        if found.expected is not None:
            store.set_alias(found.model, found.alias, found.expected.number)
        elif found.event and found.event.kind == UNASSIGN:
            store.delete_alias(found.model, found.alias)
        else:
            next_command = repair_command(workspace, found)
            if found.event and next_command == "dovetail sync --all":
                next_command = known.get(f"{found.model} of commit {found.event.tag.commit[:8]}", next_command)
            yield Finding("error", f"{found.model}@{found.alias}", found.why, next_command)
