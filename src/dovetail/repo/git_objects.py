"""Git's objects, read through one `git cat-file` for all: a process for each would take longer than what it reads."""

import os
import subprocess
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO

from dovetail.repo import git_command

_TREE, _SUBMODULE, _KEPT_TREES = b"40000", b"160000", 500
_ALTERNATES = "GIT_ALTERNATE_OBJECT_DIRECTORIES"
_ASKED_AT_ONCE = 64  # their names fit into a pipe: git never waits for us to read while we wait for it to


class GitObjects:
    """The objects of the git repository that holds `root`."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._process: subprocess.Popen[bytes] | None = None
        self._trees: dict[str, Mapping[str, str]] = {}  # subtree → path → blob

    def find(self, name: str) -> tuple[str, bytes] | None:
        """The full name of an object and its content; None where git lacks it."""
        return self._answers([name])[0]

    def find_all(self, names: Iterable[str]) -> Iterator[tuple[str, bytes] | None]:
        """The same for each of `names`, several asked at once: to wait for git costs more than its answers do."""
        asked = list(names)
        for at in range(0, len(asked), _ASKED_AT_ONCE):
            yield from self._answers(asked[at : at + _ASKED_AT_ONCE])

    def _answers(self, names: Sequence[str]) -> list[tuple[str, bytes] | None]:
        if self._process is None:
            command = ["git", "cat-file", "--batch"]
            with git_command.found():
                self._process = subprocess.Popen(
                    command, cwd=self.root, env=self._with_submodules(), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                    stderr=subprocess.DEVNULL,
                )  # fmt: skip
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write("".join(f"{name}\n" for name in names).encode())
        self._process.stdin.flush()
        return [self._answer(self._process.stdout) for _ in names]

    def _with_submodules(self) -> dict[str, str]:
        """An environment in which git finds the objects of submodules, too: stages read their files as any others."""
        folder = next((found for place in (self.root, *self.root.parents) if (found := place / ".git").exists()), None)
        if folder is None or (not (folder / "modules").is_dir() and folder.is_dir()):
            return dict(os.environ)
        if folder.is_file():  # of `git worktree`
            folder = self.root / git_command.run(self.root, ("rev-parse", "--git-dir"), {}, None).stdout.strip()
        objects = (str(found.parent.resolve()) for found in (folder / "modules").rglob("objects/pack"))
        known = filter(None, [os.environ.get(_ALTERNATES), *objects])
        return {**os.environ, _ALTERNATES: os.pathsep.join(known)}

    @staticmethod
    def _answer(said: IO[bytes]) -> tuple[str, bytes] | None:
        about = said.readline().split()
        if len(about) != len(("object", "type", "size")):
            return None
        return about[0].decode(), said.read(int(about[2]) + 1)[:-1]

    def content(self, name: str) -> bytes:
        """The content of an object.

        Raises:
            GitFailed: when git lacks it.
        """
        found = self.find(name)
        if found is None:
            raise git_command.failed("cat-file", f"{name} is missing")
        return found[1]

    def below(self, tree: str, content: bytes) -> Iterator[tuple[str, str]]:
        """The path and blob of every file below a tree; commits share subtrees. Of submodules those that are here.

        Raises:
            GitFailed: when git lacks one.
        """
        size, at = len(tree) // 2, 0
        while at < len(content):
            end = content.index(0, at)
            mode, _, name = content[at:end].partition(b" ")
            path, sha = git_command.decode(name), content[end + 1 : end + 1 + size].hex()
            at = end + 1 + size
            if mode not in (_TREE, _SUBMODULE):
                yield path, sha
                continue
            if sha not in self._trees:
                if len(self._trees) >= _KEPT_TREES:
                    self._trees.clear()
                found = self.find(f"{sha}^{{tree}}") if mode == _SUBMODULE else (sha, self.content(sha))
                self._trees[sha] = dict(self.below(*found)) if found else {}
            yield from ((f"{path}/{below}", blob) for below, blob in self._trees[sha].items())

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.communicate()
            self._process = None
