"""The few tags that a person reads: first on MLflow's pages, which sort by the alphabet, capitals first.

They are made of the facts that a description is made of, and kept current with it. A key that somebody else gave the
run or the version before stays theirs.
"""

from collections.abc import Mapping
from datetime import UTC, datetime

from dovetail.values.description import DataFact, EventFact, Facts, GateFact, cut
from dovetail.values.tag_keys import CLAIMED
from dovetail.values.tag_layout import TagChange

COMMIT, DATA, DECISION, EXPERIMENT, GATES = "Commit", "Data", "Decision", "Experiment", "Gates"
MONITORED, REPRODUCED = "Monitored", "Reproduced"
KEYS = (COMMIT, DATA, DECISION, EXPERIMENT, GATES, MONITORED, REPRODUCED)
_SHORT, _DAY = 8, 10  # characters of a digest, and of a time as ISO 8601 has it
_NAMES, _LONGEST = 3, 180  # files that are named, and characters of a name or a sentence
_FIRST = ("source", "training", "upstream", "evaluation")  # the role of the data that people know the model's by


def of_run(facts: Facts) -> dict[str, str]:
    """What a run's page says first."""
    said = {
        COMMIT: f"{facts.commit.sha[:_SHORT]} {facts.commit.summary}" if facts.commit else "none yet",
        DATA: _data(facts),
        EXPERIMENT: facts.experiment or "",
        GATES: _gates(facts),
    }
    if facts.experiment and not facts.commit:
        del said[COMMIT]
    return {key: cut(text, _LONGEST) for key, text in said.items() if text}


def of_version(facts: Facts) -> dict[str, str]:
    """What a version's page says first."""
    said = {one.what: look(one.verdict, one.time) for one in facts.looks if one.what in KEYS}
    if facts.events:
        said[DECISION] = _event(facts.events[-1])
    return dict(sorted((of_run(facts) | {key: cut(text, _LONGEST) for key, text in said.items()}).items()))


def look(verdict: str, time: str) -> str:
    """What was found out about a version, and the day of it; `time` as ISO 8601 has it."""
    return f"{verdict}, {time[:_DAY]}"


def change(tags: Mapping[str, str], wanted: Mapping[str, str]) -> TagChange:
    """What makes the readable tags among `tags` those that are wanted; which are Dovetail's is set before them."""
    before = frozenset(filter(None, tags.get(CLAIMED, "").split(",")))
    taken = {key.casefold() for key in tags} - {key.casefold() for key in before}
    claimed = before | {key for key in KEYS if key.casefold() not in taken}
    mine = {key: text for key, text in wanted.items() if key in claimed}
    marked = {CLAIMED: ",".join(sorted(claimed))}
    written = {key: text for key, text in (marked | mine).items() if tags.get(key) != text}
    return TagChange(written, tuple(sorted(key for key in claimed & tags.keys() if key not in mine)))


def _data(facts: Facts) -> str:
    by_role: dict[str, list[DataFact]] = {}
    for one in facts.data:
        by_role.setdefault(one.role, []).append(one)
    chosen = next((by_role[role] for role in _FIRST if role in by_role), list(facts.data))
    named = [f"{cut(one.ref.path.rpartition('/')[2], _LONGEST)} ({one.ref.md5[:_SHORT]})" for one in chosen[:_NAMES]]
    return ", ".join([*named, *([f"{len(chosen) - _NAMES} more"] if len(chosen) > _NAMES else [])])


def _gates(facts: Facts) -> str:
    failed: list[GateFact] = [gate for gate in facts.gates if not gate.passed]
    if failed:
        return f"FAILED: {', '.join(gate.name for gate in failed)}"
    return f"all {len(facts.gates)} passed" if len(facts.gates) > 1 else "passed" if facts.gates else ""


def _event(event: EventFact) -> str:
    by = f", by {cut(event.actor, _LONGEST)}" if event.actor else ""
    return f"{event.said}{by}, {datetime.fromtimestamp(event.time, UTC):%Y-%m-%d}"
