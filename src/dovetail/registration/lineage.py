"""Lineage both ways: from a version up to the raw data that made it, from data down to every version made of it."""

import json
from dataclasses import dataclass
from typing import Any

from dovetail.errors import DovetailError, UnknownReference
from dovetail.repo.workspace import Workspace
from dovetail.tracking.connection import open_store
from dovetail.tracking.run_content import ENVIRONMENT_FILE, LINEAGE_FILE
from dovetail.tracking.store import Shown, Store
from dovetail.values.environment import pinned
from dovetail.values.lineage import FileRef, Lineage
from dovetail.values.reference import (
    PRODUCTION,
    STAGING,
    ByAlias,
    ByCommit,
    ByDigest,
    ByPath,
    ByRun,
    ByVersion,
    Reference,
    parse,
)


@dataclass(frozen=True, slots=True)
class Subject:
    """A registered version, or a run without one, and what made it."""

    model: str
    version: int | None
    shown: Shown
    lineage: Lineage


def lineage(workspace: Workspace, text: str) -> dict[str, Any]:
    """The answer of `dovetail lineage`: up from a model's reference, down from a data file's path or md5.

    Raises:
        UnknownReference: naming what there is.
        StoreError: when MLflow does not answer.
    """
    with open_store(workspace.store_root) as store:
        reference = parse(text, frozenset(workspace.tree.declared.models) | frozenset(store.models()))
        if isinstance(reference, ByPath | ByDigest):
            return _down(workspace, store, reference)
        return _up(workspace, store, resolve(workspace, store, reference))


def resolve(workspace: Workspace, store: Store, reference: Reference) -> Subject:
    """The version or run that a reference names.

    Raises:
        UnknownReference: naming what there is.
    """
    if isinstance(reference, ByRun):
        shown = store.run(reference.run_id)
        if shown is None:
            raise UnknownReference(f"MLflow at {store.uri} has no run {reference.run_id!r}", "dovetail sync --all")
        found = _recorded(store, shown)
        version = store.find_version(found.model, found.artifact.md5)
        return Subject(found.model, version.number if version else None, shown, found)
    if isinstance(reference, ByCommit):
        return _of_commit(workspace, store, reference)
    if isinstance(reference, ByAlias):
        number = _aliased(store, reference)
        reference = ByVersion(reference.model, number)
    if not isinstance(reference, ByVersion):
        raise UnknownReference(f"{reference} names data, not a model", "dovetail lineage, for data")
    known = store.version(reference.model, reference.version)
    shown = store.run(known.run_id) if known else None
    if known is None or shown is None:
        numbers = ", ".join(str(v.number) for v in store.versions(reference.model)) or "none"
        raise UnknownReference(
            f"{reference.model} has no version {reference.version}; it has: {numbers}", "dovetail sync"
        )
    return Subject(known.model, known.number, shown, _recorded(store, shown))


def _aliased(store: Store, reference: ByAlias) -> int:
    aliases = store.aliases(reference.model)
    for alias in (reference.alias,) if reference.alias else (PRODUCTION, STAGING):
        if alias in aliases:
            return aliases[alias]
    there = ", ".join(f"{reference.model}@{alias}" for alias in aliases) or "no alias of it"
    wanted = f"@{reference.alias}" if reference.alias else f"neither @{PRODUCTION} nor @{STAGING}"
    raise UnknownReference(
        f"{reference.model} has {wanted if not reference.alias else 'no ' + wanted}; there is: {there}",
        f"dovetail register {reference.model}",
    )


def _of_commit(workspace: Workspace, store: Store, reference: ByCommit) -> Subject:
    tree = workspace.tree_of(reference.rev)
    found = tree.lineage(tree.model(reference.model))
    run = store.find_run(store.experiment(reference.model), found.fingerprint)
    shown = store.run(run.id) if run else None
    if shown is None:
        raise UnknownReference(
            f"MLflow shows no run of {reference.model} in {tree.where} (fingerprint {found.fingerprint[:8]})",
            "dovetail sync --all",
        )
    version = store.find_version(reference.model, found.artifact.md5)
    return Subject(reference.model, version.number if version else None, shown, found)


