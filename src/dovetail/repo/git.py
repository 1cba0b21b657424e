"""Questions to git, by its own command: nothing to import, and no lock is taken for a question.

It is longer than 300 lines: all that is ever asked of git stands here, so that every answer is checked in one way.
"""

import os
import shlex
import subprocess
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from functools import cached_property
from pathlib import Path, PurePosixPath
from posixpath import basename, relpath

from dovetail.errors import GitFailed, NotARepository, TagExists, TagRefused, UserError
from dovetail.repo import git_command
from dovetail.repo.git_objects import GitObjects
from dovetail.repo.git_values import Commit, Tag, seconds
from dovetail.system.disk import says_full

_REMOTE_SECONDS = 30
_TYPES = ("commit", "tree", "blob", "tag")
# No name and no subject holds a line feed or NUL, which `-z` puts between commits.
_FORMAT = "%H %ct %an%n%s"


class Git:
    """The git repository that holds `root`; paths are relative to `root`."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._objects = GitObjects(root)
        self._commits: dict[str, Commit] = {}  # these two until we make a branch or tag
        self._walks: dict[tuple[str, ...], list[tuple[Commit, dict[str, str]]]] = {}

    def __reduce__(self) -> tuple[type["Git"], tuple[Path]]:
        """Another process asks git itself."""
        return Git, (self.root,)

    @cached_property
    def prefix(self) -> str:
        """The folder of `root` from git's own root; empty where they are one.

        Raises:
            GitFailed: when git cannot answer.
        """
        return self("rev-parse", "--show-prefix").rstrip("/")

    def __call__(self, *args: str) -> str:
        """What `ask` answers, stripped.

        Raises:
            GitFailed: when git cannot answer.
        """
        return self.ask(*args).strip()

    def ask(self, *args: str) -> str:
        """The output of `git ARGS`.

        Raises:
            GitFailed: when git cannot answer.
        """
        done = self._run(*args)
        if done.returncode:
            raise git_command.failed(args[0], done.stderr)
        return done.stdout

    def find(self, *args: str, no: int = 1) -> str | None:
        """The output of `git ARGS`, stripped; None where it ends with the exit code `no`, its way to say so.

        Raises:
            GitFailed: when git cannot answer.
        """
        done = self._run(*args)
        if done.returncode not in (0, no):
            raise git_command.failed(args[0], done.stderr)
        return None if done.returncode else done.stdout.strip()

    def _run(
        self, *args: str, timeout: int | None = None, given: bytes | None = None, **env: str
    ) -> subprocess.CompletedProcess[str]:
        return git_command.run(self.root, args, env, timeout, given)

    def _refs_in(self, form: str, *places: str) -> str:
        """What `git for-each-ref` says; of a file that is no ref it says so aside only, and leaves it out."""
        done = self._run("for-each-ref", f"--format={form}", *places)
        if done.returncode or done.stderr:
            raise git_command.failed("for-each-ref", done.stderr)
        return done.stdout

    @property
    def is_shallow(self) -> bool:
        """Whether history was cut off by `git clone --depth`."""
        return self("rev-parse", "--is-shallow-repository") == "true"

    @cached_property
    def head(self) -> Commit | None:
        """The commit where git stood when it was first asked; None before the first one.

        A command sees one commit, whoever makes another meanwhile; one that lasts opens the repository anew for each
        look. Nothing here moves HEAD.
        """
        return self.commit("HEAD")

    def commit(self, rev: str) -> Commit | None:
        """The commit that `rev` names, if it does.

        Raises:
            GitFailed: when git cannot say, or lacks what a branch or tag names.
        """
        if rev in self._commits:
            return self._commits[rev]
        sha = self._commit_of(rev)
        if sha:
            return self._commits.get(sha) or self.commits([sha], limit=1)[0]
        named = self._run("rev-parse", "--verify", "-q", rev).stdout.strip()
        if named and named != rev and self.find("cat-file", "-e", named) is None:
            raise git_command.failed("rev-parse", f"{rev} names {named}, which is missing")
        return None

    def _commit_of(self, rev: str) -> str | None:
        done = self._run("rev-parse", "--verify", "-q", f"{rev}^{{commit}}")
        if done.returncode and done.stderr:  # -q: a rev that names none is not worth a word
            raise git_command.failed("rev-parse", done.stderr)
        return done.stdout.strip() or None

    @classmethod
    def of_dvc(cls, start: Path | None = None) -> "Git":
        """The git repository of the DVC repository that `start` (default: the current folder) lies in.

        Raises:
            NotARepository: when it lies in none.
        """
        here = (start or Path.cwd()).resolve()
        for folder in (here, *here.parents):
            if (folder / ".dvc").is_dir():
                return cls(folder)
        raise NotARepository(f"{here} is not inside a DVC repository", "git init && dvc init")

    def names(self) -> list[str]:
        """The short names of branches and tags, those of remotes last."""
        return self._refs_in("%(refname:short)", "refs/heads", "refs/tags", "refs/remotes").split()

    def reaches(self, sha: str) -> bool:
        """Whether the commit is in the history of HEAD."""
        return self.find("merge-base", "--is-ancestor", sha, "HEAD") is not None

    def is_ancestor(self, sha: str, of: str) -> bool:
        """Whether the one commit, both are here, is in the history of the other, or is it."""
        return self.find("merge-base", "--is-ancestor", sha, of) is not None

    def is_dirty(self) -> bool:
        """Whether a tracked file differs from HEAD."""
        return bool(self("status", "--porcelain", "--untracked-files=no"))

    def commits(self, revs: Iterable[str], *paths: str, limit: int | None = None) -> list[Commit]:
        """The commits reachable from `revs` (that touch `paths`), newest first."""
        args = [f"--max-count={limit}"] if limit else []
        entries = self.ask("log", "-z", f"--format={_FORMAT}", "--date-order", *args, *revs, "--", *paths).split("\0")
        return [self._commit(entry) for entry in entries if entry]

    def _commit(self, entry: str) -> Commit:
        about, _, summary = entry.partition("\n")
        sha, time, author = about.split(" ", 2)
        found = Commit(sha, summary, author, seconds(time) or 0, self._refs.get(sha, ()))
        self._commits[sha] = found  # by its full name, which never means another one
        return found

    def commits_with(self, text: str, *names: str, experiments: bool) -> list[Commit]:
        """The commits of any branch or tag that wrote a file named so with `text` in it, newest first."""
        head = [self.head.sha] if self.head else []
        revs = [*head, "--branches", "--tags", "--remotes", *(self.experiments().values() if experiments else ())]
        found: list[Commit] = []
        content: dict[str, bool] = {}
        asked = (*revs, "--", *names)
        if asked not in self._walks:
            written = self.written(revs, *(f":(glob)**/{name}" for name in names))
            has_commits = self("rev-list", "--max-count=1", *revs)
            self._walks[asked] = list(written) if has_commits else []
        for commit, files in self._walks[asked]:
            for blob in files.values():
                if blob not in content:
                    content[blob] = text.encode() in self.blob(blob)
            if any(content[blob] for blob in files.values()):
                found.append(commit)
        return found

    def head_has(self, text: str, *names: str) -> bool:
        """Whether `commits_with` would find a commit, as a file named so at HEAD tells: no history is read."""
        own = (blob for path, blob in self._own_at_head.items() if any(fnmatchcase(basename(path), n) for n in names))
        return any(text.encode() in self.blob(blob) for blob in own)

    @cached_property
    def _own_at_head(self) -> dict[str, str]:
        """The files of HEAD, but for those of submodules, which other commits write."""
        return self._listed(self.head.sha) if self.head else {}

    def written(self, revs: Iterable[str], *pathspecs: str) -> Iterator[tuple[Commit, dict[str, str]]]:
        """Each commit of `revs` that wrote a file that a pathspec matches, newest first, with the file's path and blob.

        A merge is compared with its first parent, so that what was made while merging is seen; no side branch is left
        out, as git does where a merge took the other side's file.
        """
        shown = ("-z", f"--format={_FORMAT}", "--raw", "--no-abbrev", "--no-renames", "--relative")
        walked = ("--date-order", "--full-history", "--diff-merges=first-parent")
        log = self.ask("log", *shown, *walked, *revs, "--", *pathspecs)
        tokens = iter(token for token in log.split("\0") if token)
        entry, files = "", dict[str, str]()
        for token in map(str.lstrip, tokens):
            if token.startswith(":"):  # ":100644 100644 old new M", then the path
                files[next(tokens)] = token.split()[3]
                continue
            if entry:
                yield self._commit(entry), _present(files)
            entry, files = token, {}
        if entry:
            yield self._commit(entry), _present(files)

    @cached_property
    def _refs(self) -> dict[str, tuple[str, ...]]:
        found: dict[str, tuple[str, ...]] = {}
        form = "%(objectname) %(*objectname) %(refname:short)"
        for line in self._refs_in(form, "refs/heads", "refs/remotes", "refs/tags").splitlines():
            sha, peeled, name = line.split(" ")
            found[peeled or sha] = (*found.get(peeled or sha, ()), name)
        return found

    def tags(self) -> list[Tag]:
        """Every tag, with its message.

        Raises:
            GitFailed: when git cannot say, or a file among the tags is none.
        """
        fields = ("refname:lstrip=2", "objecttype", "objectname", "*objecttype", "*objectname", "taggerdate:unix",
                  "taggername", "taggeremail", "contents")  # fmt: skip
        values = self._refs_in("".join(f"%({name})%00" for name in fields), "refs/tags").split("\0")
        found = [self._tag(values[at : at + len(fields)]) for at in range(0, len(values) - 1, len(fields))]
        nested = {tag.commit: f"{tag.commit}^{{}}" for tag in found if tag.target == "tag"}
        peeled = dict(zip(nested, self.objects(nested.values()), strict=True))
        return [replace(tag, target=end[0], commit=end[1]) if (end := peeled.get(tag.commit)) else tag for tag in found]

    @staticmethod
    def _tag(values: Sequence[str]) -> Tag:
        name, kind, sha, target, peeled, time, who, email, message = values
        return Tag(
            name=name.removeprefix("\n"),
            commit=peeled or sha,
            time=seconds(time),
            actor=" ".join(f"{who} {email}".split()),
            message=message,
            annotated=kind == "tag",
            target=target or kind,
        )

    def objects(self, names: Iterable[str]) -> list[tuple[str, str] | None]:
        """The type and the full name of the object that each of `names` means, asked at once; None where it is missing.

        Raises:
            GitFailed: when git cannot say.
        """
        asked = list(names)
        if not asked:
            return []
        given = "".join(f"{name}\n" for name in asked).encode()
        done = self._run("cat-file", "--batch-check=%(objecttype) %(objectname)", "--buffer", given=given)
        if done.returncode:
            raise git_command.failed("cat-file", done.stderr)
        answers = (line.partition(" ") for line in done.stdout.splitlines())  # "NAME missing" of one that is not here
        return [(kind, sha) if kind in _TYPES else None for kind, _, sha in answers]

    def tag(self, name: str, commit: str, message: str, time: int) -> None:
        """Make an annotated tag, dated `time` (seconds since the epoch).

        Raises:
            TagExists: when there is one of this name.
            UserError: when git does not know who makes it.
            TagRefused: when git cannot make it.
        """
        command = ["git", "tag", "--annotate", "--cleanup=whitespace", "--file=-", name, commit]
        environment = {**os.environ, "GIT_COMMITTER_DATE": f"@{time} +0000"}
        done = subprocess.run(
            command, cwd=self.root, env=environment, input=message.encode(), capture_output=True, check=False
        )
        self._forget_refs()
        if done.returncode:
            if self.find("rev-parse", "--verify", "-q", f"refs/tags/{name}"):
                raise TagExists(
                    f"the tag {name} exists: another process created it first", "run the same command again"
                )
            self.identity()
            why = " ".join(git_command.decode(done.stderr).split())
            next_command = (
                "df -h ."
                if says_full(why)
                else "ls .git/hooks; git config --show-origin --get-regexp 'tag|gpg|hook', "
                "then run the same command again"
            )
            raise TagRefused(f"git does not make the tag {name}: {why}", next_command)

    def identity(self) -> dict[str, str]:
        """The environment variables that tell git, in another repository, who commits in this one.

        Raises:
            UserError: when git does not know it.
        """
        found: dict[str, str] = {}
        for role in ("AUTHOR", "COMMITTER"):
            name, mark, rest = (self.find("var", f"GIT_{role}_IDENT", no=128) or "").rpartition(" <")
            if not mark:
                raise UserError("git does not know who commits here", "git config user.name … and user.email …")
            found |= {f"GIT_{role}_NAME": name, f"GIT_{role}_EMAIL": rest.partition(">")[0]}
        return found

    def take_branch(self, repository: Path, branch: str) -> None:
        """Make a new branch of one in another repository, whole or not at all.

        Raises:
            GitFailed: when there is another one of this name, or it cannot be written.
        """
        ref = f"refs/heads/{branch}"
        quiet = ("--quiet", "--no-tags", "--no-write-fetch-head", "--no-auto-maintenance", "--recurse-submodules=no")
        self.ask("fetch", *quiet, str(repository), f"{ref}:{ref}")
        self._forget_refs()

    def _forget_refs(self) -> None:
        """Ask anew which branches and tags there are."""
        self._commits.clear()
        self._walks.clear()
        self.__dict__.pop("_refs", None)

    def remote_refs(self, remote: str, seconds: int = _REMOTE_SECONDS) -> dict[str, str]:
        """The commit of each ref that a git remote has now; nothing is fetched.

        Raises:
            GitFailed: when it does not answer within `seconds`.
        """
        next_command = "git fetch --all --tags, then run the same command again"
        try:
            done = self._run("ls-remote", remote, timeout=seconds, GIT_TERMINAL_PROMPT="0")
        except subprocess.TimeoutExpired as error:
            raise GitFailed(f"git remote {remote} does not answer for {seconds} s", next_command) from error
        if done.returncode:
            raise GitFailed(f"git remote {remote}: {' '.join(done.stderr.split())}", next_command)
        lines = (line.split("\t") for line in done.stdout.splitlines())
        return {ref.removesuffix("^{}"): sha for sha, ref in lines}  # what an annotated tag names comes after the tag

    def known(self, shas: Iterable[str]) -> set[str]:
        """Those of `shas` that are commits of this repository, whether a ref keeps them or not."""
        asked = sorted(set(shas))
        found = self.objects(f"{sha}^{{commit}}" for sha in asked)
        return {sha for sha, commit in zip(asked, found, strict=True) if commit}

    def reachable(self, revs: Iterable[str]) -> set[str]:
        """The commits that `revs` keep.

        Raises:
            GitFailed: when git cannot say.
        """
        wanted = sorted(set(revs))
        return set(self.ask("rev-list", *wanted).split()) if wanted else set()

    def experiments(self) -> dict[str, str]:
        """The commit of each DVC experiment, by name."""
        lines = self._refs_in("%(objectname) %(refname)", "refs/exps").splitlines()
        refs = [line.split(" ") for line in lines]
        # refs/exps/<2 of baseline>/<rest of baseline>/<name>; stashes and the running ones are no results.
        depth = len(["refs", "exps", "xx", "yyyy", "name"])
        return {ref.rsplit("/", 1)[1]: sha for sha, ref in refs if ref.count("/") == depth - 1}

    def files(self, sha: str) -> dict[str, str]:
        """The blob of every file below `root` at a commit, by path."""
        return next(self.files_of([sha]))

    def files_of(self, shas: Iterable[str]) -> Iterator[dict[str, str]]:
        """The same for each of several commits."""
        asked = list(shas)
        for sha, found in zip(asked, self._objects.find_all(f"{sha}:./" for sha in asked), strict=True):
            yield self._listed(sha) if found is None else dict(self._objects.below(*found))

    def _listed(self, sha: str) -> dict[str, str]:
        # No such folder then, or no such commit: git itself says which.
        entries = (entry.partition("\t") for entry in self.ask("ls-tree", "-r", "-z", sha).split("\0") if entry)
        told = ((about.split(), path) for about, _, path in entries)
        return {path: sha for (_, kind, sha), path in told if kind == "blob"}

    def paths(self, folder: str) -> list[str]:
        """The files below `folder` of the working tree that are tracked, or neither tracked nor ignored."""
        around = [place.as_posix() for place in (PurePosixPath(folder), *PurePosixPath(folder).parents)][:-1]
        if submodule := next((place for place in around if (self.root / place / ".git").exists()), None):
            inside = Git(self.root / submodule).paths(relpath(folder, submodule))
            return [f"{submodule}/{path}" for path in inside]
        # 128: outside of the repository or behind a link. A git that refuses did so at HEAD, which every tree asks for.
        found = self.find("ls-files", "-coz", "--exclude-standard", "--", folder, no=128) or ""
        paths = [path.rstrip("/") for path in found.split("\0") if path]
        return [
            file for path in paths for file in (self.paths(path) if (self.root / path / ".git").exists() else [path])
        ]

    def content(self, rev: str, path: str) -> bytes:
        """The content of a file at a revision; empty where there is none.

        Raises:
            UserError: when a link or a folder is in its place.
        """
        found = self.ask("ls-tree", "-z", rev, "--", path).rstrip("\0")
        if found and not found.startswith("100"):  # git's modes of files
            what = "a folder" if found.split()[1] == "tree" else "no file"
            raise UserError(f"{path} of {rev} cannot be read: it is {what}", f"git ls-tree {rev} {shlex.quote(path)}")
        return self.blob(found.split()[2]) if found else b""

    def blob(self, name: str) -> bytes:
        """The content of a blob.

        Raises:
            GitFailed: when git lacks it.
        """
        return self._objects.content(name)

    def blobs(self, names: Iterable[str]) -> Iterator[tuple[str, bytes]]:
        """Each of several blobs with its content.

        Raises:
            GitFailed: when git lacks one.
        """
        asked = list(names)
        for name, found in zip(asked, self._objects.find_all(asked), strict=True):
            yield name, self._objects.content(name) if found is None else found[1]

    def close(self) -> None:
        """End the process that reads objects."""
        self._objects.close()


def _present(files: Mapping[str, str]) -> dict[str, str]:
    """Those that are there: the blob of a deleted one is all zeros."""
    return {path: blob for path, blob in files.items() if set(blob) != {"0"}}
