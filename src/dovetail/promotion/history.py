"""What an alias named and when, told from git alone: it works with MLflow gone."""

from datetime import UTC, datetime, time
from pathlib import Path
from typing import Any

from dovetail.errors import UserError
from dovetail.repo.git import Git
from dovetail.repo.ledger import Event, Ledger, read


def history(model: str, alias: str | None = None, at: str | None = None, start: Path | None = None) -> dict[str, Any]:
    """The answer of `dovetail history`: the events of a model, newest first.

    With `at` (a date, whose whole day counts, or a time in ISO format; without a zone: local) only what was named then.

    Raises:
        UserError: when the model has no event, or `at` is no time.
    """
    ledger = read(Git.of_dvc(start).tags())
    events = ledger.of(model, alias)
    if not events:
        known = ", ".join(sorted({event.model for event in ledger.events})) or "none"
        what = f"{model}@{alias}" if alias else model
        raise UserError(f"no tag says that {what} was ever promoted; models with a history: {known}",
                        f"dovetail promote {model}, or: git fetch --tags")  # fmt: skip
    if at is not None:
        moment = _seconds(at)
        named = (ledger.current(model, name, before=moment) for name in dict.fromkeys(e.alias for e in events))
        events = [event for event in named if event]
    return {"model": model, "events": [_event(ledger, event) for event in reversed(events)]}


def _event(ledger: Ledger, event: Event) -> dict[str, Any]:
    earlier = ledger.of(event.model, event.alias)
    index = earlier.index(event)
    before = event.note.before if event.note else earlier[index - 1].version if index else None
    evidence = {"sha256": event.note.evidence or None, "gates": list(event.note.gates)} if event.note else {}
    return {
        "time": datetime.fromtimestamp(event.tag.time, UTC).isoformat(),
        "actor": event.tag.actor,
        "kind": event.kind,
        "alias": event.alias,
        "from": before,
        "to": event.version,
        "version": event.version,
        "semver": event.semver,
        "tag": event.tag.name,
        "commit": event.tag.commit,
        "reason": event.note.reason if event.note else " ".join(event.tag.message.split()),
        "evidence": evidence,
    }


def _seconds(text: str) -> int:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise UserError(f"--at {text!r} is no time", "write it as 2026-05-31 or 2026-05-31T18:00") from error
    if len(text) == len("2026-05-31"):
        moment = datetime.combine(moment.date(), time.max)
    return int(moment.timestamp())
