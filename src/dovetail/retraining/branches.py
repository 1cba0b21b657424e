"""The branches that retraining makes: their names, their commits' messages, and the rows that they added."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import PurePosixPath

from dovetail.errors import UserError
from dovetail.repo.git import Git
from dovetail.repo.git_values import Commit
from dovetail.values.documents import Unreadable, decoded, shown

_PREFIX, _TIME = "retrain", "%Y%m%dT%H%M%SZ"
_LONGEST = 500  # characters of a key
_MODEL = "Retrained-Model"  # the trailer by which such a commit is known, on a branch or merged


@dataclass(frozen=True, slots=True)
class UnmergedBranch:
    """A branch with a retrained model that is not merged yet, and the keys of the rows it added."""

    name: str
    added: frozenset[str]

    @property
    def deletion(self) -> str:
        """The command that deletes it, here or in the remote that has it."""
        if self.name.startswith(f"{_PREFIX}/"):
            return f"git branch -D {self.name}"
        remote, _, name = self.name.partition("/")
        return f"git push {remote} --delete {name}"


def branch_name(model: str, time: datetime) -> str:
    """The branch of a retraining of `model`: `retrain/iris/20260531T180000Z`."""
    return f"{_PREFIX}/{model}/{time.astimezone(UTC).strftime(_TIME)}"


def check_name(git: Git, name: str) -> None:
    """Check that git accepts a branch of this name.

    Raises:
        UserError: when it does not.
    """
    if git.find("check-ref-format", f"refs/heads/{name}") is None:
        raise UserError(f"git does not accept the branch name {name!r}", "give the model another name under artifacts:")
    for parent in map(str, PurePosixPath(name).parents):
        if git.find("rev-parse", "--verify", "-q", f"refs/heads/{parent}"):
            raise UserError(f"a branch {parent} stands in the way of {name}", f"git branch -m {parent} another-name")


def message(model: str, rows: str, path: str, before: str, after: str) -> str:
    """The message of the commit that adds rows; `rows` says which: "2 rows from new.csv"."""
    return (
        f"{model}: {rows} added to {path}, retrained\n\n"
        f"{path}: md5 {before} before, {after} now.\n\n{_MODEL}: {model}\n"
    )


def last_retraining(git: Git, model: str) -> Commit | None:
    """The newest commit, of any branch here or in a remote, that retrained `model`."""
    grep = f"--grep=^{_MODEL}: {re.escape(model)}$"
    found = git.commits(["HEAD", "--branches", "--remotes", grep], limit=1)
    return found[0] if found else None


def unmerged(git: Git, model: str, record: str) -> list[UnmergedBranch]:
    """The branches of `model`, here and in remotes; `record` is the path of the file that lists the added rows."""
    own = [f"refs/heads/{_PREFIX}/{model}/", f"refs/remotes/*/{_PREFIX}/{model}/*"]
    names = git("for-each-ref", "--format=%(refname:short)", *own).split()
    return [UnmergedBranch(name, keys(git.content(name, record), f"{name}:{record}")) for name in names]


def keys(content: bytes, name: str) -> frozenset[str]:
    """The keys in such a file, one a line; `name` is that of the file in a message.

    Raises:
        UserError: when it is not a list of keys.
    """
    try:
        found = decoded(content).splitlines()
    except Unreadable as error:
        raise UserError(f"{name} cannot be read: {error}", f"git log -p -- {name.rpartition(':')[2]}") from error
    for number, line in enumerate(found, 1):
        if len(line.split()) > 1 or not (line.isprintable() and len(line) <= _LONGEST):
            what = f"{name} cannot be read: line {number} is {shown(line)}, not one key"
            raise UserError(what, f"git log -p -- {name.rpartition(':')[2]}")
    return frozenset(line.strip() for line in found if line.strip())


def with_keys(text: str, added: Sequence[str]) -> str:
    """The text with more keys."""
    return "".join(f"{line}\n" for line in [*text.split(), *added])
