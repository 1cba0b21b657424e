"""The ledger of promotions: annotated git tags in GTO's convention, read into events and written.

`iris@v3.0.0` says which commit a version is, `iris#production#2` which version an alias names from then on
(https://mlem.ai/doc/gto/user-guide). Dovetail's own tags carry what GTO's lack, as trailers of the message.
"""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from time import time as now
from typing import Any

from dovetail.repo.git import Git
from dovetail.repo.git_values import Tag

PROMOTE, FORCE, ROLLBACK = "promote", "force", "rollback"  # written here
ASSIGN, UNASSIGN = "assign", "unassign"  # made with plain GTO: no gates, no evidence
_NAME = r"[a-zA-Z0-9](?:[a-zA-Z0-9-/_]*[a-zA-Z0-9])?"
_TAG = re.compile(
    rf"(?:[\w./-]+=)?(?P<model>{_NAME})"
    rf"(?:@(?P<semver>v\d+\.\d+\.\d+[\w.+-]*)|#(?P<alias>{_NAME}))(?P<cancel>!?)(?:#(?P<number>\d+))?"
)


@dataclass(frozen=True, slots=True)
class Note:
    """What the message of a tag carries; `text` and `parse` are inverses.

    Attributes:
        kind: One of PROMOTE, FORCE, ROLLBACK.
        version: MLflow's number of the version that the alias names now; None where MLflow could not be asked.
        before: The one that it named before, if any.
        md5: The digest of the model's bytes.
        reason: Why, in somebody's words; one line.
        evidence: The sha256 of the evidence that is kept with the version's run.
        gates: Each gate's name, verdict, value and limit.
        package: The digest of all that the version's package consists of; empty in tags from before it was kept.
        requirements: The pins in that package, so that it can be restored to the same digest anywhere.
    """

    kind: str
    version: int | None
    before: int | None
    md5: str
    reason: str = ""
    evidence: str = ""
    gates: tuple[Mapping[str, Any], ...] = ()
    package: str = ""
    requirements: tuple[str, ...] = ()

    def text(self, model: str, alias: str) -> str:
        """The message of a tag."""
        did = {PROMOTE: "Promote", FORCE: "Promote, against its gates,", ROLLBACK: "Roll back"}[self.kind]
        now = f"version {self.version}" if self.version else f"md5 {self.md5}"
        was = f" (it was version {self.before})" if self.before else ""
        trailers = {
            "Kind": self.kind,
            "Version": self.version,
            "From": self.before,
            "Model-Md5": self.md5,
            "Package": self.package,
            "Requirements": " ".join(self.requirements),
            "Reason": " ".join(self.reason.split()),
            "Evidence": self.evidence,
            "Gates": json.dumps([dict(gate) for gate in self.gates]) if self.gates else "",
        }
        lines = [f"Dovetail-{key}: {value}" for key, value in trailers.items() if value not in (None, "")]
        return "\n".join([f"{did} {model} to {alias}: {now}{was}", "", *lines, ""])

    @classmethod
    def parse(cls, message: str) -> "Note | None":
        """What a message carries; None for one that Dovetail did not write."""
        found = dict(re.findall(r"^Dovetail-([\w-]+): (.*)$", message, re.MULTILINE))
        try:
            return cls(
                kind=found["Kind"],
                version=int(found["Version"]) if "Version" in found else None,
                before=int(found["From"]) if "From" in found else None,
                md5=found["Model-Md5"],
                reason=found.get("Reason", ""),
                evidence=found.get("Evidence", ""),
                gates=tuple(json.loads(found.get("Gates", "[]"))),
                package=found.get("Package", ""),
                requirements=tuple(found.get("Requirements", "").split()),
            )
        except (KeyError, ValueError):
            return None


@dataclass(frozen=True, slots=True)
class Event:
    """One assignment of an alias; `semver` is GTO's version of the commit, if it has one."""

    model: str
    alias: str
    kind: str
    tag: Tag
    number: int
    semver: str | None
    note: Note | None

    @property
    def version(self) -> int | None:
        """MLflow's number of the version, as the tag says it."""
        return self.note.version if self.note else None