def _recorded(store: Store, shown: Shown) -> Lineage:
    """What the run itself keeps of its lineage: it answers for what was never committed, too."""
    text = store.text(shown.id, LINEAGE_FILE)
    if text is None:
        raise UnknownReference(
            f"run {shown.id} was not made by dovetail: it has no {LINEAGE_FILE}", "dovetail register"
        )
    return Lineage.from_json(json.loads(text))


def _up(workspace: Workspace, store: Store, subject: Subject) -> dict[str, Any]:
    made = subject.lineage
    available = workspace.remote.available(list(made.data))
    aliases = store.aliases(subject.model)
    packages = pinned(store.text(subject.shown.id, ENVIRONMENT_FILE) or "")
    return {
        "model": subject.model,
        "version": subject.version,
        "aliases": sorted(alias for alias, number in aliases.items() if number == subject.version),
        "run_id": subject.shown.id,
        "fingerprint": made.fingerprint,
        "artifact": {
            **_file(made.artifact),
            "verified": store.stored_md5(subject.shown.id, made.artifact.path) == made.artifact.md5,
        },
        "commits": [commit.as_json() for commit in workspace.commits_with(made.kept.md5)],
        "stages": [
            {
                "name": stage.name,
                "cmd": stage.cmd,
                "deps": [_file(ref) for ref in stage.deps],
                "params": dict(stage.params),
                "outs": [_file(ref) for ref in stage.outs],
            }
            for stage in made.stages
        ],
        "data": [
            {
                "path": ref.path,
                "md5": ref.md5,
                "role": role,
                "available": available[ref.md5],
                "origin": made.origin(ref),
            }
            for ref, role in made.data.items()
        ],
        "params": made.params,
        "metrics": dict(subject.shown.metrics),
        "environment": {
            "python": packages.python,
            "md5": subject.shown.tags.get("dovetail.env.md5"),
            "packages": packages.packages,
        },
    }


def _down(workspace: Workspace, store: Store, reference: ByPath | ByDigest) -> dict[str, Any]:
    path, md5 = (None, reference.md5) if isinstance(reference, ByDigest) else _current(workspace, reference.path)
    runs = store.runs_with_data(md5)
    aliases: dict[str, dict[str, int]] = {}
    versions = []
    for version in store.versions_of_bytes({run.model_md5 for run in runs if run.model_md5}):
        if version.model not in aliases:
            aliases[version.model] = store.aliases(version.model)
        named = aliases[version.model]
        versions.append(
            {
                "model": version.model,
                "version": version.number,
                "aliases": sorted(alias for alias, number in named.items() if number == version.number),
                "run_id": version.run_id,
            }
        )
    if not runs and isinstance(reference, ByDigest) and not workspace.commits_with(md5):
        raise UnknownReference(f"neither MLflow nor any dvc.lock knows md5 {md5}", "dovetail sync --all")
    return {"path": path, "md5": md5, "versions": versions, "runs": [run.id for run in runs]}


def _current(workspace: Workspace, path: str) -> tuple[str, str]:
    """The path from the root, and the digest that dvc.lock records for it, else the one that DVC gives it."""
    clean = workspace.relative(path)
    refs = [ref for record in workspace.tree.records.values() for ref in (*record.deps, *record.outs)]
    for ref in refs:
        if ref.path == clean:
            return clean, ref.md5
    try:
        return clean, workspace.storage.hash(clean).md5
    except DovetailError as error:
        made = {out.path for record in workspace.tree.records.values() for out in record.outs}
        sources = sorted({ref.path for ref in refs if not ref.is_code} - made)
        known = f"models: {', '.join(workspace.tree.declared.models) or 'none'}; data: {', '.join(sources) or 'none'}"
        raise UnknownReference(f"{path!r} names neither a model nor data here; {known}", "dovetail status") from error


def _file(ref: FileRef) -> dict[str, Any]:
    return {"path": ref.path, "md5": ref.md5, "size": ref.size}
