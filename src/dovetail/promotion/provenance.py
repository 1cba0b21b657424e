"""Where a version comes from: the commit that holds it, whether its code is there, where its data is available."""

import hashlib

from dovetail.errors import DovetailError
from dovetail.gates.evidence import ProvenanceEvidence
from dovetail.repo.git_values import Commit
from dovetail.repo.workspace import Workspace
from dovetail.values.lineage import Lineage


def origin(workspace: Workspace, made: Lineage, commit: Commit | None, reproduced: str | None) -> ProvenanceEvidence:
    """What git and DVC know of the version; `reproduced` is the verdict that it is tagged with."""
    if commit is None:
        return ProvenanceEvidence(None)
    refs = [made.artifact, *made.data]
    problem, next_command, lacking = "", "", None
    try:
        lacking = workspace.remote.missing(refs)
    except DovetailError as error:
        problem, next_command = error.message, error.next_command
    available = workspace.remote.available(refs)
    not_cached = tuple(ref.path for ref in refs if not available[ref.md5])
    uncached = {out.path for step in workspace.pipeline.stages if step.commands for out in step.outs if not out.cached}
    return ProvenanceEvidence(
        commit=commit.sha,
        differing=_differing(workspace, commit, made),
        not_cached=not_cached,
        not_in_remote=None if lacking is None else tuple(ref.path for ref in lacking),
        remote_problem=problem,
        remote_next=next_command,
        unkept=tuple(sorted(uncached.intersection(not_cached))),
        pushed=bool(workspace.git("branch", "--remotes", "--contains", commit.sha)),
        reproduced=reproduced,
    )


def _differing(workspace: Workspace, commit: Commit, made: Lineage) -> tuple[str, ...]:
    """Files, and folders of code, that git keeps at the commit as others than dvc.lock says that the stages read."""
    blobs, tree = workspace.git.files(commit.sha), workspace.at(commit)
    deps = {dep for stage in made.stages for dep in stage.deps}
    files = {dep.path for dep in deps if dep.path in blobs and _md5(workspace.git.blob(blobs[dep.path])) != dep.md5}
    folders = {dep for dep in deps if dep.path in made.code and tree.keeps(dep.path)}
    return tuple(sorted(files | {dep.path for dep in folders if tree.file(dep.path).md5 != dep.md5}))


def _md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()
