"""What a remote of DVC has, and what it lacks."""

import shlex
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path

from dovetail.errors import DataUnavailable, DovetailError
from dovetail.repo.dvc_repo import DvcRepo
from dovetail.repo.git import Git
from dovetail.repo.git_values import Commit
from dovetail.repo.objects import Objects
from dovetail.repo.open_remote import missing_plugin, open_remote
from dovetail.repo.storage import Storage
from dovetail.values.finding import Finding
from dovetail.values.lineage import FileRef

_PUSH = "dvc push --all-commits"


class Remote:
    """DVC's remotes; where none is named its default one, where none is set none at all."""

    def __init__(self, dvc: DvcRepo, git: Git, storage: Storage) -> None:
        self._dvc = dvc
        self._git = git
        self._storage = storage
        self._closed: DataUnavailable | None = None  # the default remote did not answer: it is not asked again
        self._holds: dict[str, bool] = {}  # digest → whether the default remote has it, until `forget`

    def objects(self, name: str | None = None) -> Objects | None:
        """What lies in a remote; None where none is set.

        Raises:
            UserError: when there is no remote of that name, or it keeps files by their own names.
            DataUnavailable: when its plugin is missing, or it does not answer.
        """
        remote = open_remote(self._dvc, name)
        return None if remote is None else Objects(f"remote {name or self._dvc.default_remote}", remote)

    def missing(self, refs: Sequence[FileRef]) -> list[FileRef] | None:
        """Those of `refs` that git does not keep and the remote lacks; None where no remote is set.

        Raises:
            UserError: when the remote keeps files by their own names.
            DataUnavailable: when its plugin is missing, or it does not answer.
        """
        asked = [ref for ref in refs if not self._in_git(ref)]
        if self._closed:
            raise self._closed
        try:
            remote = self.objects()
            if remote and (unknown := {ref.md5 for ref in asked} - self._holds.keys()):
                there = remote.holds(unknown)
                if left := unknown - there:
                    there |= self._of_dvc_2(left)
                self._holds |= {md5: md5 in there for md5 in unknown}
        except DataUnavailable as error:
            self._closed = error
            raise
        if remote is None:
            return None
        return [ref for ref in asked if not self._holds[ref.md5]]

    def forget(self) -> None:
        """Ask the remote anew: what was run may have pushed."""
        self._holds.clear()

    def _of_dvc_2(self, digests: Collection[str]) -> set[str]:
        """Those of `digests` whose objects lie in the default remote where DVC 2 put them."""
        remote = open_remote(self._dvc, by_dvc_2=True)
        return Objects(f"remote {self._dvc.default_remote}", remote).holds(digests) if remote else set()

    def missing_everywhere(self, refs: Sequence[FileRef]) -> list[FileRef]:
        """Those of `refs`, and of the files in folders among them, that neither the cache nor the remote has.

        Raises:
            DataUnavailable: when the cache lacks one and the remote does not answer.
        """
        inner = [file for ref in refs for file in self._storage.cached_files(ref)]
        absent = [ref for ref in (*refs, *inner) if self._storage.cached(ref.md5) is None]
        missing = self.missing(absent) if absent else []
        return absent if missing is None else missing

    def available(self, refs: Sequence[FileRef]) -> dict[str, list[str]]:
        """Where the bytes of each digest are available: `cache`, `remote`, `git`. No byte is read.

        Where a remote is set and does not answer, what lies nowhere else is `unknown`: it may be there.
        """
        missing: list[FileRef] | None
        try:
            missing, is_known = self.missing(refs), True
        except DovetailError:
            missing, is_known = None, False
        found: dict[str, list[str]] = {}
        for ref in refs:
            in_git = self._in_git(ref)
            in_remote = missing is not None and ref not in missing and not in_git
            places = {"cache": self._storage.cached(ref.md5) is not None, "remote": in_remote, "git": in_git}
            found[ref.md5] = [place for place, has in places.items() if has] or ([] if is_known else ["unknown"])
        return found

    def missing_plugins(self) -> Iterator[Finding]:
        """The remotes that DVC cannot open before a package is installed."""
        for name in self._dvc.opened.config["remote"]:
            if error := missing_plugin(self._dvc, name):
                yield Finding("error", error.message, "nothing can be pushed, fetched or looked up", error.next_command)

    def push_command(self, commits: Iterable[Commit] | None = None) -> str:
        """The command that pushes the data of `commits`; of any commit where none are given.

        DVC reads the remote from each commit's own .dvc/config. A commit older than the remote it leaves out, says that
        everything is up to date, and takes a relative path from the root of the file system. A remote in the local
        configuration counts for all commits.
        """
        config, name = self._dvc.opened.config, self._dvc.default_remote
        if name is None:
            return f"dvc remote add --local --default NAME URL && {_PUSH}"
        own = (config.load_one(level) for level in ("system", "global", "local"))
        if any(name in level.get("remote", {}) for level in own):
            return _PUSH
        if commits is not None and all(self._is_set_at(commit, name) for commit in commits):
            return _PUSH
        url = config["remote"][name]["url"]
        place = url if "://" in url else str(Path(url).resolve())
        return f"dvc remote add --local --force --default {name} {shlex.quote(place)} && {_PUSH}"

    def _is_set_at(self, commit: Commit, name: str) -> bool:
        """Whether the configuration of a commit has the remote."""
        blob = self._git.files(commit.sha).get(".dvc/config")
        return bool(blob and f'remote "{name}"' in self._git.blob(blob).decode())

    def _in_git(self, ref: FileRef) -> bool:
        inside = (path for path in self._tracked if path.startswith(f"{ref.path}/")) if ref.is_folder else ()
        return ref.path in self._tracked or any(inside)

    @cached_property
    def _tracked(self) -> Mapping[str, str]:
        return self._git.files(self._git.head.sha) if self._git.head else {}
