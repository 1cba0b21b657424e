"""What git keeps: each branch, tag, experiment and whatever else holds a commit, and the digests named there."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from dovetail.errors import GitFailed
from dovetail.repo.dvc_files import join
from dovetail.repo.git import Git
from dovetail.values.documents import Unreadable, load_yaml
from dovetail.values.lineage import FileRef

# dvc.lock, and what `dvc add` and `dvc import` write (the folder .dvc itself is no such file)
DVC_FILES = (":(glob)**/dvc.lock", ":(glob)**/*.dvc")
WORKING_TREE, BRANCH, REMOTE_BRANCH, TAG, EXPERIMENT, OTHER = (
    "working tree", "branch", "remote branch", "tag", "experiment", "ref",
)  # fmt: skip
_KINDS = {"heads": BRANCH, "remotes": REMOTE_BRANCH, "tags": TAG, "exps": EXPERIMENT}
_DIGEST = re.compile(r"(?<![0-9a-f])[0-9a-f]{32}(?:\.dir)?(?![0-9a-f])")
_SECTION = re.compile(r"^\s*(cmd|deps|params|outs):", re.MULTILINE)
_STACKS = (
    "refs/stash",
    "refs/exps/stash",
    "refs/exps/celery/stash",
    "refs/exps/celery/failed",
)  # kept by their reflogs


@dataclass(frozen=True, slots=True)
class GitRef:
    """A name that keeps a commit; the working tree has none."""

    kind: str
    name: str
    commit: str | None

    def __str__(self) -> str:
        return f"{self.kind} {self.name}".rstrip()


@dataclass(frozen=True, slots=True)
class RemoteRefs:
    """What the git remotes hold: the commit of each of their refs, and why some did not answer."""

    refs: Mapping[str, str]  # "origin refs/tags/v1" → commit
    unreachable: Mapping[str, str]  # remote → reason


def digests(text: str) -> frozenset[str]:
    """Every md5 that a text names: more than DVC would find, between conflict markers too, never less."""
    return frozenset(_DIGEST.findall(text))


def made(text: str) -> frozenset[str]:
    """The md5s among them that are those of outs: a stage may still record an older input."""
    sections = _SECTION.split(text)
    return frozenset().union(
        *(digests(body) for name, body in zip(sections[1::2], sections[2::2], strict=True) if name == "outs")
    )


def named(text: str, folder: str) -> list[FileRef]:
    """The files that the text of a dvc.lock or .dvc file in `folder` records, as far as it can be read."""
    try:
        content = load_yaml(text)
    except Unreadable:
        return []
    return [ref for entry in _entries(content) for ref in _refs(entry, folder)]


def _entries(value: Any) -> list[Mapping[str, Any]]:
    """Every mapping in `value` that has a path, at any depth."""
    inner = value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else ()
    found = [entry for part in inner for entry in _entries(part)]
    return [value, *found] if isinstance(value, Mapping) and "path" in value else found


def _refs(entry: Mapping[str, Any], folder: str) -> list[FileRef]:
    md5 = entry.get("md5")
    return [FileRef(join(folder, str(entry["path"])), md5, entry.get("size"))] if isinstance(md5, str) else []


def git_refs(git: Git) -> list[GitRef]:
    """Everything that keeps a commit, the working tree first.

    Raises:
        GitFailed: when git cannot say.
    """
    found = [GitRef(WORKING_TREE, "", None)]
    worktrees = git.ask("worktree", "list", "--porcelain")
    form = "--format=%(objecttype)%00%(*objecttype)%00%(objectname)%00%(*objectname)%00%(refname)"
    for line in git.ask("for-each-ref", form).splitlines():
        kind, peeled_kind, sha, peeled, ref = line.split("\0")
        if "commit" in (kind, peeled_kind):
            found.append(_git_ref(ref, peeled or sha))
    heads = [line.removeprefix("HEAD ") for line in worktrees.splitlines() if line.startswith("HEAD ")]
    known = {"0" * len(sha) for sha in heads} | {root.commit for root in found}  # zeros: no commit yet
    found += [GitRef(OTHER, "HEAD", sha) for sha in heads if sha not in known]
    stacks = [ref for ref in _STACKS if git.find("rev-parse", "--verify", "-q", ref)]
    for ref in stacks:
        for line in git.ask("log", "-g", "--format=%H %P", ref).splitlines():
            stashed, _, *parts = [*line.split(), ""]  # the second is the commit that it was made on
            found += [GitRef(OTHER, ref, sha) for sha in (stashed, *parts) if sha]  # with index and untracked files
    return found


def _git_ref(ref: str, sha: str) -> GitRef:
    _, space, *rest = ref.split("/")
    kind = _KINDS.get(space, OTHER)
    if kind == OTHER or not rest:
        return GitRef(OTHER, ref, sha)
    return GitRef(kind, rest[-1] if kind == EXPERIMENT else "/".join(rest), sha)


def published(git: Git) -> RemoteRefs:
    """What the git remotes hold now, asked of each."""
    refs: dict[str, str] = {}
    unreachable: dict[str, str] = {}
    for remote in git("remote").split():
        try:
            refs |= {f"{remote} {ref}": sha for ref, sha in git.remote_refs(remote).items()}
        except GitFailed as error:
            unreachable[remote] = error.message
    return RemoteRefs(refs, unreachable)


class Reader:
    """Reads what DVC files name, each content once."""

    def __init__(self, git: Git) -> None:
        self._git = git
        self._known: dict[str, frozenset[str]] = {}
        self._made: dict[str, frozenset[str]] = {}
        self._trees: dict[str, frozenset[str]] = {}

    def read(self, shas: Iterable[str]) -> None:
        """Read what the DVC files of many commits name, much faster than one by one."""
        asked = list(dict.fromkeys(shas))
        files = [_dvc_files(found) for found in self._git.files_of(asked)]
        self.read_blobs(blob for found in files for blob in found.values())
        for sha, found in zip(asked, files, strict=True):
            self._trees[sha] = frozenset[str]().union(*(self._known[blob] for blob in found.values()))

    def read_blobs(self, blobs: Iterable[str]) -> None:
        """Read what many blobs name, much faster than one by one."""
        unknown = dict.fromkeys(blob for blob in blobs if blob not in self._known)
        self._known |= {blob: digests(_decoded(content)) for blob, content in self._git.blobs(unknown)}

    def blob(self, blob: str) -> frozenset[str]:
        """The digests that a blob names."""
        if blob not in self._known:
            self._known[blob] = digests(self.text(blob))
        return self._known[blob]

    def made(self, blob: str) -> frozenset[str]:
        """The digests that a blob records as outs."""
        if blob not in self._made:
            self._made[blob] = made(self.text(blob))
        return self._made[blob]

    def text(self, blob: str) -> str:
        """The text of a blob."""
        return _decoded(self._git.blob(blob))

    def files(self, sha: str) -> dict[str, str]:
        """The DVC files of a commit: the blob of each by path."""
        return _dvc_files(self._git.files(sha))

    def tree(self, sha: str) -> frozenset[str]:
        """The digests that the DVC files of a commit name."""
        if sha not in self._trees:
            self.read([sha])
        return self._trees[sha]

    def here(self) -> frozenset[str]:
        """The digests that the DVC files of the working tree name, as they are on disk and as they are staged."""
        listed = self._git.ask("ls-files", "-z", "-c", "-o", "--exclude-standard", "--", *DVC_FILES)
        staged = self._git.ask("ls-files", "-z", "-s", "--", *DVC_FILES).split("\0")
        files = (self._git.root / path for path in listed.split("\0") if path)
        texts = (file.read_text(encoding="utf-8", errors="replace") for file in files if file.is_file())
        blobs = (self.blob(entry.split()[1]) for entry in staged if entry)
        return frozenset().union(*map(digests, texts), *blobs)


def _decoded(content: bytes) -> str:
    return content.decode(errors="replace")


def _dvc_files(files: Mapping[str, str]) -> dict[str, str]:
    return {path: blob for path, blob in files.items() if is_dvc_file(path)}


def is_dvc_file(path: str) -> bool:
    """Whether a path is that of a dvc.lock or .dvc file."""
    name = path.rpartition("/")[2]
    return name == "dvc.lock" or (name.endswith(".dvc") and name != ".dvc")
