"""What the aliases of a model named and when, from git alone: it works with MLflow gone."""

import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time
from typing import Any

from dovetail.errors import UserError
from dovetail.promotion.known_names import check_named
from dovetail.repo.ledger import Event
from dovetail.repo.workspace import Workspace
from dovetail.values.answer import Answer
from dovetail.values.registered_name import registered_name

_FIRST_YEAR = 1970  # before it git has no tags


@dataclass(frozen=True, slots=True)
class HistoryRequest:
    """Which events: those of a model, of one `alias` only, of what was named `at` a date or time in ISO format."""

    model: str
    alias: str | None = None
    at: str | None = None


@dataclass(frozen=True, slots=True)
class GateRecord:
    """What a tag keeps of the gates: the sha256 of the stored evidence, and name, verdict, value and limit of each."""

    sha256: str | None
    gates: tuple[Mapping[str, Any], ...]


@dataclass(frozen=True, slots=True)
class HistoryEvent:
    """One assignment of an alias.

    Attributes:
        time: In ISO format, UTC.
        actor: Name and address of whoever made the tag.
        kind: `promote`, `force`, `rollback`; `assign` or `unassign` for a tag that was made with plain GTO.
        before: MLflow's number of the version that the alias named until then, where it is known.
        version: That of the version which it names from then on, likewise.
        semver: GTO's version of the commit, if it has one.
        evidence: None for a tag that was made with plain GTO.
        problem: What in the tag does not fit the rest of git. Such an event moved nothing, or only its number is void.
    """

    time: str
    actor: str
    kind: str
    alias: str
    before: int | None
    version: int | None
    semver: str | None
    tag: str
    commit: str
    reason: str
    evidence: GateRecord | None
    problem: str = ""

    def as_json(self) -> dict[str, Any]:
        """The event as `--json` gives it."""
        record = self.evidence
        return {
            "time": self.time,
            "actor": self.actor,
            "kind": self.kind,
            "alias": self.alias,
            "from": self.before,
            "to": self.version,
            "version": self.version,
            "semver": self.semver,
            "tag": self.tag,
            "commit": self.commit,
            "reason": self.reason,
            "evidence": {"sha256": record.sha256, "gates": list(record.gates)} if record else {},
            "problem": self.problem,
        }


@dataclass(frozen=True, slots=True, repr=False)
class HistoryAnswer(Answer):
    """The events of a model, newest first; with `at` what was named at that time."""

    model: str
    events: tuple[HistoryEvent, ...]
    at: str | None = None

    def __repr__(self) -> str:
        last = f", last {self.events[0].tag}" if self.events else ""
        return f"<HistoryAnswer {self.model}: {len(self.events)} event{'s' * (len(self.events) != 1)}{last}>"

    def as_json(self) -> dict[str, Any]:
        """The answer of `dovetail history --json`."""
        return {"model": self.model, "at": self.at, "events": [event.as_json() for event in self.events]}


def history(workspace: Workspace, request: HistoryRequest) -> HistoryAnswer:
    """Read the events of a model from git's tags.

    With `at` only what was named at that time: the whole day of a date counts; a time without a zone is local.

    Raises:
        UnknownModel: when it has no event, and dvc.yaml does not declare it.
        UnknownAlias: when it never had an alias of that name, which is no usual one.
        UserError: when `at` is no time.
    """
    request = replace(request, model=registered_name(request.model))
    ledger = workspace.read_ledger()
    events = ledger.all_events(request.model, request.alias)
    if not events:
        check_named(workspace, ledger, request.model, request.alias)
    if request.at is not None:
        moment = _seconds(request.at)
        aliases = dict.fromkeys(event.alias for event in events)
        named = (ledger.current(request.model, alias, before=moment) for alias in aliases)
        events = [event for event in named if event]
    before: dict[Event, int | None] = {}
    last: dict[str, int | None] = {}
    for event in ledger.of(request.model):
        before[event] = last.get(event.alias)
        last[event.alias] = event.version
    told = tuple(_event(event, before.get(event)) for event in reversed(events))
    return HistoryAnswer(request.model, told, request.at)


def _event(event: Event, before: int | None) -> HistoryEvent:
    note = event.note
    return HistoryEvent(
        time=datetime.fromtimestamp(event.time, UTC).isoformat(),
        actor=event.tag.actor,
        kind=event.kind,
        alias=event.alias,
        before=note.before if note else before,
        version=event.version,
        semver=event.semver,
        tag=event.tag.name,
        commit=event.tag.commit,
        reason=note.reason if note else " ".join(event.tag.message.split()),
        evidence=GateRecord(note.evidence or None, note.gates) if note else None,
        problem=event.problem or event.doubt,
    )


def _seconds(text: str) -> int:
    """A date or a time in ISO format as seconds since the epoch."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise UserError(f"--at {text!r} is not a time", "write it as 2026-05-31 or 2026-05-31T18:00") from error
    with suppress(ValueError):  # a date alone: all of that day
        moment = datetime.combine(date.fromisoformat(text), time.max)
    try:
        return int(moment.timestamp())
    except (ValueError, OverflowError):  # by the clock of this place it lies outside of the calendar
        return 0 if moment.year < _FIRST_YEAR else sys.maxsize
