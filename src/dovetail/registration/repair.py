"""Versions whose run or files are missing or changed: find them, and repair them from what git and DVC hold."""

import tempfile
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from enum import Enum
from pathlib import Path

from dovetail.errors import DovetailError
from dovetail.registration.projection import Projection, project
from dovetail.registration.register import apply, compile_version, logged_model
from dovetail.repo.dvc_values import Model
from dovetail.repo.ledger import Ledger
from dovetail.repo.tree import Tree
from dovetail.tracking.store import Run, Store, Version
from dovetail.values import tag_keys
from dovetail.values.finding import Finding
from dovetail.values.lineage import Lineage


class Fault(Enum):
    """What can be wrong with a version."""

    RUN_DELETED = "its run was deleted: the next sync would make a second one"
    RUN_GONE = "its run is missing for good, so nothing says what made it"
    LINEAGE = "its run's lineage.json is missing or cannot be read, so nothing says what made it"
    FILES = "its model file is gone: it cannot be served"
    BYTES = "its model file is not the one that was registered: its loader refuses it"
    PACKAGE = "its package is not the one that was registered"
    COMPILED = "its compiled model is missing or not the one that its tag names: a server does without it"


@dataclass(frozen=True, slots=True)
class BrokenVersion:
    """A version and all that is wrong with it."""

    version: Version
    faults: tuple[Fault, ...]
    fingerprint: str | None  # of its run; None where that is missing
    package: str | None = None  # the digest that its package should have, where that is known
    parts: tuple[str, ...] = ()  # of its package that can be told to differ

    @property
    def lacks_files(self) -> bool:
        """Whether its files are to be written again."""
        return bool({Fault.FILES, Fault.BYTES, Fault.PACKAGE} & set(self.faults))

    def why(self, fault: Fault) -> str:
        """What is wrong, with what differs where that is known."""
        return f"{fault.value}: {', '.join(self.parts)}" if fault is Fault.PACKAGE and self.parts else fault.value

    def is_of(self, lineage: Lineage) -> bool:
        """Whether `lineage` has what is missing: the bytes, and for the run's own files the very same stages."""
        same_run = Fault.LINEAGE not in self.faults or self.fingerprint == lineage.fingerprint
        return self.version.md5 == lineage.artifact.md5 and same_run


def broken_versions(store: Store, name: str, ledger: Ledger) -> Iterator[BrokenVersion]:
    """Every version of the model `name` that Dovetail made and that is broken; its files are read.

    `ledger` says what the packages of promoted versions consist of.
    """
    for version in store.versions(name):
        event = ledger.package(name, version.md5) if version.md5 else None
        note = event.note if event else None
        expected = note.package if note else version.package
        if version.md5 and (faults := tuple(_faults(store, version, expected))):
            run = store.run(version.run_id)
            parts = store.differing_parts(version, note.requirements if note else ()) if Fault.PACKAGE in faults else ()
            fingerprint = run.tags.get(tag_keys.FINGERPRINT) if run else None
            yield BrokenVersion(version, faults, fingerprint, expected, tuple(parts))


def _faults(store: Store, version: Version, expected: str | None) -> Iterator[Fault]:
    run = store.run(version.run_id)
    if run is None:
        yield Fault.RUN_GONE
    else:
        if not run.active:
            yield Fault.RUN_DELETED
        if store.lineage(run.id) is None:
            yield Fault.LINEAGE
    served = store.served_md5(version)
    if served != version.md5:
        yield Fault.BYTES if served else Fault.FILES
    elif expected and {store.package_of(version), version.package or expected} != {expected}:
        yield Fault.PACKAGE
    elif store.compiled_md5(version) != version.onnx_md5:
        yield Fault.COMPILED


@dataclass
class RepairResult:
    """The versions that were repaired, and why others were not."""

    versions: list[str] = field(default_factory=list)
    problems: list[Finding] = field(default_factory=list)

    def note(self, one: BrokenVersion) -> None:
        """Say once that the version was repaired."""
        if _name(one) not in self.versions:
            self.versions.append(_name(one))


