"""Make MLflow say what git and DVC say: every commit a run and a version, every experiment a run, once each."""

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from dovetail.errors import DovetailError, MissingFile, StaleLock
from dovetail.registration.alias_check import Followed
from dovetail.registration.register import move_staging, project, record
from dovetail.registration.repair import repair_from
from dovetail.repo.dvc_values import Model
from dovetail.repo.ledger import UNASSIGN, Ledger
from dovetail.repo.tree import Tree
from dovetail.repo.workspace import Workspace
from dovetail.system.locks import take_turns, write_lock
from dovetail.tracking.connection import mend_moved, open_store
from dovetail.tracking.store import Store
from dovetail.values.lineage import Lineage
from dovetail.values.reference import STAGING

_WATCHED = (":(glob)**/dvc.lock", ":(glob)**/dvc.yaml")


@dataclass
class Synced:
    """What was made, what was there, and what could not be had."""

    runs: dict[str, int] = field(default_factory=lambda: {"created": 0, "present": 0})
    versions: dict[str, int] = field(default_factory=lambda: {"created": 0, "present": 0})
    aliases: list[dict[str, Any]] = field(default_factory=list)
    problems: list[dict[str, Any]] = field(default_factory=list)
    mended: list[str] = field(default_factory=list)  # folders that the store named and that were moved here
    repaired: list[str] = field(default_factory=list)  # versions that lacked their run or their files

    def as_json(self) -> dict[str, Any]:
        """The answer of `dovetail sync --json`."""
        return asdict(self)


def sync(
    workspace: Workspace,
    *,
    everything: bool = False,
    repair: bool = False,
    progress: Callable[[int, int], None] = lambda done, total: None,  # noqa: ARG005  (their names are the contract)
) -> Synced:
    """Restore what is missing in MLflow, oldest commit first, so that versions get their old numbers.

    A SQLite store whose folder was moved is mended first. Walks the history of HEAD and the working tree; with
    `everything` all branches, tags and experiments. What is there stays as it is; what cannot be restored is listed and
    the rest is done. Interrupted and run again it goes on. With `repair` every version's model file is read, and what a
    version lost, or what was changed of it, is laid anew. `progress` is told how many of how many are done.

    Raises:
        StoreError: when MLflow does not answer.
        UserError: when the working tree's own dvc.yaml or dvc.lock cannot be read.
    """
    done = Synced()
    if workspace.git.is_shallow:
        why, following = "older commits are not here", "git fetch --unshallow, then the same again"
        done.problems.append({"what": "shallow clone", "why": why, "next": following})
    done.mended.extend(mend_moved(workspace.store_root))
    with open_store(workspace.store_root) as store:
        followed = Followed(workspace)
        before = {name: store.aliases(name) for name in workspace.tree.declared.models}
        if repair:
            with write_lock(workspace.store_root):
                repaired = repair_from(_trees(workspace, everything=everything), store, workspace.scratch)
            done.repaired += repaired.versions
            done.problems += repaired.problems
        session = _Session(store, done, workspace.scratch, workspace.ledger)
        with store.recalling():
            missing = [one for tree in _trees(workspace, everything=everything) for one in session.missing(tree)]
        ordered = enumerate(in_order(missing, next_number=session.next_number), 1)
        for turn in take_turns(workspace.store_root, ordered):
            with store.recalling():
                for number, one in turn:
                    session.show(one)
                    progress(number, len(missing))
        with write_lock(workspace.store_root):
            for model, version in session.earned.items():
                move_staging(store, model, version)
            _follow(store, followed, done, set(before))
        for name, old in before.items():
            new = store.aliases(name)
            done.aliases += [
                {"model": name, "alias": alias, "from": old.get(alias), "to": new.get(alias)}
                for alias in sorted({*old, *new})
                if old.get(alias) != new.get(alias)
            ]
    return done


def _trees(workspace: Workspace, *, everything: bool) -> Iterator[Tree]:
    revs = ["HEAD", "--branches", "--tags", "--remotes"] if everything else ["HEAD"]
    if workspace.git.commit("HEAD"):
        for commit in reversed(workspace.git.commits(revs, *_WATCHED)):
            yield workspace.at(commit)
    yield workspace.tree
    if everything:
        for name, sha in workspace.git.experiments().items():
            if tip := workspace.git.commit(sha):
                yield workspace.at(tip, experiment=name)


