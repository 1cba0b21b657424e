"""The bytes that DVC keeps, by digest: in its cache, or brought there from a remote."""

import hashlib
import json
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

from dovetail.errors import DataMissing, DataUnavailable, DovetailError, MissingFile, one_line
from dovetail.repo.dvc_repo import DvcRepo, dvc_errors
from dovetail.repo.git import Git
from dovetail.repo.git_values import Commit
from dovetail.repo.objects import Objects
from dovetail.repo.open_remote import DVC_2, DVC_3, answering, open_remote
from dovetail.repo.quoted_paths import typed
from dovetail.values.lineage import FileRef

_READ_BY_NAME = (".keras", ".h5", ".hdf5")


class Storage:
    """DVC's cache, the files of the working tree as DVC digests them, and the way from one to the other."""

    def __init__(self, dvc: DvcRepo, git: Git) -> None:
        self._dvc = dvc
        self._git = git
        self._target = self  # whose cache keeps what the remote gives

    @cached_property
    def cache(self) -> Objects:
        """DVC's cache."""
        return Objects("cache", self._dvc.opened.cache.local)

    @property
    def foreign_cache(self) -> Path | None:
        """Where the cache lies if it lies outside of this repository, where others may use it."""
        place = Path(self._dvc.opened.cache.local_cache_dir).resolve()
        return None if place.is_relative_to(self._dvc.root.resolve()) else place

    def hash(self, path: str, *, by_dvc_2: bool = False) -> FileRef:
        """The file or folder of the working tree; its digest comes from DVC's state, known bytes are not read again.

        `by_dvc_2` gives the digest that DVC 2 would have given it.

        Raises:
            MissingFile: when it is not there, or cannot be read.
        """
        from dvc.exceptions import DvcException
        from dvc_data.hashfile.hash import hash_file

        file, repo, algorithm = self._dvc.root / path, self._dvc.opened, DVC_2 if by_dvc_2 else DVC_3
        where = typed(self._dvc.root, path)
        if not file.exists():
            raise MissingFile(f"{path} is not there", f"dvc repro, or to fetch what dvc.lock records: dvc pull {where}")
        try:
            if file.is_dir():
                meta, tree = self._hashed_folder(file, algorithm)
                return FileRef(path, tree.hash_info.value, meta.size)
            meta, info = hash_file(str(file), repo.fs, algorithm, state=repo.state)
        except (OSError, DvcException) as error:
            raise MissingFile(f"{path} cannot be read: {error}", f"dvc checkout {where}") from error
        return FileRef(path, info.value, meta.size)

    def hash_files(self, path: str) -> list[FileRef]:
        """Every file below the folder `path` of the working tree."""
        _, tree = self._hashed_folder(self._dvc.root / path, DVC_3)
        return [FileRef("/".join((path, *key)), info.value, meta and meta.size) for key, meta, info in tree]

    def _hashed_folder(self, folder: Path, algorithm: str) -> tuple[Any, Any]:
        from dvc_data.hashfile.build import build

        repo = self._dvc.opened
        cache = repo.cache.legacy if algorithm == DVC_2 else repo.cache.local
        _, meta, tree = build(cache, str(folder), repo.fs, algorithm, dry_run=True, ignore=repo.dvcignore)
        return meta, tree

    def cached(self, md5: str) -> Path | None:
        """The bytes of this digest in the cache, if they are there; where DVC 2 put them, too."""
        caches = self._dvc.opened.cache
        paths = (Path(cache.oid_to_path(md5)) for cache in (caches.local, caches.legacy))
        return next((path for path in paths if path.is_file()), None)

    def here(self, ref: FileRef) -> Path | None:
        """The bytes of the file `ref` in the cache or in the working tree; nothing is fetched."""
        if ref.is_folder:
            return None
        if cached := self.cached(ref.md5):
            return cached
        try:
            return self._dvc.root / ref.path if self.hash(ref.path).md5 == ref.md5 else None
        except DovetailError:
            return None

    def object(self, ref: FileRef) -> Path:
        """The cached bytes of `ref`, fetched from the remote when they are not in the cache.

        Raises:
            DataUnavailable: when they are in neither.
        """
        path = self.cached(ref.md5) or self._target.cached(ref.md5)
        if path is None:
            self._pull([ref])
            path = self._target.cached(ref.md5)
        if path is None:
            raise DataMissing(
                f"{ref.path} (md5 {ref.md5}) is neither in the cache nor in a remote",
                "dvc push, in the clone that made it, then run the same command again here",
            )
        return path

    def files(self, folder: FileRef) -> list[FileRef]:
        """Every file of a folder that DVC keeps; its listing is fetched when it is not in the cache.

        Raises:
            DataUnavailable: when the listing is in no cache and no remote.
        """
        entries = json.loads(self.object(folder).read_bytes())
        return [FileRef(f"{folder.path}/{entry['relpath']}", entry["md5"]) for entry in entries]

    def cached_files(self, ref: FileRef) -> list[FileRef]:
        """Every file of a folder whose listing is in the cache; none of anything else. Nothing is fetched."""
        return self.files(ref) if ref.is_folder and self.cached(ref.md5) else []

    def content(self, ref: FileRef) -> list[FileRef]:
        """`ref` and its `cached_files`."""
        return [ref, *self.cached_files(ref)]

    def write_to(self, ref: FileRef, target: Path, *, link: bool = False) -> None:
        """Write the bytes of `ref`, a file or a folder, to `target`, from the cache or the remote.

        `link` is for what is only read and soon removed: to write to a linked file is to write to DVC's cache.

        Raises:
            DataUnavailable: when they are in neither.
        """
        target.parent.mkdir(parents=True, exist_ok=True)
        if ref.is_folder:
            for inner in self.files(ref):
                self.write_to(inner, target / Path(inner.path).relative_to(ref.path), link=link)
        elif link:
            _link(self.object(ref), target)
        else:
            _copy(self.object(ref), target)

    def readable(self, ref: FileRef, folder: Path) -> Path:
        """Where the bytes of `ref` can be read: in DVC's cache; a folder, or what is read by its name, below `folder`.

        Raises:
            DataUnavailable: when they are neither in the cache nor in the remote.
        """
        if not ref.is_folder and Path(ref.path).suffix not in _READ_BY_NAME:
            return self.object(ref)
        target = folder / ref.md5 / ("" if ref.is_folder else Path(ref.path).name)
        if not target.exists():
            self.write_to(ref, target, link=True)
        return target

    def locate(self, ref: FileRef, commit: Commit | None, folder: Path) -> Path:
        """Where the bytes of the file `ref` can be read, and none but these.

        Looked through are DVC's cache, the working tree, git at `commit` (written below `folder`) and the remote.

        Raises:
            DataUnavailable: when they are in none of them.
        """
        here = self._dvc.root / ref.path
        if cached := self.cached(ref.md5):
            return cached
        if here.is_file() and self.hash(ref.path).md5 == ref.md5:
            return here
        blob = self._git.files(commit.sha).get(ref.path) if commit else None
        content = self._git.blob(blob) if blob else b""
        if hashlib.md5(content, usedforsecurity=False).hexdigest() == ref.md5:
            written = folder / ref.md5
            written.write_bytes(content)
            return written
        return self.object(ref)

    def fetch(self, refs: Sequence[FileRef]) -> None:
        """See that the cache holds the bytes of `refs`, files or folders; what it lacks comes from the remote.

        Raises:
            DataUnavailable: when one is in neither.
        """
        for ref in refs:
            self.object(ref)
            for file in self.files(ref) if ref.is_folder else ():
                self.object(file)

    @contextmanager
    def fetching_into(self, other: "Storage") -> Iterator[None]:
        """During the block what the remote gives goes to the cache of `other`: this one's stays as it is."""
        self._target = other
        try:
            yield
        finally:
            self._target = self

    def _pull(self, refs: Sequence[FileRef]) -> None:
        remote = open_remote(self._dvc)
        if remote is None:
            return
        names = ", ".join(ref.path for ref in refs)
        with answering(f"for {names}, remote {self._dvc.default_remote}"):
            self._target.receive(refs, remote)
            left = [ref for ref in refs if self._target.cached(ref.md5) is None]
            old = open_remote(self._dvc, by_dvc_2=True) if left else None
            there = set(old.oids_exist([ref.md5 for ref in left])) if old else set()
            if old and there:
                self._target.receive([ref for ref in left if ref.md5 in there], old)

    def receive(self, refs: Sequence[FileRef], remote: Any) -> None:
        """Bring `refs` from a remote, as DVC opened it, which may be another repository's, into the cache."""
        from dvc_data.hashfile.hash_info import HashInfo

        caches, algorithm = self._dvc.opened.cache, remote.hash_name
        wanted, cache = (
            [HashInfo(algorithm, ref.md5) for ref in refs],
            caches.legacy if algorithm == DVC_2 else caches.local,
        )
        self._dvc.opened.cloud.transfer(remote, cache, wanted, cache_odb=cache, verify=remote.verify)

    def check_out(self, refs: Sequence[FileRef]) -> None:
        """Write the recorded bytes of `refs` to the working tree as `dvc checkout` does; links where it is set so.

        Raises:
            DataUnavailable: when the cache lacks one.
        """
        from dvc.exceptions import DvcException

        try:
            if refs:
                self._dvc.opened.checkout([str(self._dvc.root / ref.path) for ref in refs], force=True)
        except DvcException as error:
            raise DataUnavailable(one_line(error), "dvc pull") from error

    def add(self, paths: Sequence[str]) -> None:
        """What `dvc add` does.

        Raises:
            UserError: when DVC does not take one.
        """
        repo = self._dvc.opened
        repo.scm_context.quiet = True  # or it tells, on standard output, what to add to git
        with dvc_errors():
            repo.add([str(self._dvc.root / path) for path in paths])

    def share_cache(self, root: Path, site: Path) -> None:
        """Let the DVC repository at `root` work in this one's cache, with this machine's settings.

        Its state is kept in `site`: by default DVC would leave one behind for each folder that there ever was.

        Raises:
            UserError: when its configuration cannot be written.
        """
        from dvc.config import Config

        repo = self._dvc.opened
        with dvc_errors(), Config(str(root / ".dvc")).edit("local") as settings:
            for section, values in repo.config.load_one("local").items():
                settings[section] = {**settings.get(section, {}), **values}
            settings["cache"]["dir"] = repo.cache.local_cache_dir
            settings["core"]["site_cache_dir"] = str(site)

    def sharing(self, folder: Path, site: Path) -> str:
        """The `.dvc/config.local` of a copy that works in this one's cache; `folder` is there to write it in.

        Raises:
            UserError: when the configuration cannot be read.
        """
        (folder / ".dvc").mkdir(exist_ok=True)
        self.share_cache(folder, site)
        return (folder / ".dvc" / "config.local").read_text(encoding="utf-8")

    def run_cache(self) -> Iterator[str]:
        """The text of each entry of DVC's run-cache: what stages made, committed or not."""
        for file in Path(self._dvc.opened.stage_cache.cache_dir).rglob("*"):
            if file.is_file():
                yield file.read_text(encoding="utf-8", errors="replace")


def _copy(source: Path, target: Path) -> None:
    """A copy that takes no time and no space where the file system can share the bytes until one is written to."""
    from dvc_objects.fs.system import reflink

    try:
        reflink(str(source), str(target))
    except OSError:
        shutil.copyfile(source, target)


def _link(source: Path, target: Path) -> None:
    """The same bytes under another name; copied where the file system cannot link."""
    try:
        target.hardlink_to(source)
    except OSError:
        shutil.copyfile(source, target)
