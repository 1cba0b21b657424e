"""The tree of a commit, with nothing checked out."""

import hashlib
import posixpath
import shlex
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

from dovetail.errors import MissingFile, UserError
from dovetail.models.folder_md5 import folder_md5
from dovetail.repo import dvc_1
from dovetail.repo.adopted_models import adopted_models
from dovetail.repo.checked_out import declares_the_same, params_files
from dovetail.repo.dvc_files import Tracked, address, read_dvc_files, read_locks, stage_names, unreadable
from dovetail.repo.dvc_repo import check, is_document
from dovetail.repo.dvc_values import Declared, Model
from dovetail.repo.dvc_yaml import artifacts_of, gates_of, registered_by
from dovetail.repo.git_values import Commit
from dovetail.repo.sources import Sources
from dovetail.repo.tree import Tree
from dovetail.values import environment
from dovetail.values.documents import Unreadable
from dovetail.values.environment import PINS, Environment
from dovetail.values.lineage import FileRef, StageRecord
from dovetail.values.registered_name import registered_name


class Revision(Tree):
    """The tree of a commit: its files from git, its data from DVC's cache or remote. Nothing is checked out."""

    def __init__(self, sources: Sources, commit: Commit, experiment: str | None) -> None:
        super().__init__(sources)
        self._read_head, self._here = sources.head, sources.here
        self.commit: Commit = commit
        self.experiment = experiment
        self.dirty = False

    @cached_property
    def _files(self) -> Mapping[str, str]:
        return self._git.files(self.commit.sha)

    @cached_property
    def declared(self) -> Declared:
        try:
            key = self._index_key
            for tree in filter(None, dict.fromkeys((self._read_head(), self))):
                if not self._pipeline.has_asked(key) and tree.declares_what_is_here(key):
                    self._pipeline.take_over(key)
            declared = self._pipeline.declared(key, self.commit.sha)
            gates = {name: gates for found in self._artifacts.values() for name, gates in gates_of(found or {}).items()}
        except UserError:
            if self.of_dvc_1:
                return dvc_1.declared(self._dvc_files)
            self._check_documents()  # DVC does not always say which file it is
            raise
        models = {name: replace(m, gates=gates.get(name, m.gates)) for name, m in declared.models.items()}
        return replace(declared, models=models)

    @cached_property
    def _index_key(self) -> tuple[object, ...]:
        """What commits have in common of which DVC reads the same, but for gates.

        DVC takes a fifth of a second to read a commit's dvc.yaml. Params change at every other commit, but say
        something else only where they are interpolated: in the outs, whose names then show it, and in artifacts.
        """
        pipelines, artifacts = self._named("dvc.yaml"), self._artifacts
        outs = frozenset(out.path for record in self._recorded.values() for out in record.outs)
        names = {registered_name(name) for found in artifacts.values() for name in found or ()}
        # Working directories are not in dvc.lock, and a model without an artifact has the gates of its register stage.
        if self._has_wdirs or None in artifacts.values() or not names.issuperset(registered_by(outs)):
            files = params_files(self._content(path) for path in pipelines)
            read = {path: blob for path, blob in self._files.items() if files and path.rpartition("/")[2] in files}
            return tuple(pipelines.items()), outs, self.commit.sha if files is None else tuple(read.items())
        artifacts_but_gates = [
            (name, _without_gates(one)) for found in artifacts.values() for name, one in (found or {}).items()
        ]
        return tuple(pipelines.items()), outs, repr(artifacts_but_gates)

    @cached_property
    def _artifacts(self) -> Mapping[str, Mapping[str, Mapping[str, Any]] | None]:
        """The artifacts of each dvc.yaml with params in them; None where they are not of the params.yaml beside it."""
        return {path: self._resolved(path) for path in self._named("dvc.yaml")}

    def _resolved(self, pipeline: str) -> Mapping[str, Mapping[str, Any]] | None:
        params = (Path(pipeline).parent / "params.yaml").as_posix()
        try:
            return artifacts_of(self._content(pipeline), self._found(params) or b"")
        except Unreadable as error:
            what = f"{pipeline} or {params} of {self.where} cannot be read: {error}"
            raise UserError(what, f"git show {self.commit.sha[:8]}:{pipeline}") from error

    def declares_what_is_here(self, key: tuple[object, ...]) -> bool:
        """Whether `key` names what DVC reads of this pipeline, and the working tree has the same and no more."""
        if self._index_key != key:
            return False
        pipelines = {path: self._content(path) for path in self._named("dvc.yaml")}
        made = frozenset(out.path for record in self._recorded.values() for out in record.outs)
        return declares_the_same(self._here, self.commit.sha, pipelines, made, self._found)

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

    def _next_command_for_unknown(self, name: str) -> str:
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

    @cached_property
    def records(self) -> Mapping[str, StageRecord]:
        # Where no dvc.yaml names a working directory DVC need not be asked for one.
        wdirs = self.declared.wdirs if self._has_wdirs else {}
        recorded = self._declared_alone(read_locks(self._locks, wdirs, self.commit.sha) if wdirs else self._recorded)
        found = {path: self._content(path) for path in self._files if dvc_1.is_stage_file(path)}
        stages = {path: content for path, content in found.items() if b"cmd:" in content}
        try:
            return {**recorded, **dvc_1.stage_files(stages)}
        except Unreadable:  # `tracked` says which
            return recorded

    def _declared_alone(self, recorded: Mapping[str, StageRecord]) -> Mapping[str, StageRecord]:
        """What is recorded of stages that dvc.yaml has: dvc.lock keeps those that were renamed or removed."""
        texts = {posixpath.dirname(path): stage_names(self._content(path)) for path in self._named("dvc.yaml")}
        if None in texts.values():
            return recorded
        names = {address(folder, name) for folder, stages in texts.items() for name in stages or ()}
        found = {name: record for name, record in recorded.items() if _of_template(name) in names}
        outs = Counter(out.path for record in found.values() for out in record.outs)
        if all(count == 1 for count in outs.values()):
            return found
        return {name: record for name, record in found.items() if name in self.declared.stages}

    @cached_property
    def _recorded(self) -> Mapping[str, StageRecord]:
        """What dvc.lock records, paths as they stand there: those of a stage with a working directory start in it."""
        return read_locks(self._locks, {}, self.commit.sha)

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
        files = {path: self._content(path) for path in self._files if path.endswith(".dvc")}
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
        return {path: blob for path, blob in self._files.items() if path.rpartition("/")[2] == name}

    def _content(self, path: str) -> bytes:
        return self._git.blob(self._files[path])


def _of_template(name: str) -> str:
    """The address of what dvc.yaml writes as one stage, given that of one which it stands for."""
    folder, colon, short = name.rpartition(":")
    return f"{folder}{colon}{short.partition('@')[0]}"


def _without_gates(artifact: Mapping[str, Any]) -> dict[str, Any]:
    """What an artifact says besides what each commit is asked for itself."""
    meta = artifact.get("meta")
    others = {key: value for key, value in meta.items() if key != "gates"} if isinstance(meta, Mapping) else meta
    return {**artifact, "meta": others}
