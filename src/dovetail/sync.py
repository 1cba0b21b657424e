"""Make MLflow say what git and DVC say: every commit a run and a version, every experiment a run, once each."""

import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from dovetail.connection import mend_moved, open_store
from dovetail.errors import DovetailError, MissingFile, StaleLock
from dovetail.lineage import Lineage
from dovetail.register import STAGING, apply, project, writing
from dovetail.snapshot import Model, Snapshot
from dovetail.store import Store
from dovetail.workspace import Workspace

_WATCHED = (":(glob)**/dvc.lock", ":(glob)**/dvc.yaml")


@dataclass
class Synced:
    """What was made, what was there, and what could not be had."""

    runs: dict[str, int] = field(default_factory=lambda: {"created": 0, "present": 0})
    versions: dict[str, int] = field(default_factory=lambda: {"created": 0, "present": 0})
    aliases: list[dict[str, Any]] = field(default_factory=list)
    problems: list[dict[str, Any]] = field(default_factory=list)
    mended: list[str] = field(default_factory=list)  # folders that the store named and that were moved here

    def as_json(self) -> dict[str, Any]:
        """The answer of `dovetail sync --json`."""
        return asdict(self)


def sync(workspace: Workspace, *, everything: bool = False) -> Synced:
    """Restore what is missing in MLflow, oldest commit first, so that versions get their old numbers.

    A SQLite store whose folder was moved is mended first. Walks the history of HEAD and the working tree; with
    `everything` all branches, tags and experiments. What is there stays as it is; what cannot be restored is listed and
    the rest is done. Interrupted and run again it goes on.

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
        session = _Session(store, done, workspace.scratch)
        before = {name: store.aliases(name).get(STAGING) for name in workspace.tree.declared.models}
        for tree in _trees(workspace, everything=everything):
            with writing(workspace.store_root):
                session.sync(tree)
        for name, old in before.items():
            if (new := store.aliases(name).get(STAGING)) != old:
                done.aliases.append({"model": name, "alias": STAGING, "from": old, "to": new})
    return done


def _trees(workspace: Workspace, *, everything: bool) -> Iterator[Snapshot]:
    revs = ["HEAD", "--branches", "--tags", "--remotes"] if everything else ["HEAD"]
    if workspace.git.commit("HEAD"):
        for commit in reversed(workspace.git.commits(revs, *_WATCHED)):
            yield workspace.at(commit)
    yield workspace.tree
    if everything:
        for name, sha in workspace.git.experiments().items():
            if tip := workspace.git.commit(sha):
                yield workspace.at(tip, experiment=name)


@dataclass
class _Session:
    """One walk over the trees."""

    store: Store
    done: Synced
    scratch: Path
    seen: set[tuple[str, str, bool]] = field(default_factory=set)

    def sync(self, tree: Snapshot) -> None:
        """Show every model of `tree` that no tree before had."""
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
                try:
                    self._show(tree, model, lineage)
                except DovetailError as error:
                    self._problem(f"{model.name} of {tree.where}", error)

    def _show(self, tree: Snapshot, model: Model, lineage: Lineage) -> None:
        run_created = version_created = False
        if not self._is_shown(tree, model, lineage):
            with tempfile.TemporaryDirectory(dir=self.scratch) as folder:
                result = apply(self.store, project(tree, model, Path(folder)))
            run_created, version_created = result.run_created, result.version_created
        self.done.runs["created" if run_created else "present"] += 1
        if tree.experiment is None:
            self.done.versions["created" if version_created else "present"] += 1

    def _is_shown(self, tree: Snapshot, model: Model, lineage: Lineage) -> bool:
        """Whether nothing is left to do, told from tags alone: no byte of the model is read."""
        run = self.store.find_run(self.store.experiment(model.name), lineage.fingerprint)
        if run is None or not run.complete:
            return False
        if tree.experiment is not None:
            return True
        version = self.store.find_version(model.name, lineage.artifact.md5)
        return version is not None and version.number <= self.store.aliases(model.name).get(STAGING, 0)

    def _problem(self, what: str, error: DovetailError) -> None:
        self.done.problems.append({"what": what, "why": error.message, "next": error.next_command})
