"""The branches of candidates: their names, the messages of their commits, and what those say was added before."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import PurePosixPath

from dovetail.errors import UserError
from dovetail.repo.git import Git
from dovetail.repo.git_values import Commit

_PREFIX, _TIME = "retrain", "%Y%m%dT%H%M%SZ"
_MODEL = "Retrained-Model"  # the trailer by which such a commit is known, on a branch or merged


@dataclass(frozen=True, slots=True)
class Candidate:
    """A branch with a candidate on it that waits for its merge."""

    branch: str
    added: frozenset[str]

    @property
    def deletion(self) -> str:
        """The command that forgets it: it is a branch here, or one that a remote has."""
        if self.branch.startswith(f"{_PREFIX}/"):
            return f"git branch -D {self.branch}"
        remote, _, name = self.branch.partition("/")
        return f"git push {remote} --delete {name}"


def branch_name(model: str, time: datetime) -> str:
    """The branch of a retraining of `model`: `retrain/iris/20260531T180000Z`."""
    return f"{_PREFIX}/{model}/{time.astimezone(UTC).strftime(_TIME)}"


def check(git: Git, name: str) -> None:
    """See beforehand that git will take a branch of this name.

    Raises:
        UserError: when it will not.
    """
    if not git("check-ref-format", "--branch", name):
        raise UserError(f"git takes no branch {name!r}", "give the model a name without spaces under artifacts:")
    for parent in map(str, PurePosixPath(name).parents):
        if git("rev-parse", "--verify", "-q", f"refs/heads/{parent}"):
            raise UserError(f"a branch {parent} stands in the way of {name}", f"git branch -m {parent} another-name")


def message(model: str, told: str, path: str, before: str, after: str) -> str:
    """The message of the commit that adds rows; `told` says which: "2 rows from new.csv"."""
    return (
        f"{model}: {told} added to {path}, retrained\n\n"
        f"{path}: md5 {before} before, {after} now.\n\n{_MODEL}: {model}\n"
    )


def last(git: Git, model: str) -> Commit | None:
    """The newest commit, of any branch here or in a remote, that retrained `model`."""
    grep = f"--grep=^{_MODEL}: {re.escape(model)}$"
    found = git.commits(["HEAD", "--branches", "--remotes", grep], limit=1)
    return found[0] if found else None


def waiting(git: Git, model: str, memory: str) -> list[Candidate]:
    """The branches of `model`, here and in remotes, with the keys of the rows that each of them has added."""
    own = [f"refs/heads/{_PREFIX}/{model}/", f"refs/remotes/*/{_PREFIX}/{model}/*"]
    names = git("for-each-ref", "--format=%(refname:short)", *own).split()
    return [Candidate(name, keys(git("show", f"{name}:./{memory}"))) for name in names]


def keys(text: str) -> frozenset[str]:
    """The keys in the text of a table's memory: one a line."""
    return frozenset(text.split())


def remembered(text: str, added: Sequence[str]) -> str:
    """The memory's text with the keys that were added now."""
    return "".join(f"{line}\n" for line in [*text.split(), *added])
