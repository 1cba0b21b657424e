"""What git answers, as plain values."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Commit:
    """A commit; `time` in seconds since the epoch, `refs` the branches and tags at it."""

    sha: str
    summary: str = ""
    author: str = ""
    time: int = 0
    refs: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """The commit as `--json` gives it."""
        return {"sha": self.sha, "summary": self.summary, "author": self.author, "time": self.time, "refs": self.refs}


@dataclass(frozen=True, slots=True)
class Tag:
    """A git tag; `commit` is what it names in the end, `time` in seconds since the epoch, both of the tag itself."""

    name: str
    commit: str
    time: int
    actor: str = ""
    message: str = ""
    annotated: bool = True
