"""The DVC and git side: the working tree, the commits and the bytes that DVC keeps. The only importer of dvc."""

import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from dovetail import environment
from dovetail.environment import Environment
from dovetail.errors import DataUnavailable, MissingFile, NotARepository, UnknownModel, UserError
from dovetail.git import Git
from dovetail.lineage import FileRef, StageRecord, parse_lock
from dovetail.snapshot import RECEIPTS, Commit, Declared, Model, Snapshot

if TYPE_CHECKING:
    from dvc.repo import Repo
    from dvc.stage import Stage

ENV_ROOT, ENV_STAGE, ENV_EXPERIMENT = "DVC_ROOT", "DVC_STAGE", "DVC_EXP_NAME"  # set by DVC for a stage's command
_PINS = "requirements.lock"
REPORT_SUFFIXES = (".json", ".yaml", ".yml", ".toml", ".csv", ".png", "")  # what lies beside a model, named like it


class Workspace:
    """A DVC repository.

    Attributes:
        root: The tree that holds dvc.yaml and the files.
        store_root: The real root: the same, but in a temporary experiment the repository that started it.
        git: Its history.
        scratch: A folder that git ignores.
    """

    def __init__(self, repo: "Repo") -> None:
        self._repo = repo
        self.root = Path(repo.root_dir)
        self.store_root = Path(os.environ.get(ENV_ROOT) or repo.root_dir)
        self.git = Git(self.root)
        self.scratch = Path(repo.tmp_dir)  # on the cache's file system, so that bytes can be linked
        self._declared: dict[Any, Declared] = {}

    @cached_property
    def tree(self) -> "WorkingTree":
        """The files as they lie there."""
        return WorkingTree(self)

    def at(self, commit: Commit, experiment: str | None = None) -> "Revision":
        """The tree of a commit."""
        return Revision(self, commit, experiment)

    def declared(self, index_key: Any = None, rev: str | None = None) -> Declared:
        """What dvc.yaml declares in the working tree or at `rev`, asked of DVC once for each `index_key`."""
        if index_key not in self._declared:
            if rev is None:
                self._declared[index_key] = _declared(self._repo)
            else:
                with self._repo.switch(rev):
                    self._declared[index_key] = _declared(self._repo)
        return self._declared[index_key]

    def hash(self, path: str) -> FileRef:
        """The file or folder of the working tree; its digest comes from DVC's state, known bytes are not read again.

        Raises:
            MissingFile: when it is not there, or cannot be read.
        """
        from dvc.exceptions import DvcException
        from dvc_data.hashfile.build import build
        from dvc_data.hashfile.hash import hash_file

        file = self.root / path
        if not file.exists():
            raise MissingFile(f"{path} is not there", f"dvc repro, or to fetch what dvc.lock records: dvc pull {path}")
        try:
            if file.is_dir():
                _, meta, tree = build(self._repo.cache.local, str(file), self._repo.fs, "md5", dry_run=True)
                return FileRef(path, tree.hash_info.value, meta.size)
            meta, info = hash_file(str(file), self._repo.fs, "md5", state=self._repo.state)
        except (OSError, DvcException) as error:
            raise MissingFile(f"{path} cannot be read: {error}", f"dvc checkout {path}") from error
        return FileRef(path, info.value, meta.size)

    def object(self, ref: FileRef) -> Path:
        """The cached bytes of `ref`, fetched from the remote when they are not in the cache.

        Raises:
            DataUnavailable: when they are in neither.
        """
        path = self._cached(ref.md5)
        if path is None:
            self._pull([ref])
            path = self._cached(ref.md5)
        if path is None:
            raise DataUnavailable(
                f"{ref.path} (md5 {ref.md5}) is neither in the cache nor in a remote",
                "dvc push, in the clone that made it, then the same again here",
            )
        return path

    def _cached(self, md5: str) -> Path | None:
        path = Path(self._repo.cache.local.oid_to_path(md5))
        return path if path.is_file() else None

    def lay(self, ref: FileRef, target: Path) -> None:
        """Lay the bytes of `ref`, a file or a folder, at `target`, from the cache or the remote.

        Raises:
            DataUnavailable: when they are in neither.
        """
        target.parent.mkdir(parents=True, exist_ok=True)
        if ref.is_folder:
            for entry in json.loads(self.object(ref).read_bytes()):
                self.lay(FileRef(f"{ref.path}/{entry['relpath']}", entry["md5"]), target / entry["relpath"])
        else:
            _link(self.object(ref), target)

    def available(self, refs: Sequence[FileRef]) -> dict[str, list[str]]:
        """Where the bytes of each digest can be had: `cache`, `remote`, `git`. No byte is read."""
        try:
            missing = self.not_in_remote(refs)
        except DataUnavailable:  # a remote that does not answer has nothing to offer now
            missing = None
        found: dict[str, list[str]] = {}
        for ref in refs:
            remote = missing is not None and ref not in missing and not self._in_git(ref)
            places = {"cache": self._cached(ref.md5) is not None, "remote": remote, "git": self._in_git(ref)}
            found[ref.md5] = [place for place, has in places.items() if has]
        return found

    def not_in_remote(self, refs: Sequence[FileRef]) -> list[FileRef] | None:
        """Those of `refs` that git does not keep and the remote lacks; None where no remote is set.

        Raises:
            DataUnavailable: when the remote does not answer.
        """
        from dvc.config import NoRemoteError
        from dvc.exceptions import DvcException

        asked = [ref for ref in refs if not self._in_git(ref)]
        try:
            remote = self._repo.cloud.get_remote_odb()
            there = set(remote.oids_exist([ref.md5 for ref in asked])) if asked else set()
        except NoRemoteError:
            return None
        except (DvcException, OSError) as error:
            raise DataUnavailable(f"the remote does not answer: {error}", "dvc remote list, then dvc push") from error
        return [ref for ref in asked if ref.md5 not in there]

    def _in_git(self, ref: FileRef) -> bool:
        return ref.path in self._tracked

    @cached_property
    def _tracked(self) -> Mapping[str, str]:
        return self.git.files("HEAD") if self.git.commit("HEAD") else {}

    def commits_with(self, md5: str, *, experiments: bool = True) -> list[Commit]:
        """The commits whose own dvc.lock names this digest, newest first."""
        return self.git.commits_with(md5, "dvc.lock", experiments=experiments)

    def relative(self, path: str) -> str:
        """`path`, as typed in the current folder or from the root, relative to the root."""
        typed = Path.cwd() / path
        inside = typed.is_relative_to(self.root) and typed.exists()
        return typed.relative_to(self.root).as_posix() if inside else Path(path).as_posix()

    def _pull(self, refs: Sequence[FileRef]) -> None:
        from dvc.config import NoRemoteError
        from dvc.exceptions import DvcException
        from dvc_data.hashfile.hash_info import HashInfo

        try:
            self._repo.cloud.pull([HashInfo("md5", ref.md5) for ref in refs])
        except NoRemoteError:
            return
        except (DvcException, OSError) as error:
            names = ", ".join(ref.path for ref in refs)
            raise DataUnavailable(f"the remote did not give {names}: {error}", "dvc pull") from error

    def locks(self) -> list[Path]:
        """The dvc.lock beside each dvc.yaml of the working tree that has one."""
        folders = sorted({Path(stage.path).parent for stage in self._repo.index.stages})
        return [folder / "dvc.lock" for folder in folders if (folder / "dvc.lock").is_file()]