@dataclass(frozen=True)
class Ledger:
    """All tags of a repository that follow GTO's convention."""

    events: tuple[Event, ...] = ()  # oldest first
    versions: Mapping[str, Mapping[str, str]] = field(default_factory=dict)  # model → semver → commit
    counters: Mapping[str, int] = field(default_factory=dict)  # model → the highest number that a tag has

    @property
    def aliases(self) -> dict[tuple[str, str], Event | None]:
        """What each alias of each model names; None where its last assignment was taken back."""
        names = dict.fromkeys((event.model, event.alias) for event in self.events)
        return {name: self.current(*name) for name in names}

    def number(self, model: str, md5: str) -> int | None:
        """The number that the version with these bytes had in MLflow when it was promoted."""
        notes = (event.note for event in self.of(model) if event.note and event.note.md5 == md5)
        return next((note.version for note in notes if note.version), None)

    def package(self, model: str, md5: str) -> Event | None:
        """The last event whose note says what the package of the version with these bytes consists of."""
        found = (event for event in reversed(self.of(model)) if event.note and event.note.md5 == md5)
        return next((event for event in found if event.note and event.note.package), None)

    def of(self, model: str, alias: str | None = None) -> list[Event]:
        """The events of a model, oldest first."""
        return [event for event in self.events if event.model == model and alias in (None, event.alias)]

    def current(self, model: str, alias: str, before: int | None = None) -> Event | None:
        """The event that says what the alias names (`before`: named at that time, in seconds since the epoch)."""
        stack = _stack(event for event in self.of(model, alias) if before is None or event.tag.time <= before)
        return stack[-1] if stack else None

    def previous(self, model: str, alias: str) -> Event | None:
        """What one step back leads to."""
        stack = _stack(self.of(model, alias))
        return stack[-2] if len(stack) > 1 else None

    def semver(self, model: str, commit: str) -> str | None:
        """GTO's version of the commit."""
        return next((name for name, sha in self.versions.get(model, {}).items() if sha == commit), None)

    def free_semver(self, model: str, version: int) -> str:
        """`vN.0.0` for MLflow's version N where it is free, else the next major number that is."""
        taken = {int(name[1:].partition(".")[0]) for name in self.versions.get(model, {})}
        major = version if version not in taken else max(taken) + 1
        return f"v{major}.0.0"


def write(git: Git, model: str, alias: str, commit: str, note: Note) -> str:
    """Tag `commit` as what `alias` names from now on, and as a version if it is none yet. Returns the tag's name.

    Raises:
        TagExists: when somebody else was faster.
        TagRefused: when git cannot make a tag.
    """
    ledger = read(git.tags())
    last = max((event.tag.time for event in ledger.of(model)), default=0)
    time = max(int(now()), last + 1)  # GTO orders tags by their seconds
    if ledger.semver(model, commit) is None:
        name = version_tag(model, ledger.free_semver(model, note.version or 1))
        git.tag(name, commit, f"Register {model}: md5 {note.md5}\n", time)
    name = alias_tag(model, alias, ledger.counters.get(model, 0) + 1)
    git.tag(name, commit, note.text(model, alias), time)
    return name


def version_tag(model: str, semver: str) -> str:
    """The name of the tag that says which commit a version is."""
    return f"{model}@{semver}"


def alias_tag(model: str, alias: str, number: int) -> str:
    """The name of the tag that says what an alias names."""
    return f"{model}#{alias}#{number}"


def read(tags: Iterable[Tag]) -> Ledger:
    """The ledger in a repository's tags, those that are no annotated tags in GTO's convention left aside."""
    events: list[Event] = []
    versions: dict[str, dict[str, str]] = {}
    counters: dict[str, int] = {}
    matched = [(tag, match) for tag in tags if tag.annotated and (match := _TAG.fullmatch(tag.name))]
    for tag, match in sorted(matched, key=lambda pair: (pair[0].time, int(pair[1]["number"] or 0))):
        model, number = match["model"], int(match["number"] or 0)
        counters[model] = max(counters.get(model, 0), number)
        if match["semver"]:
            known = versions.setdefault(model, {})
            if match["cancel"]:
                known.pop(match["semver"], None)
            else:
                known[match["semver"]] = tag.commit
    for tag, match in sorted(matched, key=lambda pair: (pair[0].time, int(pair[1]["number"] or 0))):
        if match["alias"]:
            model, note = match["model"], Note.parse(tag.message)
            kind = UNASSIGN if match["cancel"] else note.kind if note else ASSIGN
            semver = next((name for name, sha in versions.get(model, {}).items() if sha == tag.commit), None)
            events.append(Event(model, match["alias"], kind, tag, int(match["number"] or 0), semver, note))
    return Ledger(tuple(events), versions, counters)


def _stack(events: Iterable[Event]) -> list[Event]:
    """What an alias names, on top of what it would name after each step back."""
    stack: list[Event] = []
    for event in events:
        if event.kind == UNASSIGN:
            stack = [kept for kept in stack if kept.tag.commit != event.tag.commit]
        elif event.kind == ROLLBACK:
            stack = [*stack[:-2], event]
        else:
            stack.append(event)
    return stack
