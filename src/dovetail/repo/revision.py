"""The tree of a commit, with nothing checked out."""

import hashlib
import shlex
from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

from dovetail.errors import MissingFile, UserError
from dovetail.models.folder_md5 import folder_md5
from dovetail.repo import dvc_1
from dovetail.repo.adopted_models import adopted_models
from dovetail.repo.checked_out import declares_the_same
from dovetail.repo.dvc_files import Tracked, read_dvc_files, read_locks, unreadable
from dovetail.repo.dvc_repo import check, is_document
from dovetail.repo.dvc_values import Declared, Model
from dovetail.repo.dvc_yaml import gates_of
from dovetail.repo.git_values import Commit
from dovetail.repo.sources import Sources
from dovetail.repo.tree import Tree
from dovetail.values import environment
from dovetail.values.documents import Unreadable
from dovetail.values.environment import PINS, Environment
from dovetail.values.lineage import FileRef, StageRecord


class Revision(Tree):
    """The tree of a commit: its files from git, its data from DVC's cache or remote. Nothing is checked out."""

    def __init__(self, sources: Sources, commit: Commit, experiment: str | None) -> None:
        super().__init__(sources)
        self.commit: Commit = commit
        self.experiment = experiment
        self.dirty = False

    @cached_property
    def _files(self) -> Mapping[str, str]:
        return self._git.files(self.commit.sha)

    @cached_property
    def declared(self) -> Declared:
        # DVC takes a fifth of a second to read a commit's dvc.yaml. Params change at every other commit, but say
        # something else about the outs only where they are interpolated, which the outs' names then show.
        pipelines = self._named("dvc.yaml")
        outs = frozenset(
            out.path for record in read_locks(self._locks, {}, self.commit.sha).values() for out in record.outs
        )
        # Working directories are not in dvc.lock: they may follow from params.
        params = tuple(self._named("params.yaml").items()) if self._has_wdirs else ()
        key = tuple(pipelines.items()), outs, params
        try:
            if not self._pipeline.has_asked(key) and self._declares_what_is_here(outs):
                declared = self._pipeline.declared()
            else:
                declared = self._pipeline.declared(key, self.commit.sha)
        except UserError:
            if self.of_dvc_1:
                return dvc_1.declared(self._dvc_files)
            self._check_documents()  # DVC does not always say which file it is
            raise
        gates = {name: gates for path in pipelines for name, gates in self._gates(path).items()}
        models = {name: replace(m, gates=gates.get(name, m.gates)) for name, m in declared.models.items()}
        return replace(declared, models=models)

    def _declares_what_is_here(self, made: frozenset[str]) -> bool:
        """Whether the working tree has what DVC reads of a pipeline as this commit has it, and no more of it."""
        pipelines = {path: self._content(path) for path in self._named("dvc.yaml")}
        return declares_the_same(self._git, self.commit.sha, pipelines, made, self._found)

    def _found(self, path: str) -> bytes | None:
        return self._content(path) if path in self._files else None

    @cached_property
    def models(self) -> Mapping[str, Model]:
        """Those that it declares, and those of today whose path it has: it may be older than their entries."""
        declared, today = self.declared.models, self._read_today()
        if today.keys() <= declared.keys():
            return declared
        added = [entry.ref for entry in self.tracked.values()]
        return {**declared, **adopted_models(declared, today.values(), list(self.records.values()), added)}

    def _remedy_for_unknown(self, name: str) -> str:
        today = self._read_today().get(name)
        if today is None:
            return f"git show {self.commit.sha[:8]}:dvc.yaml"
        files = "'*dvc.lock' '*.dvc'"  # an entry nobody can add to a commit
        return f"a commit since: git log --oneline -S {shlex.quote(Path(today.path).name)} -- {files}"

    def _check_documents(self) -> None:
        for path in filter(is_document, self._files):
            try:
                check(self._content(path), path)
            except Unreadable as error:
                raise unreadable(path, self.commit.sha, error) from error

    def _gates(self, pipeline: str) -> Mapping[str, Mapping[str, Any]]:
        params = (Path(pipeline).parent / "params.yaml").as_posix()
        if params not in self._files:
            return {}
        try:
            return gates_of(self._content(pipeline), self._content(params))
        except Unreadable as error:
            what = f"{pipeline} or {params} of {self.where} cannot be read: {error}"
            raise UserError(what, f"git show {self.commit.sha[:8]}:{pipeline}") from error

    @cached_property
    def records(self) -> Mapping[str, StageRecord]:
        # Where no dvc.yaml names a working directory DVC need not be asked for one.
        recorded = read_locks(self._locks, self.declared.wdirs if self._has_wdirs else {}, self.commit.sha)
        found = {path: self._content(path) for path in self._files if dvc_1.is_stage_file(path)}
        stages = {path: content for path, content in found.items() if b"cmd:" in content}
        try:
            return recorded | dvc_1.stage_files(stages)
        except Unreadable:  # `tracked` says which
            return recorded

    @cached_property
    def of_dvc_1(self) -> tuple[str, str] | None:
        """What DVC 1 wrote here, and the command after which DVC 3 reads it; None where DVC 3 does."""
        return dvc_1.named(self._dvc_files)

    @cached_property
    def _dvc_files(self) -> Mapping[str, bytes]:
        """The content of all that DVC reads by its name."""
        return {path: self._content(path) for path in self._files if is_document(path) or dvc_1.is_stage_file(path)}

    @property
    def _has_wdirs(self) -> bool:
        return any(b"wdir:" in self._content(path) for path in self._named("dvc.yaml"))

    @cached_property
    def tracked(self) -> Mapping[str, Tracked]:
        files = {path: self._content(path) for path in self._files if Path(path).suffix == ".dvc"}
        return read_dvc_files(files, self.commit.sha)

    def listing(self, ref: FileRef) -> list[FileRef]:
        inside = self.in_git(ref.path)
        return [self._of_git(path) for path in inside] if inside else self._storage.files(ref)

    def in_git(self, folder: str) -> list[str]:
        return [path for path in self._files if path.startswith(f"{folder}/")]

    def keeps(self, path: str) -> bool:
        """Whether git keeps the file, or a file below the folder, at this commit."""
        return path in self._files or bool(self.in_git(path))

    def file(self, path: str) -> FileRef:
        outs = [out for record in self.records.values() for out in record.outs]
        recorded = {ref.path: ref for ref in (*outs, *(entry.ref for entry in self.tracked.values()))}
        if path in recorded:
            return recorded[path]
        if path in self._files:
            return self._of_git(path)
        if inside := self.in_git(path):
            return FileRef(path, folder_md5((file[len(path) + 1 :], self._of_git(file).md5) for file in inside))
        for ref in recorded.values():
            if path.startswith(f"{ref.path}/"):
                for inner in self.listing(ref):
                    if inner.path == path:
                        return inner
        sha = self.commit.sha[:8]
        raise MissingFile(f"{path} is in no dvc.lock of commit {sha}", f"git show {sha}:dvc.lock")

    def _of_git(self, path: str) -> FileRef:
        """A file that git keeps, with the digest that DVC would give it."""
        content = self._git.blob(self._files[path])
        return FileRef(path, hashlib.md5(content, usedforsecurity=False).hexdigest(), len(content))

    def read(self, ref: FileRef) -> bytes:
        if ref.path in self._files:
            return self._git.blob(self._files[ref.path])
        return self._storage.object(ref).read_bytes()

    def as_file(self, ref: FileRef, folder: Path) -> Path:
        target = folder / ref.path
        if ref.path in self._files or (ref.is_folder and self.in_git(ref.path)):
            for inner in self.listing(ref) if ref.is_folder else [ref]:
                (folder / inner.path).parent.mkdir(parents=True, exist_ok=True)
                (folder / inner.path).write_bytes(self.read(inner))
        else:
            self._storage.write_to(ref, target, link=True)
        return target

    @cached_property
    def environment(self) -> Environment | None:
        return environment.pinned(self._content(PINS).decode(errors="replace")) if PINS in self._files else None

    @property
    def where(self) -> str:
        return f"commit {self.commit.sha[:8]}"

    @property
    def time(self) -> int | None:
        return self.commit.time * 1000

    @cached_property
    def _locks(self) -> Mapping[str, bytes]:
        return {path: self._content(path) for path in self._named("dvc.lock")}

    def _named(self, name: str) -> dict[str, str]:
        """The files of that name in any folder, with their blobs."""
        return {path: blob for path, blob in self._files.items() if Path(path).name == name}

    def _content(self, path: str) -> bytes:
        return self._git.blob(self._files[path])