class WorkingTree(Snapshot):
    """The files as they lie there, registered by whatever runs: a stage, an experiment or somebody at a keyboard."""

    def __init__(self, workspace: Workspace) -> None:
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

    @property
    def where(self) -> str:
        return "the working tree"


class Revision(Snapshot):
    """The tree of a commit: its files from git, its data from DVC's cache or remote. Nothing is checked out."""

    def __init__(self, workspace: Workspace, commit: Commit, experiment: str | None) -> None:
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

    def _gates(self, pipeline: str) -> Mapping[str, Any]:
        """Each artifact's gates with this commit's params in them."""
        from dvc.parsing.context import Context

        params = (Path(pipeline).parent / "params.yaml").as_posix()
        content = yaml.safe_load(self._text(pipeline)) or {}
        if params not in self._files:
            return {}
        artifacts = Context(yaml.safe_load(self._text(params)) or {}).resolve(content.get("artifacts") or {})
        return {name: (artifact.get("meta") or {}).get("gates") or {} for name, artifact in artifacts.items()}

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
            self._workspace.lay(ref, target)
        return target

    @cached_property
    def environment(self) -> Environment | None:
        return environment.pinned(self._text(_PINS)) if _PINS in self._files else None

    @property
    def where(self) -> str:
        return f"commit {self.commit.sha[:8]}"

    @property
    def time(self) -> int | None:
        return self.commit.time * 1000

    def _text(self, path: str) -> str:
        return self._workspace.git.blob(self._files[path]).decode()


