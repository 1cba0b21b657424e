"""Where a version comes from: the commit that holds it, whether that is all that made it, where its data is."""

import hashlib

from dovetail.errors import DovetailError
from dovetail.gates.evidence import Origin
from dovetail.repo.git_values import Commit
from dovetail.repo.workspace import Workspace
from dovetail.values.lineage import Lineage


def commit_of(workspace: Workspace, made: Lineage, *, experiments: bool = False) -> Commit | None:
    """The newest commit of a branch or tag (or of an experiment) that holds the model with all that made it."""
    for commit in workspace.commits_with(made.kept.md5, experiments=experiments):
        tree = workspace.at(commit)
        try:
            if tree.lineage(tree.model(made.model)).fingerprint == made.fingerprint:
                return commit
        except DovetailError:  # of another shape; not this one
            continue
    return None


def origin(workspace: Workspace, made: Lineage, commit: Commit | None, reproduced: str | None) -> Origin:
    """What git and DVC know of it; `reproduced` is the verdict that the version carries."""
    if commit is None:
        return Origin(None)
    refs = [made.artifact, *made.data]
    problem, lacking = "", None
    try:
        lacking = workspace.remote.missing(refs)
    except DovetailError as error:
        problem = error.message
    available = workspace.remote.available(refs)
    return Origin(
        commit=commit.sha,
        differing=_differing(workspace, commit, made),
        not_cached=tuple(ref.path for ref in refs if not available[ref.md5]),
        not_in_remote=None if lacking is None else tuple(ref.path for ref in lacking),
        remote_problem=problem,
        pushed=bool(workspace.git("branch", "--remotes", "--contains", commit.sha)),
        reproduced=reproduced,
    )


def _differing(workspace: Workspace, commit: Commit, made: Lineage) -> tuple[str, ...]:
    """Files that git keeps at the commit with another content than dvc.lock says that the stages read."""
    blobs = workspace.git.files(commit.sha)
    read = {dep for stage in made.stages for dep in stage.deps if dep.path in blobs and not dep.is_folder}
    return tuple(sorted(dep.path for dep in read if _md5(workspace.git.blob(blobs[dep.path])) != dep.md5))


def _md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()
