"""Where git, DVC and MLflow stand, model by model, and where they disagree."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from dovetail.errors import DovetailError, MissingFile, StaleLock
from dovetail.registration import loading, notes, workspace_check
from dovetail.registration.alias_check import Disagreement, disagreements, repair_command, unfit
from dovetail.repo.dvc_values import Model
from dovetail.repo.workspace import Workspace
from dovetail.tracking.connection import Tracking
from dovetail.tracking.store import Store, Version
from dovetail.tracking.store_error import without_secrets
from dovetail.values.answer import Answer
from dovetail.values.documents import Unreadable, load_document
from dovetail.values.finding import Finding
from dovetail.values.lineage import Lineage, closure
from dovetail.values.reference import PRODUCTION, STAGING


@dataclass(frozen=True, slots=True)
class StatusRequest:
    """Every model that dvc.yaml declares, or one of them."""

    model: str | None = None


@dataclass(frozen=True, slots=True)
class WorkspaceModel:
    """The model in the workspace.

    Attributes:
        md5: None where it was not trained.
        version: The number of the version with these bytes; None where there is none.
        committed: Whether a commit records it.
        pushed: Whether the remote has it and its sources; None where no remote is set or it does not answer.
    """

    md5: str | None = None
    version: int | None = None
    committed: bool = False
    pushed: bool | None = None

    def as_json(self) -> dict[str, Any]:
        """The model's `workspace` in the answer of `dovetail status --json`."""
        return {"md5": self.md5, "version": self.version, "committed": self.committed, "pushed": self.pushed}


@dataclass(frozen=True, slots=True)
class AliasedVersion:
    """The version that an alias names; both None where it names none."""

    version: int | None
    md5: str | None

    def as_json(self) -> dict[str, Any]:
        """The alias in the answer of `dovetail status --json`."""
        return {"version": self.version, "md5": self.md5}


@dataclass(frozen=True, slots=True)
class ModelStatus:
    """One model in git, DVC and MLflow."""

    model: str
    workspace: WorkspaceModel
    staging: AliasedVersion
    production: AliasedVersion
    problems: tuple[Finding, ...]
    notes: tuple[Finding, ...] = ()  # what is to be known and is no problem

    @property
    def in_sync(self) -> bool:
        """Whether there is no problem."""
        return not self.problems

    def as_json(self) -> dict[str, Any]:
        """The entry in the answer of `dovetail status --json`."""
        return {
            "model": self.model,
            "workspace": self.workspace.as_json(),
            STAGING: self.staging.as_json(),
            PRODUCTION: self.production.as_json(),
            "in_sync": self.in_sync,
            "problems": [problem.as_json("what", "next") for problem in self.problems],
            "notes": [note.as_json("what", "next") for note in self.notes],
        }


@dataclass(frozen=True, slots=True, repr=False)
class StatusAnswer(Answer):
    """Each model that dvc.yaml declares, in its order."""

    models: tuple[ModelStatus, ...]

    @property
    def in_sync(self) -> bool:
        """Whether no model has a problem."""
        return all(model.in_sync for model in self.models)

    def __repr__(self) -> str:
        shown = (f"{m.model}: {'in sync' if m.in_sync else f'{len(m.problems)} problems'}" for m in self.models)
        return f"<StatusAnswer {', '.join(shown) or 'no model'}>"

    def as_json(self) -> dict[str, Any]:
        """The answer of `dovetail status --json`."""
        return {"models": [model.as_json() for model in self.models]}


def status(workspace: Workspace, tracking: Tracking, request: StatusRequest = StatusRequest()) -> StatusAnswer:
    """Compare the workspace, the registry's versions and the aliases of each model.

    Raises:
        StoreError: when MLflow does not answer.
        UnknownModel: when dvc.yaml declares no such model.
        UserError: when dvc.yaml or dvc.lock cannot be read.
    """
    asked = workspace.tree.model(request.model) if request.model else None
    models = {asked.name: asked} if asked else workspace.tree.declared.models
    with tracking.reading() as store:
        moved = list(disagreements(workspace, store, set(models)))
        mistyped = workspace.pipeline.unknown_inputs()
        unfit_tags = [(name, _problem(one.what, one.next)) for name, one in unfit(workspace, store, set(models))]
        return StatusAnswer(
            tuple(
                _model(workspace, store, model, moved, [*unfit_tags, *_of_models(workspace, models, mistyped)])
                for model in models.values()
            )
        )


