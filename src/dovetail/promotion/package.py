"""Whether the package that the registry holds is the one that was registered, and promoted, before it is read."""

import tempfile
from dataclasses import replace
from pathlib import Path

from dovetail.errors import DovetailError
from dovetail.gates.evidence import TriedPackage
from dovetail.registration.projection import project
from dovetail.registration.resolve import TrackedModel, commit_of
from dovetail.repo.workspace import Workspace
from dovetail.tracking.store import Store, Version

_TAG = "the version's tag"


def check(workspace: Workspace, store: Store, subject: TrackedModel, served: TriedPackage) -> TriedPackage:
    """`served` with the digest of the registry's package, and with what the version's tag and git's tag say of it.

    Where the two say different things, `package` is the one that is not what the registry holds.
    """
    version = store.version(subject.model, subject.version or 0)
    if version is None:
        return served
    stored = store.package_of(version)
    said: list[tuple[str, str | None]] = [(_TAG, version.package)] if version.package else []
    event = workspace.ledger.package(subject.model, subject.lineage.artifact.md5)
    if event and event.note:
        said.append((event.tag.name, event.note.package))
    differing = [(source, digest) for source, digest in said if digest != stored]
    if differing and differing[0][0] != _TAG and _is_of_git(workspace, store, subject, version, stored):
        differing, said = [], [(f"what git and DVC hold makes it; {differing[0][0]} says another", stored)]
    source, digest = [("", None), *said, *differing][-1]
    return replace(served, stored_package=stored, package=digest, package_source=source)


def _is_of_git(workspace: Workspace, store: Store, subject: TrackedModel, version: Version, stored: str | None) -> bool:
    """Whether the package is what the version's commit gives now: another version of Dovetail or MLflow writes another.

    A compiled model is not among what git and DVC hold.
    """
    commit = commit_of(workspace, subject.lineage)
    if commit is None:
        return False
    tree = workspace.at(commit)
    try:
        with tempfile.TemporaryDirectory(dir=workspace.scratch) as folder:
            content = project(tree, tree.model(subject.model), Path(folder)).artifact
            return store.package_if_replaced(version, content, compiled=False) == stored
    except DovetailError:
        return False
