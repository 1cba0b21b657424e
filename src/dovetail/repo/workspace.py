"""The DVC and git side: the working tree, the commits and the bytes that DVC keeps."""

import hashlib
import json
import os
import shlex
import shutil
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dovetail.errors import Busy, DataUnavailable, MissingFile, UnknownReference, UserError
from dovetail.repo import ledger
from dovetail.repo.dvc_values import Declared, Recipe, Step
from dovetail.repo.dvc_yaml import declared, recipes, running, steps
from dovetail.repo.git import Git
from dovetail.repo.git_values import Commit
from dovetail.repo.ledger import Ledger
from dovetail.repo.objects import Objects
from dovetail.repo.tree import Snapshot
from dovetail.repo.trees import Revision, WorkingTree
from dovetail.values.lineage import FileRef, StageRecord

if TYPE_CHECKING:
    from dvc.repo import Repo

ENV_ROOT = "DVC_ROOT"  # set by DVC for a stage's command
WORKSPACE = "workspace"  # DVC's own word for the working tree where a revision is asked for


class Workspace:
    """A DVC repository.

    Attributes:
        root: The tree that holds dvc.yaml and the files.
        store_root: The real root: the same, but in a temporary experiment the repository that started it.
        git: Its history.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.store_root = Path(os.environ.get(ENV_ROOT) or root)
        self.git = Git(root)
        self._declared: dict[Any, Declared] = {}
        self._keeper = self  # whose cache keeps what the remote gives
        self._closing = ExitStack()

    @cached_property
    def _repo(self) -> "Repo":
        """The repository as DVC opens it, when DVC is asked for the first time: its import takes half a second.

        Raises:
            UserError: when DVC cannot read its configuration.
        """
        from dvc.repo import Repo

        with _dvc_errors():
            return self._closing.enter_context(Repo(str(self.root)))

    @cached_property
    def scratch(self) -> Path:
        """DVC's own temporary folder: git ignores it, and bytes of the cache can be linked there."""
        folder = self.root / ".dvc" / "tmp"
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def close(self) -> None:
        """End what was opened."""
        self._closing.close()
        self.git.close()

    @cached_property
    def tree(self) -> "WorkingTree":
        """The files as they lie there."""
        return WorkingTree(self)

    def at(self, commit: Commit, experiment: str | None = None) -> "Revision":
        """The tree of a commit."""
        return Revision(self, commit, experiment)

    def tree_of(self, rev: str) -> Snapshot:
        """The tree that `rev` names, as DVC has it: `workspace`, a git revision, an experiment's name.

        Raises:
            UnknownReference: when it names none.
        """
        if rev == WORKSPACE:
            return self.tree
        if commit := self.git.commit(rev):
            return self.at(commit)
        experiments = self.git.experiments()
        if rev in experiments and (commit := self.git.commit(experiments[rev])):
            return self.at(commit, rev)
        known = f"; experiments: {', '.join(experiments)}" if experiments else ""
        raise UnknownReference(f"git knows no revision {rev!r}{known}", "git log --oneline --all")

    def declared(self, index_key: Any = None, rev: str | None = None) -> Declared:
        """What dvc.yaml declares in the working tree or at `rev`, asked of DVC once for each `index_key`.

        Raises:
            UserError: when it cannot be read.
        """
        from dvc.exceptions import DvcException

        try:
            return self._asked(index_key, rev)
        except DvcException as error:
            show = f"git show {rev[:8]}:dvc.yaml" if rev else "mend the file named, then: dvc status"
            raise UserError(" ".join(str(error).split()), show) from error

    def _asked(self, index_key: Any, rev: str | None) -> Declared:
        if index_key not in self._declared:
            if rev is None:
                self._declared[index_key] = declared(self._repo)
            else:
                with self._repo.switch(rev):
                    self._declared[index_key] = declared(self._repo)
        return self._declared[index_key]

    def running(self, name: str, folder: Path) -> StageRecord | None:
        """The stage that DVC runs as `name` in `folder`: its inputs, as dvc.lock will record them."""
        return running(self._repo, name, folder, self.hash)

    def hash(self, path: str) -> FileRef:
        """The file or folder of the working tree; its digest comes from DVC's state, known bytes are not read again.

        Raises:
            MissingFile: when it is not there, or cannot be read.
        """
        from dvc.exceptions import DvcException
        from dvc_data.hashfile.hash import hash_file

        file = self.root / path
        if not file.exists():
            raise MissingFile(f"{path} is not there", f"dvc repro, or to fetch what dvc.lock records: dvc pull {path}")
        try:
            if file.is_dir():
                meta, tree = self._hashed_folder(file)
                return FileRef(path, tree.hash_info.value, meta.size)
            meta, info = hash_file(str(file), self._repo.fs, "md5", state=self._repo.state)
        except (OSError, DvcException) as error:
            raise MissingFile(f"{path} cannot be read: {error}", f"dvc checkout {path}") from error
        return FileRef(path, info.value, meta.size)

    def _hashed_folder(self, folder: Path) -> tuple[Any, Any]:
        from dvc_data.hashfile.build import build

        _, meta, tree = build(
            self._repo.cache.local, str(folder), self._repo.fs, "md5", dry_run=True, ignore=self._repo.dvcignore
        )
        return meta, tree

    def listing(self, path: str) -> list[FileRef]:
        """Every file below the folder `path` of the working tree."""
        _, tree = self._hashed_folder(self.root / path)
        return [FileRef("/".join((path, *key)), info.value, meta and meta.size) for key, meta, info in tree]

    def listed(self, folder: FileRef) -> list[FileRef]:
        """Every file of a folder that DVC keeps.

        Raises:
            DataUnavailable: when its listing is in no cache and no remote.
        """
        entries = json.loads(self.object(folder).read_bytes())
        return [FileRef(f"{folder.path}/{entry['relpath']}", entry["md5"]) for entry in entries]

    def known_files(self, ref: FileRef) -> list[FileRef]:
        """Every file of a folder whose listing the cache has; none of anything else. Nothing is fetched."""
        return self.listed(ref) if ref.is_folder and self.cached(ref.md5) else []

    def recipes(self) -> dict[str, Recipe]:
        """How dvc.yaml says that each stage is run, by its name in the whole repository."""
        return recipes(self._repo)

    def object(self, ref: FileRef) -> Path:
        """The cached bytes of `ref`, fetched from the remote when they are not in the cache.

        Raises:
            DataUnavailable: when they are in neither.
        """
        path = self.cached(ref.md5) or self._keeper.cached(ref.md5)
        if path is None:
            self._pull([ref])
            path = self._keeper.cached(ref.md5)
        if path is None:
            raise DataUnavailable(
                f"{ref.path} (md5 {ref.md5}) is neither in the cache nor in a remote",
                "dvc push, in the clone that made it, then the same again here",
            )
        return path

    @contextmanager
    def keeping_in(self, other: "Workspace") -> Iterator[None]:
        """During the block what the remote gives is kept in the cache of `other`: this one's stays as it is."""
        self._keeper = other
        try:
            yield
        finally:
            self._keeper = self

    def cached(self, md5: str) -> Path | None:
        """The bytes of this digest in the cache, if they are there."""
        path = Path(self._repo.cache.local.oid_to_path(md5))
        return path if path.is_file() else None

    def lay(self, ref: FileRef, target: Path, *, link: bool = False) -> None:
        """Lay the bytes of `ref`, a file or a folder, at `target`, from the cache or the remote.

        `link` is for what is only read and soon removed: to write to a linked file is to write to DVC's cache.

        Raises:
            DataUnavailable: when they are in neither.
        """
        target.parent.mkdir(parents=True, exist_ok=True)
        if ref.is_folder:
            for inner in self.listed(ref):
                self.lay(inner, target / Path(inner.path).relative_to(ref.path), link=link)
        elif link:
            _link(self.object(ref), target)
        else:
            _copy(self.object(ref), target)

    def locate(self, ref: FileRef, commit: Commit | None, folder: Path) -> Path:
        """Where the bytes of the file `ref` can be read, and none but these.

        Looked through are DVC's cache, the working tree, git at `commit` (laid out below `folder`) and the remote.

        Raises:
            DataUnavailable: when they are in none of them.
        """
        here = self.root / ref.path
        if cached := self.cached(ref.md5):
            return cached
        if here.is_file() and self.hash(ref.path).md5 == ref.md5:
            return here
        blob = self.git.files(commit.sha).get(ref.path) if commit else None
        content = self.git.blob(blob) if blob else b""
        if hashlib.md5(content, usedforsecurity=False).hexdigest() == ref.md5:
            laid = folder / ref.md5
            laid.write_bytes(content)
            return laid
        return self.object(ref)

    def available(self, refs: Sequence[FileRef]) -> dict[str, list[str]]:
        """Where the bytes of each digest can be had: `cache`, `remote`, `git`. No byte is read."""
        try:
            missing = self.not_in_remote(refs)
        except DataUnavailable:  # a remote that does not answer has nothing to offer now
            missing = None
        found: dict[str, list[str]] = {}
        for ref in refs:
            kept = self._in_git(ref)
            remote = missing is not None and ref not in missing and not kept
            places = {"cache": self.cached(ref.md5) is not None, "remote": remote, "git": kept}
            found[ref.md5] = [place for place, has in places.items() if has]
        return found

    def unobtainable(self, refs: Sequence[FileRef]) -> list[FileRef]:
        """Those of `refs`, and of the files in folders among them, that neither the cache nor the remote has.

        Raises:
            DataUnavailable: when the cache lacks one and the remote does not answer.
        """
        inner = [file for ref in refs for file in self.known_files(ref)]
        absent = [ref for ref in (*refs, *inner) if self.cached(ref.md5) is None]
        missing = self.not_in_remote(absent) if absent else []
        return absent if missing is None else missing

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

    @property
    def push_of_all_commits(self) -> str:
        """The command that pushes what any commit names.

        DVC reads the remote from each commit's own configuration: it leaves out what is older than the remote, says
        that everything is up to date, and takes a relative path from the root of the file system. A remote in the local
        configuration counts for all commits.
        """
        config, command = self._repo.config, "dvc push --all-commits"
        name = config["core"].get("remote")
        if any(name in config.load_one(level).get("remote", {}) for level in ("local", "global", "system")):
            return command
        url = config["remote"][name]["url"]
        place = url if "://" in url else str(Path(url).resolve())
        return f"dvc remote add --local --force --default {name} {shlex.quote(place)} && {command}"

    def _in_git(self, ref: FileRef) -> bool:
        inside = (path for path in self._tracked if path.startswith(f"{ref.path}/")) if ref.is_folder else ()
        return ref.path in self._tracked or any(inside)

    @cached_property
    def _tracked(self) -> Mapping[str, str]:
        return self.git.files("HEAD") if self.git.commit("HEAD") else {}

    @cached_property
    def cache(self) -> Objects:
        """DVC's cache."""
        return Objects("cache", self._repo.cache.local)

    def remote(self, name: str | None = None) -> Objects | None:
        """A remote of DVC, by default its default one; None where none is set.

        Raises:
            UserError: when there is no remote of that name, or it keeps files by their own names.
        """
        from dvc.config import ConfigError, NoRemoteError

        shown = name or self._repo.config["core"].get("remote")
        try:
            return Objects(f"remote {shown}", self._repo.cloud.get_remote_odb(name))
        except NoRemoteError:
            return None
        except ConfigError as error:
            raise UserError(f"remote {shown}: {' '.join(str(error).split())}", "dvc remote list") from error

    def push_command(self, commits: Iterable[Commit]) -> str:
        """What pushes the data of `commits`.

        DVC takes each commit's own .dvc/config for it: a commit older than the remote is passed over in silence.
        """
        push, name = "dvc push --all-commits", self._repo.config["core"].get("remote")
        if name is None:
            return f"dvc remote add --local --default NAME URL && {push}"
        own = (self._repo.config.load_one(level) for level in ("system", "global", "local"))
        if any(name in level.get("remote", {}) for level in own):
            return push
        blobs = (self.git.files(commit.sha).get(".dvc/config") for commit in commits)
        if all(blob and f'remote "{name}"' in self.git.blob(blob).decode() for blob in blobs):
            return push
        url = self._repo.config["remote"][name]["url"]
        return f"dvc remote add --local --force --default {name} {shlex.quote(url)} && {push}"

    @property
    def foreign_cache(self) -> Path | None:
        """Where the cache lies if it lies outside of this repository, where others may use it."""
        place = Path(self._repo.cache.local_cache_dir).resolve()
        return None if place.is_relative_to(self.root.resolve()) else place

    @property
    def unfinished(self) -> list[Path]:
        """The folders of experiments that run, or were killed while they ran: what they made is in no commit yet."""
        runs = self.scratch / "exps"
        return sorted(mark.parent for mark in [*runs.glob("*/.dvc"), *runs.glob("standalone/*/.dvc")])

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep DVC's other commands out.

        Raises:
            Busy: when one of them runs.
        """
        from dvc.lock import LockError

        try:
            self._repo.lock.lock()
        except LockError as error:
            raise Busy(f"a dvc command is at work in {self.root}", "the same again, when it has ended") from error
        try:
            yield
        finally:
            self._repo.lock.unlock()

    def run_cache(self) -> Iterator[str]:
        """The text of each entry of DVC's run-cache: what stages made, committed or not."""
        for file in Path(self._repo.stage_cache.cache_dir).rglob("*"):
            if file.is_file():
                yield file.read_text(encoding="utf-8", errors="replace")

    def commits_with(self, md5: str, *, experiments: bool = True) -> list[Commit]:
        """The commits whose own dvc.lock or .dvc files name this digest, newest first."""
        return self.git.commits_with(md5, "dvc.lock", "*.dvc", experiments=experiments)

    @cached_property
    def ledger(self) -> Ledger:
        """The promotions in git's tags."""
        return ledger.read(self.git.tags())

    def bytes_at(self, model: str, rev: str) -> str:
        """The md5 of the model that the dvc.lock of a commit records.

        Raises:
            UnknownModel, MissingFile: when the commit holds no such model.
        """
        commit = self.git.commit(rev)
        if commit is None:
            raise MissingFile(f"git has no commit {rev!r}", "git fetch --tags")
        tree = self.at(commit)
        return tree.artifact(tree.model(model)).md5

    def typed(self, path: str | Path) -> str:
        """A path from the root, as it is to be typed in the current folder."""
        return shlex.quote(os.path.relpath(self.root / path))

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
            if self._keeper is self:
                self._repo.cloud.pull([HashInfo("md5", ref.md5) for ref in refs])
            else:
                self._keeper.receive(refs, self._repo.cloud.get_remote_odb())
        except NoRemoteError:
            return
        except (DvcException, OSError) as error:
            names = ", ".join(ref.path for ref in refs)
            raise DataUnavailable(f"the remote did not give {names}: {error}", "dvc pull") from error

    def receive(self, refs: Sequence[FileRef], remote: Any) -> None:
        """Bring `refs` from another repository's remote, as DVC opened it, into the cache."""
        from dvc_data.hashfile.hash_info import HashInfo

        wanted, cache = [HashInfo("md5", ref.md5) for ref in refs], self._repo.cache.local
        self._repo.cloud.transfer(remote, cache, wanted, cache_odb=cache, verify=remote.verify)

    def share_cache(self, root: Path, site: Path) -> None:
        """Let the DVC repository at `root` work in this one's cache, with this machine's settings.

        Its state is kept in `site`: by default DVC would leave one behind for each folder that there ever was.
        """
        from dvc.config import Config

        with Config(str(root / ".dvc")).edit("local") as settings:
            for section, values in self._repo.config.load_one("local").items():
                settings[section] = {**settings.get(section, {}), **values}
            settings["cache"]["dir"] = self._repo.cache.local_cache_dir
            settings["core"]["site_cache_dir"] = str(site)

    def check_out(self, refs: Sequence[FileRef]) -> None:
        """Lay the recorded bytes of `refs` in the working tree as DVC does, from the cache; links where it is set so.

        Raises:
            DataUnavailable: when the cache lacks one.
        """
        from dvc.exceptions import DvcException

        try:
            if refs:
                self._repo.checkout([str(self.root / ref.path) for ref in refs], force=True)
        except DvcException as error:
            raise DataUnavailable(" ".join(str(error).split()), "dvc pull") from error

    def add(self, paths: Sequence[str]) -> None:
        """What `dvc add` does.

        Raises:
            UserError: when DVC does not take one.
        """
        self._repo.scm_context.quiet = True  # or it tells, on standard output, what to add to git
        with _dvc_errors():
            self._repo.add([str(self.root / path) for path in paths])

    def fetch(self, refs: Sequence[FileRef]) -> None:
        """See that the cache holds the bytes of `refs`, files or folders; what it lacks comes from the remote.

        Raises:
            DataUnavailable: when one is in neither.
        """
        for ref in refs:
            self.object(ref)
            for file in self.listed(ref) if ref.is_folder else ():
                self.object(file)

    def dvc_files(self) -> list[Path]:
        """The .dvc files of the working tree."""
        return sorted({Path(stage.path) for stage in self._repo.index.stages if stage.path.endswith(".dvc")})

    @cached_property
    def steps(self) -> list[Step]:
        """Every stage and .dvc file of the working tree.

        Raises:
            UserError: when one cannot be read.
        """
        with _dvc_errors():
            return steps(self._repo)

    @property
    def has_hardlink_lock(self) -> bool:
        """Whether DVC's lock is a file that a killed process leaves behind (`core.hardlink_lock`)."""
        return bool(self._repo.config["core"].get("hardlink_lock"))

    def content(self, ref: FileRef) -> list[FileRef]:
        """`ref` and, of a folder whose listing is in the cache, the files that are in it."""
        listing = self.cached(ref.md5) if ref.is_folder else None
        entries = json.loads(listing.read_bytes()) if listing else []
        return [ref, *(FileRef(f"{ref.path}/{entry['relpath']}", entry["md5"]) for entry in entries)]

    def locks(self) -> list[Path]:
        """The dvc.lock beside each dvc.yaml of the working tree that has one.

        Raises:
            UserError: when a dvc.yaml cannot be read.
        """
        with _dvc_errors():
            stages = list(self._repo.index.stages)
        folders = sorted({Path(stage.path).parent for stage in stages})
        return [folder / "dvc.lock" for folder in folders if (folder / "dvc.lock").is_file()]