def repair_from(trees: Iterable[Tree], store: Store, scratch: Path, ledger: Ledger) -> RepairResult:
    """Repair every broken version from one of `trees` that has its bytes: the first that gives the package it had."""
    done = RepairResult(store.restore_models())
    left: list[BrokenVersion] = []
    for one in [one for name in store.models() for one in broken_versions(store, name, ledger)]:
        if Fault.RUN_DELETED in one.faults:
            store.restore_run(one.version.run_id)  # MLflow itself still has it
        if one.faults == (Fault.RUN_DELETED,):
            done.note(one)
        else:
            left.append(one)
    others: list[tuple[BrokenVersion, Tree, Model]] = []  # where the package would be another one
    for one, tree, model in _candidates(trees, left):
        if _repaired(store, one, (tree, model, scratch), done, exactly=True):
            left.remove(one)
        else:
            others.append((one, tree, model))
    for one, tree, model in others:
        if one in left:
            left.remove(one)
            _repaired(store, one, (tree, model, scratch), done, exactly=False)
    for one in left:
        why = f"no tree that was walked has its bytes (md5 {one.version.md5})"
        next_command = "git push, in the clone that made it, then here: git fetch && dovetail sync --all --repair"
        done.problems.append(Finding("error", _name(one), why, next_command))
    return done


def _candidates(trees: Iterable[Tree], left: list[BrokenVersion]) -> Iterator[tuple[BrokenVersion, Tree, Model]]:
    """Each of the versions that are `left` by then with each tree that has its bytes."""
    for tree in trees:
        for model, lineage in _readable(tree) if left and tree.experiment is None else ():
            for one in [one for one in left if one.version.model == model.name and one.is_of(lineage)]:
                yield one, tree, model


def _repaired(
    store: Store, one: BrokenVersion, source: tuple[Tree, Model, Path], done: RepairResult, *, exactly: bool
) -> bool:
    """Repair the version and note in `done` what came of it; `exactly`: only if its package is then the known one."""
    tree, model, scratch = source
    try:
        with tempfile.TemporaryDirectory(dir=scratch) as folder:
            projection = project(tree, model, Path(folder))
            known = exactly and one.package and one.lacks_files and Fault.RUN_GONE not in one.faults
            if known and store.package_if_replaced(one.version, projection.artifact) != one.package:
                return False
            repair(store, one, projection)
    except DovetailError as error:
        done.problems.append(Finding.of(error, _name(one)))
    else:
        done.note(one)
    return True


def _readable(tree: Tree) -> Iterator[tuple[Model, Lineage]]:
    """The models of the tree, as far as it can be read: what cannot, the walk of `sync` lists."""
    try:
        models = tree.models.values()
    except DovetailError:
        return
    for model in models:
        with suppress(DovetailError):
            yield model, tree.lineage(model)


def _name(one: BrokenVersion) -> str:
    return f"{one.version.model}/{one.version.number}"


def repair(store: Store, one: BrokenVersion, projection: Projection) -> None:
    """Repair the version; its number stays, unless its run is missing: MLflow cannot give it another."""
    if Fault.RUN_GONE in one.faults:
        _replace(store, one.version, projection)
        return
    if Fault.LINEAGE in one.faults:
        run = Run(one.version.run_id, complete=True, experiment=store.experiment(one.version.model))
        store.fill_run(run, projection.run)
    if one.lacks_files:
        package = store.replace_files(one.version, projection.artifact)
        store.tag_version(one.version, {tag_keys.PICKLE_ALLOW: ",".join(projection.artifact.allow)})
        if one.package is None or package != one.package:  # the compiled model may be missing, too
            version = replace(one.version, package=package)
            compile_version(store, version, projection, again=True)
    elif Fault.COMPILED in one.faults:
        compile_version(store, one.version, projection, again=True)


def _replace(store: Store, version: Version, projection: Projection) -> None:
    """A new version of the same bytes; the aliases that named the old one follow, and the old one goes last.

    Interrupted and done again it goes on with the version that it made.
    """
    name, tags = version.model, projection.provenance.tags()
    made = Run(apply(store, projection).run_id, complete=True, experiment=store.experiment(name))
    same = (v for v in store.versions(name) if v.md5 == version.md5 and v.run_id == made.id)
    new = next(same, None) or store.create_version(
        name, logged_model(store, made, projection), made, tags, projection.model.desc
    )
    compile_version(store, new, projection)
    for alias, number in store.aliases(name).items():
        if number == version.number:
            store.set_alias(name, alias, new.number)
    store.delete_version(version)
