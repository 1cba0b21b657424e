"""Which version a promotion is about, and which one it would replace."""

from dataclasses import dataclass

from dovetail.errors import DovetailError, MissingFile, StaleLock, UnknownReference
from dovetail.registration.alias_check import command_for_missing, md5_of
from dovetail.registration.register import RegisterRequest, register
from dovetail.registration.resolve import TrackedModel, resolve
from dovetail.repo.dvc_values import Model
from dovetail.repo.workspace import Workspace
from dovetail.tracking.connection import Tracking
from dovetail.tracking.store import Store
from dovetail.values.reference import STAGING, ByAlias, ByVersion


@dataclass(frozen=True, slots=True)
class ChosenVersion:
    """The version, and why it is this one."""

    version: TrackedModel
    why: str


def choose(  # noqa: PLR0913  (who asks has opened all three, and names a model or a version of it)
    workspace: Workspace, tracking: Tracking, store: Store, name: str, number: int | None, *, dry_run: bool
) -> ChosenVersion:
    """The version asked for, else that of the workspace's model, registered if it is not, else `staging`.

    Raises:
        StaleLock: when the workspace is not what dvc.lock records: another version would be promoted than is meant.
        UnknownReference: when there is no such version.
    """
    if number is not None:
        return ChosenVersion(resolve(workspace, store, ByVersion(name, number)), "the version asked for")
    model = workspace.tree.model(name)
    try:
        md5 = workspace.tree.lineage(model).artifact.md5
    except MissingFile as error:
        return _staged(workspace, store, model, error)
    except StaleLock as error:
        next_command = f"{error.next_command}; or a version by its number: dovetail promote {name} --version N"
        raise StaleLock(error.message, next_command) from error
    found = store.find_version(name, md5)
    if found is None and dry_run:
        raise UnknownReference(f"the workspace's {name} is not registered yet", f"dovetail register {name}")
    if found is None:
        register(workspace, tracking, RegisterRequest((name,)))
        found = store.find_version(name, md5)
        assert found is not None  # this is no experiment
    version = resolve(workspace, store, ByVersion(name, found.number))
    return ChosenVersion(version, "the workspace's model")


def _staged(workspace: Workspace, store: Store, model: Model, why: DovetailError) -> ChosenVersion:
    try:
        return ChosenVersion(resolve(workspace, store, ByAlias(model.name, STAGING)), f"@{STAGING}, for {why.message}")
    except UnknownReference:
        raise why from None


def champion_number(workspace: Workspace, store: Store, model: str, alias: str) -> int | None:
    """The version that the alias names: by the ledger; where that says nothing, by MLflow's alias.

    Raises:
        UnknownReference: when MLflow does not have the version that the ledger names.
    """
    if (model, alias) not in workspace.ledger.aliases:
        return store.aliases(model).get(alias)
    event = workspace.ledger.aliases[model, alias]
    version = store.find_version(model, md5_of(workspace, event)) if event else None
    if event and version is None:
        what = f"{event.tag.name} names a version of {model} that MLflow does not have"
        raise UnknownReference(what, command_for_missing(workspace, event))
    return version.number if version else None
