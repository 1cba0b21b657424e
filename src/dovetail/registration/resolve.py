"""REF → the version or run that it names, and the commit that holds what made it."""

from collections.abc import Iterable
from dataclasses import dataclass

from dovetail.errors import DovetailError, UnknownReference
from dovetail.repo.git_values import Commit
from dovetail.repo.workspace import Workspace
from dovetail.tracking.run_content import LINEAGE_FILE
from dovetail.tracking.store import RunDetails, Store
from dovetail.tracking.store_error import without_secrets
from dovetail.values import tag_keys
from dovetail.values.lineage import Lineage
from dovetail.values.names import unknown
from dovetail.values.reference import PRODUCTION, STAGING, STANDARD, ByAlias, ByCommit, ByRun, ByVersion, Reference


@dataclass(frozen=True, slots=True)
class TrackedModel:
    """A registered version, or a run without one, and what made it."""

    model: str
    version: int | None
    run: RunDetails
    lineage: Lineage


def resolve(workspace: Workspace, store: Store, reference: Reference) -> TrackedModel:
    """The version or run that a reference names.

    Raises:
        UnknownReference: naming what there is.
    """
    if isinstance(reference, ByRun):
        run = store.run(reference.run_id)
        if run is None:
            raise UnknownReference(
                f"MLflow at {without_secrets(store.uri)} has no run {reference.run_id!r}", "dovetail list"
            )
        found = _recorded(store, run)
        version = store.find_version(found.model, found.artifact.md5)
        return TrackedModel(found.model, version.number if version else None, run, found)
    if isinstance(reference, ByCommit):
        return _of_commit(workspace, store, reference)
    if isinstance(reference, ByAlias):
        number = _aliased(store, reference)
        reference = ByVersion(reference.model, number)
    if not isinstance(reference, ByVersion):
        models = [*workspace.tree.declared.models, *store.models()]
        raise UnknownReference(unknown("this repository", "model", str(reference), models), "dovetail list")
    known = store.version(reference.model, reference.version)
    run = store.run(known.run_id) if known else None
    if known is None or run is None:
        _check_model(store, reference.model)
        numbers = [version.number for version in store.versions(reference.model)]
        what = unknown(reference.model, "version", reference.version, numbers)
        raise UnknownReference(what, f"dovetail list {reference.model}" if numbers else "dovetail sync")
    return TrackedModel(known.model, known.number, run, _recorded(store, run))


def _aliased(store: Store, reference: ByAlias) -> int:
    aliases = store.aliases(reference.model)
    for alias in (reference.alias,) if reference.alias else (PRODUCTION, STAGING):
        if alias in aliases:
            return aliases[alias]
    _check_model(store, reference.model)
    wanted = reference.alias or f"{PRODUCTION} or {STAGING}"
    what = unknown(reference.model, "alias", wanted, aliases)
    next_command = f"dovetail promote {reference.model}" + (f" --to {wanted}" if wanted in STANDARD[1:] else "")
    raise UnknownReference(what, next_command if wanted in STANDARD or not reference.alias else "dovetail list")


def _check_model(store: Store, name: str) -> None:
    """Check that MLflow has a model of that name.

    Raises:
        UnknownReference: naming those that it has.
    """
    models = store.models()
    if name not in models:
        raise UnknownReference(unknown("MLflow", "model", name, models), "dovetail list" if models else "dovetail sync")


def _of_commit(workspace: Workspace, store: Store, reference: ByCommit) -> TrackedModel:
    tree = workspace.tree_of(reference.rev)
    found = tree.lineage(tree.model(reference.model))
    known = store.find_run(store.experiment(reference.model), found.fingerprint)
    run = store.run(known.id) if known else None
    if run is None:
        raise UnknownReference(
            f"MLflow shows no run of {reference.model} in {tree.where} (fingerprint {found.fingerprint[:8]})",
            "dovetail sync --all",
        )
    version = store.find_version(reference.model, found.artifact.md5)
    return TrackedModel(reference.model, version.number if version else None, run, found)


def _recorded(store: Store, run: RunDetails) -> Lineage:
    """What the run itself keeps of its lineage: it answers for what was never committed, too."""
    if found := store.lineage(run.id):
        return found
    if store.has_file(run.id, LINEAGE_FILE):
        raise UnknownReference(f"{LINEAGE_FILE} of run {run.id} cannot be read", "dovetail sync --repair")
    if tag_keys.FINGERPRINT in run.tags:
        raise UnknownReference(f"{LINEAGE_FILE} of run {run.id} is gone", "dovetail sync --repair")
    raise UnknownReference(f"run {run.id} was not made by dovetail: it has no {LINEAGE_FILE}", "dovetail list")


def commit_of(workspace: Workspace, made: Lineage, *, experiments: bool = False) -> Commit | None:
    """The newest commit of a branch or tag (or of an experiment) that holds the model with all that made it."""
    return _holding(workspace, made, workspace.commits_with(made.kept.md5, experiments=experiments))


def first_commit_of(workspace: Workspace, made: Lineage) -> Commit | None:
    """The oldest commit of a branch or tag that holds the model with all that made it."""
    return _holding(workspace, made, reversed(workspace.commits_with(made.kept.md5, experiments=False)))


def _holding(workspace: Workspace, made: Lineage, commits: Iterable[Commit]) -> Commit | None:
    for commit in commits:
        tree = workspace.at(commit)
        try:
            records = tree.records  # read without DVC: many commits of these bytes made them in another way
            if any(stage.name not in records or records[stage.name].inputs != stage.inputs for stage in made.stages):
                continue
            if tree.lineage(tree.model(made.model)).fingerprint == made.fingerprint:
                return commit
        except DovetailError:  # of another shape; not this one
            continue
    return None