@contextmanager
def open_workspace(start: Path | None = None) -> Iterator[Workspace]:
    """The DVC repository that `start` (default: the current folder) lies in; DVC opens it when it is asked.

    Raises:
        NotARepository: when it lies in none.
        UserError: when dvc.yaml, params.yaml or a .dvc file cannot be read.
    """
    workspace = Workspace(Git.of_dvc(start).root)
    try:
        with _dvc_errors():
            yield workspace
    finally:
        workspace.close()


def _copy(source: Path, target: Path) -> None:
    """A copy that takes no time and no space where the file system can share the bytes until one is written to."""
    from dvc_objects.fs.system import reflink

    try:
        reflink(str(source), str(target))
    except OSError:
        shutil.copyfile(source, target)


@contextmanager
def _dvc_errors() -> Iterator[None]:
    """Translate what DVC says of a file that it cannot read."""
    try:
        yield
    except Exception as error:
        dvc = sys.modules.get("dvc.exceptions")  # where it was never imported nothing can be its error
        if dvc and isinstance(error, dvc.DvcException):
            raise UserError(" ".join(str(error).split()), "mend the file named, then: dvc status") from error
        raise


def _link(source: Path, target: Path) -> None:
    """The same bytes under another name; copied where the file system cannot link."""
    try:
        target.hardlink_to(source)
    except OSError:
        shutil.copyfile(source, target)
