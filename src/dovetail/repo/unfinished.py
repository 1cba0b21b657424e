"""What a `dovetail repro` records while it is at work, so that the one after it goes on where it was killed.

DVC writes dvc.lock in place: killed in the middle of it, it leaves half a file, which it does not read any more. And
the entries that a killed run has added stand in the order in which its stages ended, not in that of the plan. So there
is a note of the files as they were, which is gone once a run has ended by itself. Nothing is read from it but that:
what is done is in DVC's cache and in dvc.lock.
"""

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dvc.repo import Repo


@dataclass(slots=True)
class Unfinished:
    """The note.

    Attributes:
        head: The commit on which the run began; of another one it says nothing any more.
        recorded: The stages that each dvc.lock had before the first run that did not end, by the file's path.
        ignored: What each .gitignore said then.
        whole: What each dvc.lock said when it was last known to be whole.
    """

    head: str
    recorded: dict[str, list[str]] = field(default_factory=dict)
    ignored: dict[str, str] = field(default_factory=dict)
    whole: dict[str, str] = field(default_factory=dict)

    def write(self, file: Path) -> None:
        """Keep it, whole or not at all."""
        new = file.with_suffix(".new")
        content = {name: getattr(self, name) for name in ("head", "recorded", "ignored", "whole")}
        new.write_text(json.dumps(content), encoding="utf-8")
        new.replace(file)


def read_unfinished(file: Path, head: str) -> Unfinished:
    """What a run left that was killed on this commit; an empty one where none was."""
    with suppress(OSError, ValueError, TypeError):
        content: Mapping[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        if content["head"] == head:
            return Unfinished(**content)
    return Unfinished(head)


def repair(repo: "Repo", note: Unfinished) -> None:
    """Give back each dvc.lock that was left half written; what is lost with it DVC's run-cache knows."""
    for name, text in note.whole.items():
        file = Path(name)
        if file.is_file() and _is_half(repo, file, text):
            if text:
                file.write_text(text, encoding="utf-8")
            else:
                file.unlink()


def _is_half(repo: "Repo", file: Path, before: str) -> bool:
    from dvc.dvcfile import Lockfile
    from dvc.exceptions import DvcException
    from dvc.utils.serialize import loads_yaml

    if not text_of(file).endswith("\n"):
        return True
    try:
        now = Lockfile(repo, str(file)).load().get("stages") or {}
    except DvcException:
        return True
    return not set((loads_yaml(before) or {}).get("stages") or {}) <= set(now)


def text_of(file: Path) -> str:
    """What the file says; nothing where it is not there."""
    return file.read_text(encoding="utf-8") if file.is_file() else ""


def still_there(before: Sequence[str], now: Sequence[str]) -> list[str]:
    """Those of `before` that are there now, in that order."""
    return [name for name in before if name in set(now)]
