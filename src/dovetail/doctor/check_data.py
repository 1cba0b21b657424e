"""Bytes that DVC should have: in a cache, in the remote, or nowhere any more."""

import shlex
from collections.abc import Iterator
from pathlib import PurePosixPath

from dovetail.errors import MissingFile
from dovetail.repo.dvc_values import Out, Stage
from dovetail.repo.workspace import Workspace
from dovetail.values.finding import Finding
from dovetail.values.lineage import FileRef


def kept(workspace: Workspace) -> dict[FileRef, tuple[Stage, Out]]:
    """Every object that the working tree's dvc.lock and .dvc files name, the files of folders too, with its maker."""
    return {
        ref: (step, out)
        for step in workspace.pipeline.stages
        for out in step.outs
        if out.cached and out.md5
        for ref in workspace.storage.content(FileRef(out.path, out.md5, out.size))
    }


def missing_objects(workspace: Workspace) -> Iterator[Finding]:
    """Objects of the working tree that are in no cache and no remote."""
    objects = kept(workspace)
    places = workspace.remote.available(list(objects))
    lost = {out: (step, ref) for ref, (step, out) in reversed(objects.items()) if not places[ref.md5]}
    for out, (step, ref) in reversed(lost.items()):
        yield Finding(
            "error",
            f"{ref.path} (md5 {ref.md5}) is in no cache and no remote",
            "nobody can check it out, and what was made of it cannot be explained",
            _brings_back(workspace, step, out),
        )


def _brings_back(workspace: Workspace, step: Stage, out: Out) -> str:
    """The command that puts the bytes of `out` into the cache again."""
    if all(_lies_there(workspace, other) for other in step.outs):
        return f"dvc commit -f {shlex.quote(step.name)}"
    if step.commands:
        return f"dvc repro {shlex.quote(step.name)}"
    return f"dvc push, in the clone that has it, then: dvc pull {workspace.typed(out.path)}"


def _lies_there(workspace: Workspace, out: Out) -> bool:
    try:
        return workspace.storage.hash(out.path).md5 == out.md5
    except MissingFile:
        return False


def unpushed_objects(workspace: Workspace) -> Iterator[Finding]:
    """Objects of the working tree that only this machine has, where a remote is set."""
    objects = kept(workspace)
    places = workspace.remote.available(list(objects))
    if missing := workspace.remote.missing([ref for ref in objects if "cache" in places[ref.md5]]):
        names = sorted({objects[ref][1].path for ref in missing})
        yield Finding(
            "warning",
            f"not in the remote: {', '.join(names)}",
            "this machine alone has these bytes: no clone can check them out",
            "dvc push",
        )


def unkept_sources(workspace: Workspace) -> Iterator[Finding]:
    """Files that stages read and that neither git nor DVC keeps."""
    made = [FileRef(out.path, out.md5 or "") for step in workspace.pipeline.stages for out in step.outs]
    tracked = set(workspace.git("ls-files", "-z").split("\0"))
    readers: dict[str, str] = {}
    for step in workspace.pipeline.stages:
        for dep in step.deps:
            if not any(out.overlaps(dep) for out in made) and not _tracked(dep, tracked):
                readers.setdefault(dep, step.name)
    for path, reader in readers.items():
        if (workspace.root / path).exists():
            typed = workspace.typed(path)
            yield Finding(
                "error",
                f"{path}, which {reader} reads, is in neither git nor DVC",
                "no clone has it, so nobody else can run the stage",
                f"git add {typed}" if FileRef(path, "").is_code else f"dvc add {typed}",
            )


def unknown_inputs(workspace: Workspace) -> Iterator[Finding]:
    """Params and files that stages read and nobody has: a name that was mistyped, most often."""
    yield from (finding for _, finding in workspace.pipeline.unknown_inputs())


def _tracked(path: str, tracked: set[str]) -> bool:
    inside = path in tracked or any(file.startswith(f"{path}/") for file in tracked)
    return inside or any(str(folder) in tracked for folder in PurePosixPath(path).parents)  # a submodule's
