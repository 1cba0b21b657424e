"""The working tree as a commit of its own, for copies of it elsewhere; nothing is written to the user's `.git`."""

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from dovetail.repo import git_command
from dovetail.repo.git import Git

# One author and one time: the same files are the same commit, whoever asks for it and when.
_NOBODY = {
    f"GIT_{who}_{what}": value
    for who in ("AUTHOR", "COMMITTER")
    for what, value in (("NAME", "dovetail"), ("EMAIL", "dovetail@localhost"), ("DATE", "@0 +0000"))
}


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All that git keeps of a working tree or would add to it, in one commit without parents.

    Attributes:
        commit: Its sha.
        root: Where the DVC repository lies whose tree this is.
        prefix: The DVC repository's folder in the git repository; empty at its root.
        objects: The folders that hold git's objects; the first holds the commit.
        settings: What `.dvc/config.local` of a copy says, so that it works in the same cache; empty where it must not.
        pack: The same objects as bytes, for a machine that sees none of these folders; empty until they are asked for.
    """

    commit: str
    root: Path
    prefix: str
    objects: tuple[Path, ...]
    settings: str = ""
    pack: bytes = b""

    @property
    def is_seen(self) -> bool:
        """Whether this machine sees the folders: the one that took it does, and one that shares its file system."""
        return (self.objects[0] / self.commit[:2] / self.commit[2:]).is_file()


def take_snapshot(root: Path, folder: Path) -> Snapshot:
    """Write the working tree around `root` to git objects below `folder`, beside the user's own.

    Raises:
        GitFailed: when git cannot read a file, or write it.
    """
    git = Git(root)
    top, real = Path(git("rev-parse", "--show-toplevel")), root / git("rev-parse", "--git-path", "objects")
    index, own = root / git("rev-parse", "--git-path", "index"), folder / "objects"
    (own / "info").mkdir(parents=True, exist_ok=True)
    (own / "info" / "alternates").write_text(f"{real.resolve()}\n", encoding="utf-8")
    if index.is_file():
        shutil.copy2(index, folder / "index")  # git knows by it which files it need not read again
    env = {**_NOBODY, "GIT_INDEX_FILE": str(folder / "index"), "GIT_OBJECT_DIRECTORY": str(own)}
    _git(top, env, "add", "--all")
    tree = _git(top, env, "write-tree").decode().strip()
    commit = _git(top, env, "commit-tree", tree, "-m", "The working tree").decode().strip()
    return Snapshot(commit, root, git.prefix, (own.resolve(), real.resolve()))


def packed(snapshot: Snapshot) -> bytes:
    """The objects of the snapshot in git's own format for the wire.

    Raises:
        GitFailed: when git cannot read one.
    """
    env = {"GIT_OBJECT_DIRECTORY": str(snapshot.objects[0])}
    return _git(snapshot.root, env, "pack-objects", "--revs", "--stdout", "--quiet", given=snapshot.commit.encode())


def check_out(snapshot: Snapshot, tree: Path) -> Path:
    """Make the folder `tree`, a git repository with the snapshot checked out; returns the DVC repository's root in it.

    Raises:
        GitFailed: when git cannot write it.
    """
    _git(tree.parent, {}, "init", "--quiet", "--template=", str(tree))
    if snapshot.pack:
        _git(tree, {}, "unpack-objects", "-q", given=snapshot.pack)
    else:
        (tree / ".git/objects/info").mkdir(parents=True, exist_ok=True)
        (tree / ".git/objects/info/alternates").write_text(
            "".join(f"{folder}\n" for folder in snapshot.objects), encoding="utf-8"
        )
    _git(tree, {}, "-c", f"core.hooksPath={os.devnull}", "-c", "advice.detachedHead=false", "checkout", "--quiet",
         "--detach", snapshot.commit)  # fmt: skip
    root = tree / snapshot.prefix
    (root / ".dvc" / "config.local").write_text(snapshot.settings, encoding="utf-8")
    return root


def _git(folder: Path, env: Mapping[str, str], *args: str, given: bytes | None = None) -> bytes:
    return git_command.run_bytes(folder, args, env, given)
