"""What git keeps: each branch, tag, experiment and whatever else holds a commit, and the digests named there."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dovetail.errors import GitFailed
from dovetail.repo.dvc_files import RECORDS, join
from dovetail.repo.git import Git
from dovetail.values.documents import Unreadable, load_yaml
from dovetail.values.lineage import FileRef

WORKING_TREE, WORKTREE, BRANCH, REMOTE_BRANCH, TAG, EXPERIMENT, OTHER = (
    "working tree", "worktree", "branch", "remote branch", "tag", "experiment", "ref",
)  # fmt: skip
_KINDS = {"heads": BRANCH, "remotes": REMOTE_BRANCH, "tags": TAG, "exps": EXPERIMENT}
_CONFIG = ":(glob)**/.dvc/config"
_DIGEST = re.compile(r"(?<![0-9a-f])[0-9a-f]{32}(?:\.dir)?(?![0-9a-f])")
_SECTION = re.compile(r"^\s*(cmd|deps|params|outs):", re.MULTILINE)
_STACKS = (
    "refs/stash",
    "refs/exps/stash",
    "refs/exps/celery/stash",
    "refs/exps/celery/failed",
)  # kept by their reflogs
_STOPPED = ("MERGE_AUTOSTASH", "MERGE_HEAD", "CHERRY_PICK_HEAD", "REVERT_HEAD", "REBASE_HEAD")
_REBASES = ("rebase-merge", "rebase-apply")


@dataclass(frozen=True, slots=True)
class GitRef:
    """A name that keeps a commit; working trees have none."""

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
    top = whole(git).root.resolve()
    trees = [Git(tree) for tree in map(Path, _worktrees(worktrees)) if tree.is_dir()]
    found[1:1] = [GitRef(WORKTREE, str(tree.root), None) for tree in trees if tree.root.resolve() != top]
    stashed = [(ref, line) for ref in _STACKS for line in _stashes(git, ref, "-g")]
    stashed += [
        (ref, line) for tree in trees for ref in _put_aside(tree) for line in _stashes(tree, ref, "--max-count=1")
    ]
    for ref, line in stashed:
        sha, _, *parts = [*line.split(), ""]  # the second is the commit that it was made on
        found += [GitRef(OTHER, ref, one) for one in (sha, *parts) if one]  # with index and untracked files
    return found


def whole(git: Git) -> Git:
    """The git repository from its own root, of which DVC's may be a folder."""
    return Git(Path(git("rev-parse", "--show-toplevel"))) if git.prefix else git


def _worktrees(told: str) -> list[str]:
    """The folders of `git worktree list --porcelain`, that of a bare repository left out."""
    entries = [entry.splitlines() for entry in told.split("\n\n") if entry.strip()]
    return [lines[0].removeprefix("worktree ") for lines in entries if "bare" not in lines]


def _stashes(git: Git, ref: str, how: str) -> list[str]:
    """Each stash with its parents."""
    is_there = git.find("rev-parse", "--verify", "-q", ref)
    return git.ask("log", how, "--format=%H %P", ref).splitlines() if is_there else []


def _put_aside(git: Git) -> list[str]:
    """What `--autostash` put aside, and commits that a rebase, merge or cherry-pick that stopped is about to use."""
    files = (git.root / git("rev-parse", "--git-path", f"{folder}/autostash") for folder in _REBASES)
    return [*_STOPPED, *(file.read_text(encoding="ascii").strip() for file in files if file.is_file())]


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
    """Reads what the DVC files of a whole git repository name, each content once; DVC's may be a folder of it."""

    def __init__(self, git: Git) -> None:
        self._git = whole(git)
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

    def tree(self, sha: str) -> frozenset[str]:
        """The digests that the DVC files of a commit name."""
        if sha not in self._trees:
            self.read([sha])
        return self._trees[sha]

    def here(self, worktree: str) -> frozenset[str]:
        """The digests that the DVC files of a working tree name, as they are on disk and as they are staged.

        `worktree` is the folder of one of `git worktree`; empty: the one in which the repository was opened.
        """
        git = Git(Path(worktree)) if worktree else self._git
        listed = git.ask("ls-files", "-z", "-c", "-o", "--exclude-standard", "--", *RECORDS)
        staged = git.ask("ls-files", "-z", "-s", "--", *RECORDS).split("\0")
        files = (git.root / path for path in listed.split("\0") if path)
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


def of_siblings(git: Git, reader: Reader) -> dict[str, frozenset[str]]:
    """The digests that other DVC repositories in the same git repository ever recorded, by their folders.

    They may share a cache or a remote with this one, which cannot tell what is a version of theirs.
    """
    top = whole(git)
    everything = ("--all", "--reflog")
    configs = (path for _, files in top.written(everything, _CONFIG) for path in files)
    projects = {path.removesuffix(".dvc/config") for path in configs} | {f"{git.prefix}/".lstrip("/")}
    if len(projects) < 2:  # noqa: PLR2004  (this one alone)
        return {}
    found: dict[str, set[str]] = {}
    for _, files in top.written(everything, *RECORDS):
        for path, blob in files.items():
            project = max((one for one in projects if path.startswith(one)), key=len, default="")
            if project != f"{git.prefix}/".lstrip("/"):
                found.setdefault(project, set()).update(reader.blob(blob))
    return {project: frozenset(digests) for project, digests in found.items()}
