"""The two kinds of tree: the files as they lie there, and a commit with nothing checked out."""

import hashlib
import os
import posixpath
from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dovetail.errors import MissingFile, UserError
from dovetail.repo.dvc_files import Tracked, folder_md5, parse_dvc, parse_lock
from dovetail.repo.dvc_values import Declared
from dovetail.repo.dvc_yaml import gates_of
from dovetail.repo.git_values import Commit
from dovetail.repo.tree import Snapshot
from dovetail.values import environment
from dovetail.values.environment import Environment
from dovetail.values.lineage import FileRef, StageRecord

if TYPE_CHECKING:
    from dovetail.repo.ledger import Ledger
    from dovetail.repo.workspace import Workspace

ENV_STAGE, ENV_EXPERIMENT = "DVC_STAGE", "DVC_EXP_NAME"  # set by DVC for a stage's command
PINS = "requirements.lock"


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
        return _records(files, self.declared.wdirs)

    @cached_property
    def tracked(self) -> Mapping[str, Tracked]:
        root = self._workspace.root
        files = {
            file.relative_to(root).as_posix(): file.read_text(encoding="utf-8") for file in self._workspace.dvc_files()
        }
        return _tracked(files)

    def listing(self, ref: FileRef) -> list[FileRef]:
        return self._workspace.listing(ref.path)

    def in_git(self, folder: str) -> list[str]:
        return self._workspace.git.paths(folder)

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

    @property
    def ledger(self) -> "Ledger":
        return self._workspace.ledger

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
        pipelines = self._named("dvc.yaml")
        outs = frozenset(out.path for record in _records(self._locks, {}).values() for out in record.outs)
        # Working directories are not in dvc.lock: they may follow from params.
        params = tuple(self._named("params.yaml").items()) if self._has_wdirs else ()
        declared = self._workspace.declared((tuple(pipelines.items()), outs, params), self.commit.sha)
        gates = {name: gates for path in pipelines for name, gates in self._gates(path).items()}
        models = {name: replace(m, gates=gates.get(name, m.gates)) for name, m in declared.models.items()}
        return replace(declared, models=models)

    def _gates(self, pipeline: str) -> Mapping[str, Mapping[str, Any]]:
        params = (Path(pipeline).parent / "params.yaml").as_posix()
        return gates_of(self._text(pipeline), self._text(params)) if params in self._files else {}

    @cached_property
    def records(self) -> Mapping[str, StageRecord]:
        # Where no dvc.yaml names a working directory DVC need not be asked for one.
        return _records(self._locks, self.declared.wdirs if self._has_wdirs else {})

    @property
    def _has_wdirs(self) -> bool:
        return any("wdir:" in self._text(path) for path in self._named("dvc.yaml"))

    @cached_property
    def tracked(self) -> Mapping[str, Tracked]:
        return _tracked({path: self._text(path) for path in self._files if Path(path).suffix == ".dvc"})

    def listing(self, ref: FileRef) -> list[FileRef]:
        inside = self.in_git(ref.path)
        return [self._of_git(path) for path in inside] if inside else self._workspace.listed(ref)

    def in_git(self, folder: str) -> list[str]:
        return [path for path in self._files if path.startswith(f"{folder}/")]

    def keeps(self, path: str) -> bool:
        """Whether git keeps the file, or a file below the folder, at this commit."""
        return path in self._files or bool(self.in_git(path))

    def file(self, path: str) -> FileRef:
        outs = [out for record in self.records.values() for out in record.outs]
        kept = {ref.path: ref for ref in (*outs, *(entry.ref for entry in self.tracked.values()))}
        if path in kept:
            return kept[path]
        if path in self._files:
            return self._of_git(path)
        if inside := self.in_git(path):
            return FileRef(path, folder_md5(path, map(self._of_git, inside)))
        for ref in kept.values():
            if path.startswith(f"{ref.path}/"):
                for inner in self.listing(ref):
                    if inner.path == path:
                        return inner
        sha = self.commit.sha[:8]
        raise MissingFile(f"{path} is in no dvc.lock of commit {sha}", f"git show {sha}:dvc.lock")

    def _of_git(self, path: str) -> FileRef:
        """A file that git keeps, with the digest that DVC would give it."""
        content = self._workspace.git.blob(self._files[path])
        return FileRef(path, hashlib.md5(content, usedforsecurity=False).hexdigest(), len(content))

    def read(self, ref: FileRef) -> bytes:
        if ref.path in self._files:
            return self._workspace.git.blob(self._files[ref.path])
        return self._workspace.object(ref).read_bytes()

    def materialise(self, ref: FileRef, folder: Path) -> Path:
        target = folder / ref.path
        if ref.path in self._files or (ref.is_folder and self.in_git(ref.path)):
            for inner in self.listing(ref) if ref.is_folder else [ref]:
                (folder / inner.path).parent.mkdir(parents=True, exist_ok=True)
                (folder / inner.path).write_bytes(self.read(inner))
        else:
            self._workspace.lay(ref, target, link=True)
        return target

    @cached_property
    def environment(self) -> Environment | None:
        return environment.pinned(self._text(PINS)) if PINS in self._files else None

    @property
    def ledger(self) -> "Ledger":
        return self._workspace.ledger

    @property
    def where(self) -> str:
        return f"commit {self.commit.sha[:8]}"

    @property
    def time(self) -> int | None:
        return self.commit.time * 1000

    @cached_property
    def _locks(self) -> Mapping[str, str]:
        return {path: self._text(path) for path in self._named("dvc.lock")}

    def _named(self, name: str) -> dict[str, str]:
        """The files of that name in any folder, with their blobs."""
        return {path: blob for path, blob in self._files.items() if Path(path).name == name}

    def _text(self, path: str) -> str:
        return self._workspace.git.blob(self._files[path]).decode()


def _records(locks: Mapping[str, str], wdirs: Mapping[str, str]) -> dict[str, StageRecord]:
    found: dict[str, StageRecord] = {}
    for path, text in locks.items():
        try:
            found |= parse_lock(text, posixpath.dirname(path), wdirs)
        except ValueError as error:
            raise UserError(
                f"{path} cannot be read: {error}",
                f"resolve the conflict, or: git checkout HEAD -- {path}, then dvc repro",
            ) from error
    return found


def _tracked(files: Mapping[str, str]) -> dict[str, Tracked]:
    found: dict[str, Tracked] = {}
    for path, text in files.items():
        try:
            found |= {entry.ref.path: entry for entry in parse_dvc(text, path)}
        except ValueError as error:
            raise UserError(f"{path} cannot be read: {error}", f"git checkout HEAD -- {path}") from error
    return found
