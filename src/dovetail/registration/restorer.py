"""What MLflow lacks of the models in trees, found and made, one after the other."""

import re
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from dovetail.errors import DataMissing, DovetailError, MissingFile, StaleLock, UserError
from dovetail.registration import stage_times
from dovetail.registration.describe import Descriptions, subject
from dovetail.registration.probe import ValueDigests
from dovetail.registration.projection import project
from dovetail.registration.register import record
from dovetail.registration.restore_order import Restorable
from dovetail.repo.dvc_files import OWN_RECORDS
from dovetail.repo.git import Git
from dovetail.repo.git_values import Commit
from dovetail.repo.ledger import Ledger
from dovetail.repo.tree import Tree
from dovetail.tracking.store import Store
from dovetail.values import tag_keys
from dovetail.values.finding import Finding
from dovetail.values.reference import STAGING


@dataclass(frozen=True, slots=True)
class Count:
    """How many were made, and how many were there."""

    created: int = 0
    present: int = 0

    def add(self, *, created: bool) -> "Count":
        """One more."""
        return replace(self, created=self.created + created, present=self.present + (not created))


@dataclass(frozen=True, slots=True)
class Staged:
    """The version that `staging` names: its number, when it was made, and the first commit that holds it, if known."""

    number: int = 0
    time: int = 0
    commit: Commit | None = None


@dataclass
class Restorer:
    """Finds what is missing in trees and restores it, and counts."""

    store: Store
    git: Git
    root: Path  # where it is kept how long stages took
    scratch: Path
    ledger: Ledger
    problems: list[Finding]
    values: ValueDigests
    named: Callable[[], frozenset[str]]  # the fingerprints of the models that a ref or the working tree names
    runs: Count = Count()
    versions: Count = Count()
    descriptions: Descriptions = field(default_factory=Descriptions)
    seen: set[tuple[str, str, bool]] = field(default_factory=set)
    staging: dict[str, Staged] = field(default_factory=dict)  # what it named when it was first asked for
    told: set[str] = field(default_factory=set)
    earned: dict[str, int] = field(default_factory=dict)  # by model: what it is to name in the end
    passed_over: list[str] = field(default_factory=list)

    def missing(self, tree: Tree) -> Iterator[Restorable]:
        """The models of `tree` that no tree before had and that are not complete in MLflow."""
        try:
            models = list(tree.models.values())
        except DovetailError as error:
            self._problem(tree, tree.where, error)
            return
        for model in models:
            try:
                lineage = tree.lineage(model)
            except (MissingFile, StaleLock):
                continue  # not trained at this commit, or the working tree is in between: nothing to show
            except UserError as error:
                if tree.time is None:  # the working tree
                    raise
                self._problem(tree, tree.where, error)
                return
            key = (model.name, lineage.fingerprint, tree.experiment is None)
            self.descriptions.see(subject(tree, model, lineage))
            if key not in self.seen:
                self.seen.add(key)
                is_version = tree.experiment is None
                number = self.ledger.number(model.name, lineage.artifact.md5) if is_version else None
                one = Restorable(tree, model, lineage, is_version, number)
                if self._is_complete(one):
                    self._count(one, run_created=False, version_created=False)
                else:
                    yield one

    def next_number(self, name: str) -> int:
        """The number that MLflow gives to the next version of the model."""
        return max((version.number for version in self.store.versions(name)), default=0) + 1

    def restore(self, one: Restorable) -> None:
        """Make its run and version, or list why not."""
        try:
            with tempfile.TemporaryDirectory(dir=self.scratch) as folder:
                projection = project(one.tree, one.model, Path(folder))
                projection = projection.with_span(stage_times.known(self.root, one.lineage))
                value = self.values.of(projection.artifact.file, tuple(projection.artifact.allow))
                recorded = record(self.store, projection.with_value(value))
                result = recorded.done
        except DovetailError as error:
            what = f"{one.model.name} of {one.tree.where}"
            if isinstance(error, DataMissing) and one.lineage.fingerprint not in self.named():
                self.passed_over.append(what)
            else:
                self._problem(one.tree, what, error)
        else:
            self._count(one, run_created=result.run_created, version_created=result.version_created)
            self.descriptions.found(one.lineage, recorded.run, recorded.version)
            if result.version and projection.earns_staging and self._is_newer(one):
                self.earned[one.model.name] = max(result.version, self.earned.get(one.model.name, 0))
            if one.number and result.version != one.number:
                taken = "is taken" if one.number < (result.version or 0) else "is too far above the others"
                why = f"it was version {one.number} when it was promoted, that number {taken}: now {result.version}"
                what, next_command = f"{one.model.name} of {one.tree.where}", f"dovetail history {one.model.name}"
                self.problems.append(Finding("error", what, why, next_command))

    def _count(self, one: Restorable, *, run_created: bool, version_created: bool) -> None:
        self.runs = self.runs.add(created=run_created)
        if one.is_version:
            self.versions = self.versions.add(created=version_created)

    def _is_complete(self, one: Restorable) -> bool:
        """Whether nothing is left to do, by the tags alone: no byte of the model is read."""
        run = self.store.find_run(self.store.experiment(one.model.name), one.lineage.fingerprint)
        if run is None or not run.complete:
            return False
        if not one.is_version:
            self.descriptions.found(one.lineage, run, None)
            return True
        version = self.store.find_version(one.model.name, one.lineage.artifact.md5)
        if version is None:
            return False
        self.descriptions.found(one.lineage, run, version)
        return version.number <= self._staged(one).number or not self._is_newer(one)

    def _is_newer(self, one: Restorable) -> bool:
        """Whether its commit is not older than the version that `staging` named when it was first asked for.

        Git's history says so, whatever the clocks of those who made the commits said; time counts between branches.
        """
        if one.tree.time is None or one.tree.commit is None:
            return True
        staged, commit = self._staged(one), one.tree.commit.sha
        if staged.commit and self.git.is_ancestor(staged.commit.sha, commit):
            return True
        if staged.commit and self.git.is_ancestor(commit, staged.commit.sha):
            return False
        return one.tree.time // 1000 >= staged.time // 1000

    def _staged(self, one: Restorable) -> Staged:
        """That version; it was made when it was trained, or first committed."""
        name = one.model.name
        if name not in self.staging:
            number = self.store.aliases(name).get(STAGING, 0)
            version = self.store.version(name, number) if number else None
            run = self.store.run(version.run_id) if version else None
            sha = run.tags.get(tag_keys.COMMITTED) if run else None
            commit = self.git.commit(sha) if sha else None
            if commit is None and version and version.md5:
                commit = next(reversed(self.git.commits_with(version.md5, *OWN_RECORDS, experiments=False)), None)
            times = [run.started, run.ended] if run else []
            self.staging[name] = Staged(number, max([*times, commit.time * 1000 if commit else 0]), commit)
        return self.staging[name]

    def _problem(self, tree: Tree, what: str, error: DovetailError) -> None:
        said = error.message
        if tree.commit:  # a broken file is the same in each commit until somebody corrects it
            said = re.sub(rf"{tree.commit.sha[:7]}\w*", "", said)
        if said not in self.told:
            self.told.add(said)
            self.problems.append(Finding.of(error, what))