def _follow(store: Store, followed: Followed, done: Synced, models: set[str]) -> None:
    """Let each alias name what the ledger says."""
    for found in followed.disagreements(store, models):
        if found.said is not None:
            store.set_alias(found.model, found.alias, found.said.number)
        elif found.event and found.event.kind == UNASSIGN:
            store.delete_alias(found.model, found.alias)
        else:
            version = f" --version {found.shown}" if found.shown else ""
            mend = f"dovetail promote {found.model}{version}" if found.event is None else "dovetail sync --all"
            done.problems.append({"what": f"{found.model}@{found.alias}", "why": found.why, "next": mend})


@dataclass(frozen=True, slots=True, eq=False)
class Missing:
    """What MLflow does not show yet of a model in a tree; `number` is that of a version that was promoted."""

    tree: Tree
    model: Model
    lineage: Lineage
    is_version: bool
    number: int | None


def in_order(missing: list[Missing], next_number: Callable[[str], int]) -> list[Missing]:
    """As they came, except that a promoted version comes no later than its number.

    What was never committed took a number too, so there may be too few before it: `skip_numbers` uses up the rest.
    Where there are too many before it, they come after.
    """
    ordered: dict[Missing, None] = {}
    for name in dict.fromkeys(one.model.name for one in missing):
        mine = [one for one in missing if one.model.name == name]
        promoted = sorted((one for one in mine if one.number), key=lambda one: one.number or 0)
        number = next_number(name)
        for one in mine:
            due = [first for first in promoted if (first.number or 0) <= number and first not in ordered]
            for first in (*due, one):
                if first not in ordered:
                    ordered[first] = None
                    number = max(number, first.number or 0) + first.is_version
    return list(ordered)


@dataclass
class _Session:
    """One walk over the trees."""

    store: Store
    done: Synced
    scratch: Path
    ledger: Ledger
    seen: set[tuple[str, str, bool]] = field(default_factory=set)
    staging: dict[str, int] = field(default_factory=dict)  # what it named when it was first asked for
    earned: dict[str, int] = field(default_factory=dict)  # by model: what it is to name in the end

    def missing(self, tree: Tree) -> Iterator[Missing]:
        """The models of `tree` that no tree before had and that MLflow does not show whole."""
        try:
            models = tree.declared.models.values()
        except DovetailError as error:
            self._problem(tree.where, error)
            return
        for model in models:
            try:
                lineage = tree.lineage(model)
            except (MissingFile, StaleLock):
                continue  # not trained at this commit, or the working tree is in between: nothing to show
            key = (model.name, lineage.fingerprint, tree.experiment is None)
            if key not in self.seen:
                self.seen.add(key)
                number = self.ledger.number(model.name, lineage.artifact.md5)
                one = Missing(
                    tree, model, lineage, tree.experiment is None, number if tree.experiment is None else None
                )
                if self._is_shown(one):
                    self._count(one, run_created=False, version_created=False)
                else:
                    yield one

    def next_number(self, name: str) -> int:
        """The number that MLflow gives to the next version of the model."""
        return max((version.number for version in self.store.versions(name)), default=0) + 1

    def show(self, one: Missing) -> None:
        """Show it, or list why not."""
        try:
            with tempfile.TemporaryDirectory(dir=self.scratch) as folder:
                projection = project(one.tree, one.model, Path(folder))
                result = record(self.store, projection)
        except DovetailError as error:
            self._problem(f"{one.model.name} of {one.tree.where}", error)
        else:
            self._count(one, run_created=result.run_created, version_created=result.version_created)
            if result.version and projection.earns_staging:
                self.earned[one.model.name] = max(result.version, self.earned.get(one.model.name, 0))
            if one.number and result.version != one.number:
                why = f"it was version {one.number} when it was promoted, that number is taken: now {result.version}"
                following = f"dovetail history {one.model.name}"
                self.done.problems.append(
                    {"what": f"{one.model.name} of {one.tree.where}", "why": why, "next": following}
                )

    def _count(self, one: Missing, *, run_created: bool, version_created: bool) -> None:
        self.done.runs["created" if run_created else "present"] += 1
        if one.is_version:
            self.done.versions["created" if version_created else "present"] += 1

    def _is_shown(self, one: Missing) -> bool:
        """Whether nothing is left to do, told from tags alone: no byte of the model is read."""
        run = self.store.find_run(self.store.experiment(one.model.name), one.lineage.fingerprint)
        if run is None or not run.complete:
            return False
        if not one.is_version:
            return True
        version = self.store.find_version(one.model.name, one.lineage.artifact.md5)
        name = one.model.name
        if name not in self.staging:
            self.staging[name] = self.store.aliases(name).get(STAGING, 0)
        return version is not None and version.number <= self.staging[name]

    def _problem(self, what: str, error: DovetailError) -> None:
        self.done.problems.append({"what": what, "why": error.message, "next": error.next_command})
