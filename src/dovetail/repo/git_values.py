"""What git answers, as plain values."""

import re
from dataclasses import dataclass
from typing import Any

_SECONDS = re.compile("[0-9]{1,12}")
_LATEST = 253_370_764_800  # the year 9999: a later one has no calendar date, and a tag is dated after the last


def seconds(text: str) -> int | None:
    """A time as git says it, in seconds since the epoch; 0 where it says none, None where it is no time."""
    if not text:
        return 0
    return int(text) if _SECONDS.fullmatch(text) and int(text) < _LATEST else None


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
    """A git tag.

    Attributes:
        commit: What it names in the end; `target` says of which type that object is.
        time: In seconds since the epoch, that of the tag itself; None where that is no time.
    """

    name: str
    commit: str
    time: int | None
    actor: str = ""
    message: str = ""
    annotated: bool = True
    target: str = "commit"
