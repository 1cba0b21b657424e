"""The two kinds of tree: the files as they lie there, and a commit with nothing checked out."""

import os
from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dovetail import environment
from dovetail.declared import gates_of
from dovetail.environment import Environment
from dovetail.errors import MissingFile, UserError
from dovetail.lineage import FileRef, StageRecord, parse_lock
from dovetail.snapshot import Commit, Declared, Snapshot

if TYPE_CHECKING:
    from dovetail.workspace import Workspace

ENV_STAGE, ENV_EXPERIMENT = "DVC_STAGE", "DVC_EXP_NAME"  # set by DVC for a stage's command
_PINS = "requirements.lock"


class WorkingTree(Snapshot):
    """The files as they lie there, registered by whatever runs: a stage, an experiment or somebody at a keyboard."""

    def __init__(self, workspace: "Workspace") -> None:
        self._workspace = workspace
        self.experiment = os.environ.get(ENV_EXPERIMENT) or None
        self.stage = os.environ.get(ENV_STAGE) or None
        self.commit = workspace.git.commit("HEAD")
        self.dirty = workspace.git.is_dirty() if self.commit else None

    @property
    def declared(self) -> Declared:
        return self._workspace.declared()

    @cached_property
    def records(self) -> Mapping[str, StageRecord]:
        root = self._workspace.root
        files = {
            lock.relative_to(root).as_posix(): lock.read_text(encoding="utf-8") for lock in self._workspace.locks()
        }
        return _records(files)

    def file(self, path: str) -> FileRef:
        return self._workspace.hash(path)

    def read(self, ref: FileRef) -> bytes:
        return self.materialise(ref, Path()).read_bytes()

    def materialise(self, ref: FileRef, folder: Path) -> Path:
        del folder  # it lies there already
        file = self._workspace.root / ref.path
        if not file.exists():
            raise MissingFile(f"{ref.path} is not there", f"dvc checkout {ref.path}")
        return file

    @cached_property
    def environment(self) -> Environment | None:
        return environment.current()

    def is_assigned(self, model: str, alias: str) -> bool:
        return self._workspace.is_assigned(model, alias)

    @property
    def where(self) -> str:
        return "the working tree"


class Revision(Snapshot):
    """The tree of a commit: its files from git, its data from DVC's cache or remote. Nothing is checked out."""

    def __init__(self, workspace: "Workspace", commit: Commit, experiment: str | None) -> None:
        self._workspace = workspace
        self.commit: Commit = commit
        self.experiment = experiment
        self.dirty = False

    @cached_property
    def _files(self) -> Mapping[str, str]:
        return self._workspace.git.files(self.commit.sha)

    @cached_property
    def declared(self) -> Declared:
        # DVC takes a fifth of a second to read a commit's dvc.yaml. Params change at every other commit, but say
        # something else about the outs only where they are interpolated, which the outs' names then show.
        pipelines = {path: blob for path, blob in self._files.items() if Path(path).name == "dvc.yaml"}
        outs = frozenset(out.path for record in self.records.values() for out in record.outs)
        declared = self._workspace.declared((tuple(pipelines.items()), outs), self.commit.sha)
        gates = {name: gates for path in pipelines for name, gates in self._gates(path).items()}
        models = {name: replace(m, gates=gates.get(name, m.gates)) for name, m in declared.models.items()}
        return replace(declared, models=models)

    def _gates(self, pipeline: str) -> Mapping[str, Mapping[str, Any]]:
        params = (Path(pipeline).parent / "params.yaml").as_posix()
        return gates_of(self._text(pipeline), self._text(params)) if params in self._files else {}

    @cached_property
    def records(self) -> Mapping[str, StageRecord]:
        return _records({path: self._text(path) for path in self._files if Path(path).name == "dvc.lock"})

    def file(self, path: str) -> FileRef:
        for record in self.records.values():
            for out in record.outs:
                if out.path == path:
                    return out
        sha = self.commit.sha[:8]
        raise MissingFile(f"{path} is in no dvc.lock of commit {sha}", f"git show {sha}:dvc.lock")

    def read(self, ref: FileRef) -> bytes:
        if ref.path in self._files:
            return self._workspace.git.blob(self._files[ref.path])
        return self._workspace.object(ref).read_bytes()

    def materialise(self, ref: FileRef, folder: Path) -> Path:
        target = folder / ref.path
        if ref.path in self._files:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(self.read(ref))
        else:
            self._workspace.lay(ref, target, link=True)
        return target

    @cached_property
    def environment(self) -> Environment | None:
        return environment.pinned(self._text(_PINS)) if _PINS in self._files else None

    def is_assigned(self, model: str, alias: str) -> bool:
        return self._workspace.is_assigned(model, alias)

    @property
    def where(self) -> str:
        return f"commit {self.commit.sha[:8]}"

    @property
    def time(self) -> int | None:
        return self.commit.time * 1000

    def _text(self, path: str) -> str:
        return self._workspace.git.blob(self._files[path]).decode()


def _records(locks: Mapping[str, str]) -> dict[str, StageRecord]:
    found: dict[str, StageRecord] = {}
    for path, text in locks.items():
        folder = Path(path).parent
        try:
            found |= parse_lock(text, "" if folder == Path() else folder.as_posix())
        except ValueError as error:
            raise UserError(
                f"{path} cannot be read: {error}",
                f"resolve the conflict, or: git checkout HEAD -- {path}, then dvc repro",
            ) from error
    return found
