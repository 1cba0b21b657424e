"""Where git, DVC and MLflow stand, model by model, and where they disagree."""

from typing import Any

from dovetail.errors import DovetailError, MissingFile, StaleLock
from dovetail.registration.alias_check import Disagreement, Followed
from dovetail.repo.dvc_values import Model
from dovetail.repo.workspace import Workspace
from dovetail.tracking.connection import open_store
from dovetail.tracking.store import Store, Version
from dovetail.values.finding import Finding
from dovetail.values.lineage import Lineage
from dovetail.values.reference import PRODUCTION, STAGING


def status(workspace: Workspace) -> dict[str, Any]:
    """The answer of `dovetail status`.

    Raises:
        StoreError: when MLflow does not answer.
        UserError: when dvc.yaml or dvc.lock cannot be read.
    """
    models = workspace.tree.declared.models
    with open_store(workspace.store_root) as store:
        astray = list(Followed(workspace).disagreements(store, set(models)))
        return {"models": [_model(workspace, store, model, astray) for model in models.values()]}


def _model(workspace: Workspace, store: Store, model: Model, astray: list[Disagreement]) -> dict[str, Any]:
    problems: list[Finding] = []
    versions = store.versions(model.name)
    aliases = store.aliases(model.name)
    staging, production = (_aliased(versions, aliases, alias) for alias in (STAGING, PRODUCTION))
    here = _workspace(workspace, versions, model, problems)
    if here["version"] is not None and staging["md5"] not in (None, here["md5"]):
        problems.append(
            _finding(
                f"the workspace is version {here['version']}, @{STAGING} is version {staging['version']}",
                f"dovetail register {model.name} (its gates may keep @{STAGING} where it is)",
            )
        )
    for alias, number in aliases.items():
        if all(version.number != number for version in versions):
            problems.append(_finding(f"@{alias} names version {number}, which does not exist", "dovetail sync"))
    problems += [
        _finding(
            found.why,
            "dovetail sync" if found.event else f"dovetail promote {model.name} --version {found.shown}",
        )
        for found in astray
        if found.model == model.name
    ]
    return {
        "model": model.name,
        "workspace": here,
        STAGING: staging,
        PRODUCTION: production,
        "in_sync": not problems,
        "problems": [problem.as_json("what", "next") for problem in problems],
    }


def _aliased(versions: list[Version], aliases: dict[str, int], alias: str) -> dict[str, Any]:
    number = aliases.get(alias)
    return {"version": number, "md5": next((v.md5 for v in versions if v.number == number), None)}


def _workspace(workspace: Workspace, versions: list[Version], model: Model, problems: list[Finding]) -> dict[str, Any]:
    """The model that lies in the workspace; `pushed` is None where no remote is set."""
    here: dict[str, Any] = {"md5": None, "version": None, "committed": False, "pushed": None}
    try:
        lineage = workspace.tree.lineage(model)
    except (MissingFile, StaleLock) as error:
        problems.append(_finding(error.message, error.next_command))
        return here
    here["md5"] = lineage.artifact.md5
    here["version"] = next((v.number for v in versions if v.md5 == lineage.artifact.md5), None)
    if here["version"] is None:
        problems.append(_finding("the workspace's model is no registered version", f"dovetail register {model.name}"))
    here["committed"] = bool(workspace.commits_with(lineage.kept.md5, experiments=False))
    if not here["committed"]:
        problems.append(_finding("dvc.lock with this model is in no commit", "git add -A && git commit"))
    here["pushed"] = _pushed(workspace, lineage, problems)
    return here


def _pushed(workspace: Workspace, lineage: Lineage, problems: list[Finding]) -> bool | None:
    needed = [lineage.artifact, *(ref for ref, role in lineage.data.items() if role == "source")]
    try:
        missing = workspace.remote.missing(needed)
    except DovetailError as error:
        problems.append(_finding(error.message, error.next_command))
        return None
    if missing is None:
        return None
    if missing:
        names = ", ".join(ref.path for ref in missing)
        problems.append(_finding(f"not in the remote: {names}", "dvc push"))
    return not missing


def _finding(what: str, following: str) -> Finding:
    return Finding("error", what, "", following)
