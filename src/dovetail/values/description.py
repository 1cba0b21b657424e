"""What MLflow's pages say of a run and a version, as Markdown: facts in, text out. Pure: the same facts, the same text.

MLflow shows lists and code well, and tables without space between their cells. Its list of versions shows the first
line alone, unformatted and cut.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from dovetail.values.lineage import FileRef
from dovetail.values.short import SHORT

_MOST = 6  # lines of a list
_EVENTS = 5
_LONGEST = 80  # characters of a name or a sentence of somebody else's
_COMMAND = 300  # characters of a command
_BASELINE = "baseline."
_ROLES = {role: rank for rank, role in enumerate(("training", "evaluation", "source", "upstream"))}
_ANGLE = "\N{SINGLE LEFT-POINTING ANGLE QUOTATION MARK}"  # for one that may begin a comment of HTML
_LIMIT = 1e300  # of what is written as a number: MLflow keeps the infinite as its largest one
_ROWS = re.compile(r"^- .*, (?P<rows>[0-9,]{1,20}) rows, md5 `(?P<md5>[0-9a-f]{8})`$", re.MULTILINE)  # as `_data` says
_INLINE = re.compile(r"([\\`*_\[\]#~|!])")


@dataclass(frozen=True, slots=True)
class GateFact:
    """A gate as somebody reads it: what was asked, what was measured, and the answer."""

    name: str
    passed: bool
    value: float | None
    limit: str


@dataclass(frozen=True, slots=True)
class DataFact:
    """A file that the model was made of; `rows` None where nobody counted."""

    ref: FileRef
    role: str
    rows: int | None = None


@dataclass(frozen=True, slots=True)
class CommitFact:
    """The commit that holds the model."""

    sha: str
    summary: str
    author: str


@dataclass(frozen=True, slots=True)
class EventFact:
    """Something that git's tags say of the version: `said` in words, `time` in seconds since the epoch."""

    said: str
    time: int
    actor: str
    tag: str
    reason: str = ""


@dataclass(frozen=True, slots=True)
class LookFact:
    """What a command found out about the version last: `monitored`, `drift`, and when, as ISO 8601 has it."""

    what: str
    verdict: str
    time: str


@dataclass(frozen=True, slots=True)
class Facts:
    """All that a description says.

    Attributes:
        about: What dvc.yaml says of the model.
        version: None where the run has none.
        experiment: The DVC experiment that made the run.
        metrics: By name; `accuracy_low` and `accuracy_high` are its interval, `baseline.accuracy` what to beat.
        gates: In the order in which they are asked.
        commit: None where no commit holds the model, as far as is known.
        events: Oldest first.
    """

    model: str
    version: int | None
    about: str = ""
    experiment: str | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    gates: Sequence[GateFact] = ()
    data: Sequence[DataFact] = ()
    commit: CommitFact | None = None
    events: Sequence[EventFact] = ()
    looks: Sequence[LookFact] = ()


def headline(facts: Facts) -> str:
    """One line without any markup."""
    first = next(iter(_headed(facts)), None)
    failed = [gate.name for gate in facts.gates if not gate.passed]
    parts = []
    if first:
        low, high = _interval(facts.metrics, first)
        parts.append(f"{first} {_number(facts.metrics[first])}" + (f" ({low} to {high})" if low else ""))
    if failed:
        parts.append(f"{_named(failed, 'gate')} FAILED")
    elif facts.gates:
        parts.append("its gate passed" if len(facts.gates) == 1 else f"all {len(facts.gates)} gates passed")
    return _line(", ".join(parts) or f"{facts.model}{f' {facts.version}' if facts.version else ''}")


def body(facts: Facts, most: int = _MOST) -> str:
    """The description below its first line, with lists of at most `most` lines."""
    return "\n\n".join(part for part in _parts(facts, most) if part)


def rows_said(text: str) -> dict[str, int]:
    """The rows that a description says, by the first characters of the data's digests."""
    return {found["md5"]: int(found["rows"].replace(",", "")) for found in _ROWS.finditer(text)}


def rows_of(ref: FileRef, said: Mapping[str, int]) -> int | None:
    """Those that `rows_said` has of a file."""
    return said.get(ref.md5[:SHORT])


def _parts(facts: Facts, most: int) -> Iterator[str]:
    yield facts.about.strip().replace("<!--", "&lt;!--")
    yield _listed("Metrics", _metrics(facts), most)
    yield _gates(facts.gates, most)
    yield _listed("Data", map(_data, sorted(facts.data, key=lambda one: _ROLES.get(one.role, len(_ROLES)))), most)
    yield _listed("From", _story(facts, min(most, _EVENTS)), len(facts.events) + _MOST)
    yield "**Next**: " + " · ".join(_code(command, _COMMAND) for command in _commands(facts))


def _listed(name: str, lines: Iterable[str], most: int) -> str:
    """A list under its name, which wraps on a phone where a table does not; what it leaves out is counted."""
    every = list(lines)
    more = [f"and {len(every) - most} more"] if len(every) > most else []
    return "\n".join([f"**{name}**\n", *(f"- {line}" for line in [*every[:most], *more])]) if every and most else ""


def _metrics(facts: Facts) -> Iterator[str]:
    for name in _headed(facts):
        low, high = _interval(facts.metrics, name)
        baseline = facts.metrics.get(_BASELINE + name)
        known = [
            f"interval {low} to {high}" if low else "",
            f"baseline {_number(baseline)}" if baseline is not None else "",
        ]
        yield ", ".join(filter(None, [f"{_code(name)} **{_number(facts.metrics[name])}**", *known]))


