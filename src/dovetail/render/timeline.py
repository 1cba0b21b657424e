"""What an alias named and for how long, as a strip true to time, and each promotion below it. HTML without scripts."""

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from html import escape
from typing import Any

from dovetail.render.page import chip

_TONES = {"promote": "--good", "force": "--bad", "rollback": "--accent"}
_TOLD = {
    "promote": "promoted to",
    "force": "forced to",
    "rollback": "rolled back to",
    "assign": "assigned, without gates, to",
}
_MOST = 60  # events that are listed


def timeline(events: Sequence[dict[str, Any]], alias: str, now: str) -> str:
    """The strip of the alias, then all events, newest first."""
    valid = [event for event in reversed(events) if event["alias"] == alias and not event["problem"]]
    listed = "".join(f"<li {_tone(event)}>{_event(event)}</li>" for event in events[:_MOST])
    more = f"<p class='who'>and {len(events) - _MOST} before</p>" if len(events) > _MOST else ""
    return f'{_strip(valid, alias, now)}<ol class="events">{listed}</ol>{more}'


def _strip(events: list[dict[str, Any]], alias: str, now: str) -> str:
    """Segments as wide as their time, but never too narrow to be read."""
    if not events:
        return ""
    ends = [*(event["time"] for event in events[1:]), now]
    parts = []
    for place, (event, end) in enumerate(zip(events, ends, strict=True)):
        lasted = _time(end) - _time(event["time"])
        last = place == len(events) - 1
        named = event["kind"] != "unassign"
        label = _version(event).replace("version ", "v") if named else "none"
        tone = ("now" if last else "named") if named else ""
        told = f"{_version(event) if named else label} for {_duration(lasted)}, from {_minute(event['time'])}"
        parts.append(
            f'<div class="{tone}" style="flex:{max(lasted.total_seconds(), 1):.0f} 1 0" title="{escape(told)}">'
            f"{escape(label)}</div>"
        )
    first = _minute(events[0]["time"])
    return (
        f'<div class="strip" role="img" aria-label="What @{escape(alias)} named">{"".join(parts)}</div>'
        f'<div class="ends"><span>@{escape(alias)} from {first}</span><span>to {_minute(now)} UTC</span></div>'
    )


def _event(event: dict[str, Any]) -> str:
    return "".join(_lines(event))


def _lines(event: dict[str, Any]) -> Iterator[str]:
    yield f"<time>{_minute(event['time'])}</time>"
    was = f" (before: version {event['from']})" if event["from"] else ""
    if event["kind"] == "unassign":
        yield f"<b>@{escape(event['alias'])} taken back</b>"
    else:
        told = _TOLD.get(event["kind"], f"{event['kind']}:")
        yield f"<b>{escape(_version(event))}</b> {escape(told)} <b>@{escape(event['alias'])}</b>{was} "
    gates = event["evidence"].get("gates") or []
    failed = [gate["name"] for gate in gates if not gate["passed"]]
    if event["problem"]:
        yield chip(f"moved nothing: {event['problem']}", "bad")
    elif failed:
        yield chip(f"against {', '.join(failed)}", "bad")
    elif gates:
        yield chip(f"{len(gates)} of {len(gates)} gates passed", "good")
    if event["reason"]:
        yield f"<q>{escape(event['reason'])}</q>"
    who, tag, commit = (escape(text) for text in (_name(event["actor"]), event["tag"], event["commit"][:8]))
    yield f'<div class="who">{who} · <code>{tag}</code> · <code>{commit}</code></div>'


def _tone(event: dict[str, Any]) -> str:
    tone = "--line" if event["problem"] else _TONES.get(event["kind"], "--soft")
    return f'style="--tone: var({tone})"'


def _version(event: dict[str, Any]) -> str:
    return f"version {event['version']}" if event["version"] else event["semver"] or event["commit"][:8]


def _name(actor: str) -> str:
    return actor.partition(" <")[0] or actor


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)


def _minute(text: str) -> str:
    return text[:16].replace("T", " ")


def _duration(lasted: timedelta) -> str:
    seconds = max(lasted.total_seconds(), 0)
    for name, size in (("day", 86400), ("hour", 3600), ("minute", 60)):
        if seconds >= size:
            count = int(seconds // size)
            return f"{count} {name}{'s' * (count != 1)}"
    return "seconds"