@contextmanager
def open_workspace(start: Path | None = None) -> Iterator[Workspace]:
    """Open the DVC repository that `start` (default: the current folder) lies in.

    Raises:
        NotARepository: when it lies in none.
        UserError: when dvc.yaml, params.yaml or a .dvc file cannot be read.
    """
    from dvc.exceptions import DvcException, NotDvcRepoError
    from dvc.repo import Repo

    try:
        repo = Repo(str(start) if start else None)
    except NotDvcRepoError as error:
        raise NotARepository(f"{start or Path.cwd()} is in no DVC repository", "git init && dvc init") from error
    with repo:
        workspace = Workspace(repo)
        try:
            yield workspace
        except DvcException as error:
            raise UserError(" ".join(str(error).split()), "mend the file named, then: dvc status") from error
        finally:
            workspace.git.close()


def _link(source: Path, target: Path) -> None:
    """The same bytes under another name; copied where the file system cannot link."""
    try:
        target.hardlink_to(source)
    except OSError:
        shutil.copyfile(source, target)


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


def _declared(repo: "Repo") -> Declared:
    """What DVC's index of the tree that `repo` stands at says."""

    def relative(path: str) -> str:
        return str(repo.fs.as_posix(repo.fs.relpath(path, repo.root_dir)))

    stages = list(repo.index.stages)
    outs = [(out, relative(out.fs_path)) for stage in stages for out in stage.outs]
    return Declared(
        models=_models(repo, _register_stages(stages, relative)),
        metrics=frozenset(path for out, path in outs if out.metric),
        plots=frozenset(path for out, path in outs if out.plot),
    )


def _register_stages(stages: "list[Stage]", relative: Callable[[str], str]) -> dict[str, Model]:
    """The model of each register stage, by name; such a stage is known by the receipt that it writes."""
    return {
        Path(path).stem: _undeclared(Path(path).stem, stage, relative)
        for stage in stages
        for path in (relative(out.fs_path) for out in stage.outs)
        if path.startswith(f"{RECEIPTS}/")
    }


def _undeclared(name: str, stage: "Stage", relative: Callable[[str], str]) -> Model:
    """What a register stage says of its model: the dep that is named like it, the card beside it, the gates' param."""
    from dvc.dependency import ParamsDependency

    params = [dep for dep in stage.deps if isinstance(dep, ParamsDependency)]
    files = tuple(relative(dep.fs_path) for dep in stage.deps if dep not in params)
    named = [path for path in files if Path(path).stem == name and Path(path).suffix not in REPORT_SUFFIXES]
    card = str(Path(named[0]).with_suffix(".json")) if named else ""
    values = {key: value for dep in params for key, value in dep.read_params().items()}
    gates = next((value for key, value in values.items() if key.rpartition(".")[2] == "gates"), None)
    return Model(
        name=name,
        path=named[0] if len(named) == 1 else "",
        card=card if card in files else None,
        gates=gates or {},
        beside=files,
    )


def _models(repo: "Repo", register_stages: Mapping[str, Model]) -> dict[str, Model]:
    """The `artifacts` of type model, and what has a register stage without such an entry."""
    found = {}
    for dvcfile, artifacts in repo.artifacts.read().items():
        for name, artifact in artifacts.items():
            if artifact.type == "model" or name in register_stages:
                meta = artifact.meta or {}
                found[name] = Model(
                    name=name,
                    path=(Path(dvcfile).parent / artifact.path).as_posix(),
                    desc=artifact.desc,
                    labels=tuple(artifact.labels),
                    card=meta.get("card"),
                    gates=meta.get("gates") or {},
                    beside=register_stages[name].beside if name in register_stages else (),
                )
    for name, model in register_stages.items():
        if name not in found and not model.path:
            raise UnknownModel(
                f"the register stage of {name!r} does not depend on one file named like it, so its model is not known",
                f"add to dvc.yaml: artifacts: {{{name}: {{path: …, type: model}}}}",
            )
    return {**register_stages, **found}