def _headed(facts: Facts) -> Iterator[str]:
    """The metrics worth a row: those that gates ask, those with an interval, those with a baseline, the others."""
    metrics = facts.metrics
    bounds = {f"{name}_{end}" for name in metrics for end in ("low", "high")}
    names = sorted(name for name in metrics if name not in bounds and not name.startswith(_BASELINE))
    asked = [gate.name for gate in facts.gates]
    ranks = {
        name: (
            asked.index(name) if name in asked else len(asked),
            f"{name}_low" not in metrics,
            _BASELINE + name not in metrics,
            "." in name,
        )
        for name in names
    }
    plain = [name for name in names if ranks[name][0] < len(asked) or "." not in name]
    return iter(sorted(plain or names, key=lambda name: (ranks[name], name)))


def _interval(metrics: Mapping[str, float], name: str) -> tuple[str, str]:
    ends = [metrics.get(f"{name}_{end}") for end in ("low", "high")]
    return ("", "") if None in ends else (_number(ends[0]), _number(ends[1]))  # type: ignore[arg-type]  # not None


def _gates(gates: Sequence[GateFact], most: int) -> str:
    """What failed first, then what was measured; of the others their names."""
    ordered = sorted(gates, key=lambda gate: gate.passed)
    told = [gate for gate in ordered if not gate.passed or gate.value is not None]
    lines = [
        f"{'pass' if gate.passed else '**FAILED**'} {_code(gate.name)}: "
        + ("" if gate.value is None else f"{_number(gate.value)}, asked ")
        + _inline(gate.limit)
        for gate in told
    ]
    others = [gate.name for gate in ordered if gate not in told]
    shown = [*lines[:most], *([f"and {len(lines) - most} more"] if len(lines) > most else [])]
    if others:
        shown.append(f"pass {_escaped(cut(', '.join(others), 2 * _LONGEST))}")
    return _listed("Gates", shown, len(shown) if most else 0)


def _data(one: DataFact) -> str:
    rows = [] if one.rows is None else [f"{one.rows:,} rows"]
    return ", ".join([f"{_code(one.ref.path)} {_inline(one.role)}", *rows, f"md5 {_code(one.ref.md5[:SHORT])}"])


def _story(facts: Facts, most: int) -> Iterator[str]:
    if facts.experiment:
        yield f"**Experiment** {_inline(facts.experiment)}"
    if facts.commit:
        by = f", by {_inline(facts.commit.author)}" if facts.commit.author else ""
        yield f"**Commit** `{facts.commit.sha[:SHORT]}` {_inline(facts.commit.summary)}{by}"
    elif not facts.experiment:
        yield "**No commit** is known to hold it yet: `git commit`, then `dovetail sync`"
    if len(facts.events) > most:
        yield f"…{len(facts.events) - most} earlier: {_code(f'dovetail history {facts.model}')}"
    for event in facts.events[max(0, len(facts.events) - most) :]:
        why = f": “{_inline(event.reason)}”" if event.reason else ""
        time = datetime.fromtimestamp(event.time, UTC)
        by = f" by {_inline(event.actor)}" if event.actor else ""
        yield f"**{_inline(event.said)}** on {time:%Y-%m-%d %H:%M} UTC{by}, {_code(event.tag)}{why}"
    for look in facts.looks:
        yield f"**{_inline(look.what)}** {_time(look.time)}: {_inline(look.verdict)}"


def _commands(facts: Facts) -> Iterable[str]:
    if facts.version is None:
        return [f"dvc exp apply {facts.experiment}"] if facts.experiment else [f"dovetail register {facts.model}"]
    name = f"{facts.model}/{facts.version}"
    promoted = [f"dovetail history {facts.model}", f"dovetail serve {name}"]
    return [
        f"dovetail show {name}",
        f"dovetail diff {name} workspace:{facts.model}",
        *(promoted if facts.events else [f"dovetail promote {facts.model} --version {facts.version}"]),
        f"dovetail reproduce {name}",
    ]


def _time(iso: str) -> str:
    return _inline(iso[:16].replace("T", " ") + " UTC")


def _number(value: float) -> str:
    if abs(value) >= _LIMIT:
        return "∞" if value > 0 else "-∞"
    return f"{value:,.0f}" if value == int(value) and abs(value) < 1e15 else f"{value:.4g}"  # noqa: PLR2004


def _named(names: Sequence[str], kind: str) -> str:
    return f"{kind}{'s' if len(names) > 1 else ''} {', '.join(names)}"


def _line(text: str) -> str:
    """One line of plain text; no comment of HTML begins in it."""
    shown = " ".join(text.split()).replace("<", _ANGLE)
    return shown if len(shown) <= 2 * _LONGEST else shown[: 2 * _LONGEST - 1] + "…"


def cut(text: str, longest: int = _LONGEST) -> str:
    """One line without signs that do not print."""
    shown = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return shown if len(shown) <= longest else f"{shown[: longest - 1]}…"


def _code(text: str, longest: int = _LONGEST) -> str:
    """Somebody's name as code: no character of it ends the code."""
    name = "".join(c if c.isprintable() else "�" for c in text)
    if len(name) > longest:
        name = f"…{name[1 - longest :]}"
    return "`" + name.replace("`", "'").replace("<", _ANGLE) + "`"


def _inline(text: str) -> str:
    """Somebody's words as text, cut where they are long."""
    return _escaped(cut(text))


def _escaped(text: str) -> str:
    """The text, no character of it markup."""
    shown = _INLINE.sub(r"\\\1", text)
    return shown.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
