"""Git's objects, read through one `git cat-file` for all: a process for each would take longer than what it reads."""

import subprocess
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO

from dovetail.repo import git_command

_TREE, _KEPT_TREES = b"40000", 500
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
                    command, cwd=self.root, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
                )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write("".join(f"{name}\n" for name in names).encode())
        self._process.stdin.flush()
        return [self._answer(self._process.stdout) for _ in names]

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
        """The path and blob of every file below a tree; commits share subtrees.

        Raises:
            GitFailed: when git lacks one.
        """
        size, at = len(tree) // 2, 0
        while at < len(content):
            end = content.index(0, at)
            mode, _, name = content[at:end].partition(b" ")
            path, sha = git_command.decode(name), content[end + 1 : end + 1 + size].hex()
            at = end + 1 + size
            if mode != _TREE:
                yield path, sha
                continue
            if sha not in self._trees:
                if len(self._trees) >= _KEPT_TREES:
                    self._trees.clear()
                self._trees[sha] = dict(self.below(sha, self.content(sha)))
            yield from ((f"{path}/{below}", blob) for below, blob in self._trees[sha].items())

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.communicate()
            self._process = None
