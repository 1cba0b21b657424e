"""The working tree: the files as they are."""

import os
import shlex
from collections.abc import Iterable, Mapping
from functools import cached_property
from pathlib import Path

from dovetail.errors import MissingFile
from dovetail.repo.dvc_files import Tracked, read_dvc_files, read_locks
from dovetail.repo.dvc_values import Declared
from dovetail.repo.dvc_variables import ENV_EXPERIMENT, ENV_STAGE
from dovetail.repo.quoted_paths import typed
from dovetail.repo.sources import Sources
from dovetail.repo.tree import Tree
from dovetail.values import environment
from dovetail.values.environment import Environment
from dovetail.values.lineage import FileRef, StageRecord


class WorkingTree(Tree):
    """The files as they are, registered by whatever runs: a stage, an experiment or somebody at a keyboard."""

    def __init__(self, sources: Sources, root: Path) -> None:
        super().__init__(sources)
        self._root = root
        self.experiment = os.environ.get(ENV_EXPERIMENT) or None
        self.stage = os.environ.get(ENV_STAGE) or None
        self.commit = self._git.head
        self.dirty = self._git.is_dirty() if self.commit else None
        self._in_git: dict[str, list[str]] = {}  # folder → paths

    @property
    def declared(self) -> Declared:
        return self._pipeline.declared()

    def _next_command_for_unknown(self, name: str) -> str:
        return f"dovetail init {shlex.quote(name)}"

    @cached_property
    def records(self) -> Mapping[str, StageRecord]:
        recorded = read_locks(self._contents(self._pipeline.lock_files()), self.declared.wdirs)
        return {name: record for name, record in recorded.items() if name in self.declared.stages}

    @cached_property
    def tracked(self) -> Mapping[str, Tracked]:
        return read_dvc_files(self._contents(self._pipeline.dvc_files()))

    def _contents(self, files: Iterable[Path]) -> dict[str, bytes]:
        return {file.relative_to(self._root).as_posix(): _bytes(file, self._root) for file in files}

    def listing(self, ref: FileRef) -> list[FileRef]:
        return self._storage.hash_files(ref.path)

    def in_git(self, folder: str) -> list[str]:
        if folder not in self._in_git:
            self._in_git[folder] = self._git.paths(folder)
        return self._in_git[folder]

    def file(self, path: str) -> FileRef:
        return self._storage.hash(path)

    def is_as_recorded(self, ref: FileRef) -> bool:
        return ref.md5 in (self.file(ref.path).md5, ref.by_dvc_2 and self._storage.hash(ref.path, by_dvc_2=True).md5)

    def read(self, ref: FileRef) -> bytes:
        return _bytes(self.as_file(ref, Path()), self._root)

    def as_file(self, ref: FileRef, folder: Path) -> Path:
        del folder  # it is there already
        file = self._root / ref.path
        if not file.exists():
            next_command = f"dvc repro, or to take the recorded file back: {self.taking_back(ref)}"
            raise MissingFile(f"{ref.path} is not there", next_command)
        return file

    @cached_property
    def environment(self) -> Environment | None:
        return environment.current()

    @property
    def where(self) -> str:
        return "the working tree"


def _bytes(file: Path, root: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        path = file.relative_to(root).as_posix()
        raise MissingFile(f"{path} cannot be read: {error.strerror}", f"ls -ld {typed(root, path)}") from error