def _model(
    workspace: Workspace, store: Store, model: Model, moved: list[Disagreement], unfit_tags: list[tuple[str, Finding]]
) -> ModelStatus:
    problems = [problem for name, problem in unfit_tags if name == model.name]
    versions = store.versions(model.name)
    aliases = store.aliases(model.name)
    staging, production = (_aliased(versions, aliases, alias) for alias in (STAGING, PRODUCTION))
    staged = next((version for version in versions if version.number == staging.version), None)
    lineage = _lineage(workspace, model, problems)
    here = _workspace(workspace, store.uri, versions, staged, model, lineage, problems) if lineage else WorkspaceModel()
    for alias, number in aliases.items():
        if all(version.number != number for version in versions):
            problems.append(_problem(f"@{alias} names version {number}, which does not exist", "dovetail sync"))
    problems += [
        _problem(f"version {found.version.number} cannot be loaded: {found.why}", found.next)
        for found in loading.unreadable(workspace, store, [model.name])
    ]
    problems += [_problem(found.why, repair_command(workspace, found)) for found in moved if found.model == model.name]
    told = _notes(workspace, store, lineage, list(notes.named(versions, aliases)))
    return ModelStatus(model.name, here, staging, production, tuple(problems), tuple(told))


def _notes(
    workspace: Workspace, store: Store, lineage: Lineage | None, named: list[notes.NamedVersion]
) -> Iterator[Finding]:
    if lineage:
        yield from notes.of_data(workspace, lineage)
    for one in named:
        if lineage:
            yield from notes.since(workspace, store, lineage, one)
        yield from notes.elsewhere(store, one)


def _lineage(workspace: Workspace, model: Model, problems: list[Finding]) -> Lineage | None:
    try:
        return workspace.tree.lineage(model)
    except (MissingFile, StaleLock) as error:
        problems.append(_problem(error.message, error.next_command))
        return None


def _of_models(
    workspace: Workspace, models: Mapping[str, Model], mistyped: list[tuple[str, Finding]]
) -> Iterator[tuple[str, Finding]]:
    """What stages read and nobody has, with the models that they make; as far as dvc.lock does not say, with all."""
    for name, model in models.items() if mistyped else ():
        stages = {stage.name for stage in closure(workspace.tree.records, [model.path, *model.register_deps])}
        yield from ((name, found) for address, found in mistyped if address in stages or not stages)


def _aliased(versions: list[Version], aliases: dict[str, int], alias: str) -> AliasedVersion:
    number = aliases.get(alias)
    return AliasedVersion(number, next((v.md5 for v in versions if v.number == number), None))


def _workspace(  # noqa: PLR0913, PLR0917
    workspace: Workspace,
    uri: str,
    versions: list[Version],
    staged: Version | None,
    model: Model,
    lineage: Lineage,
    problems: list[Finding],
) -> WorkspaceModel:
    version = next((v.number for v in versions if v.md5 == lineage.artifact.md5), None)
    if version is None:
        problems.append(_unregistered(workspace, uri, model, lineage))
    elif found := workspace_check.behind_or_ahead(workspace, model, lineage, version, staged):
        problems.append(found)
    problems += workspace_check.changed_sources(workspace, lineage)
    committed = workspace.is_committed(lineage.kept.md5)
    if not committed:
        problems.append(_problem("no commit contains the dvc.lock that records this model", "git add -A && git commit"))
    return WorkspaceModel(lineage.artifact.md5, version, committed, _pushed(workspace, lineage, problems))


def _unregistered(workspace: Workspace, uri: str, model: Model, lineage: Lineage) -> Finding:
    if not _is_registered_elsewhere(workspace, model, lineage):
        return _problem("the workspace's model is not registered", f"dovetail register {model.name}")
    what = (
        f"{model.receipt} says that the model is registered, and MLflow at {without_secrets(uri)} does not have it: so "
    )
    return _problem(what + "`dvc repro` does nothing", "dovetail sync")


def _is_registered_elsewhere(workspace: Workspace, model: Model, lineage: Lineage) -> bool:
    """Whether the receipt, by which DVC knows that the register stage is done, is of this very model."""
    try:
        content = load_document((workspace.root / model.receipt).read_bytes(), model.receipt)
    except (OSError, Unreadable):
        return False
    return isinstance(content, dict) and content.get("fingerprint") == lineage.fingerprint


def _pushed(workspace: Workspace, lineage: Lineage, problems: list[Finding]) -> bool | None:
    needed = [lineage.artifact, *(ref for ref, role in lineage.data.items() if role == "source")]
    try:
        missing = workspace.remote.missing(needed)
    except DovetailError as error:
        problems.append(_problem(error.message, error.next_command))
        return None
    if missing is None:
        return None
    if missing:
        names = ", ".join(ref.path for ref in missing)
        problems.append(_problem(f"not in the remote: {names}", "dvc push"))
    return not missing


def _problem(what: str, next_command: str) -> Finding:
    return Finding("error", what, "", next_command)
