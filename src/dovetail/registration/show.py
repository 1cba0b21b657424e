"""`dovetail show REF`: one version on one screen: metrics, gates, aliases, promotions, what made it."""

import shlex
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from dovetail.errors import DovetailError, UnknownReference
from dovetail.gates import rules
from dovetail.gates.evidence import Evidence
from dovetail.gates.gate_verdict import Verdict
from dovetail.registration.alias_check import md5_of
from dovetail.registration.lineage import LineageRequest, ModelLineage, lineage
from dovetail.repo.ledger import Event
from dovetail.repo.workspace import Workspace
from dovetail.tracking.connection import Tracking
from dovetail.values.answer import Answer


@dataclass(frozen=True, slots=True)
class ShowRequest:
    """What to show: a reference to a model."""

    ref: str


@dataclass(frozen=True, slots=True, repr=False)
class ShowAnswer(Answer):
    """A version, or a run without one.

    Attributes:
        made: What made it.
        gates: The verdicts that its metrics give on the gates set today; `promote` asks the others, too.
        promotions: What git's tags say of it, newest first.
    """

    made: ModelLineage
    gates: tuple[Verdict, ...]
    promotions: tuple[Event, ...]

    def __repr__(self) -> str:
        name = f"{self.made.model}/{self.made.version}" if self.made.version else f"runs:/{self.made.run.id}"
        return f"<ShowAnswer {name}: {len(self.gates)} gates, {len(self.promotions)} promotions>"

    def as_json(self) -> dict[str, Any]:
        """The answer of `dovetail show --json`: that of `lineage`, and more."""
        return {
            **self.made.as_json(),
            "gates": [verdict.as_json() for verdict in self.gates],
            "promotions": [_as_json(event) for event in self.promotions],
        }


def _as_json(event: Event) -> dict[str, Any]:
    return {
        "time": datetime.fromtimestamp(event.time, UTC).isoformat(),
        "kind": event.kind,
        "alias": event.alias,
        "tag": event.tag.name,
        "actor": event.tag.actor,
        "reason": event.note.reason if event.note else "",
        "gates": list(event.note.gates) if event.note else [],
    }


def show(workspace: Workspace, tracking: Tracking, request: ShowRequest) -> ShowAnswer:
    """What is known of a version or run.

    Raises:
        UnknownReference: naming what there is.
        StoreError: when MLflow does not answer.
    """
    made = lineage(workspace, tracking, LineageRequest(request.ref))
    if not isinstance(made, ModelLineage):
        raise UnknownReference(f"{request.ref} names data, not a model", f"dovetail lineage {shlex.quote(request.ref)}")
    declared = workspace.tree.declared.models.get(made.model)
    evidence = Evidence(made.run.metrics)
    gates = rules.evaluate(declared.gates, evidence) if declared else []
    events = [event for event in workspace.ledger.all_events(made.model) if _names(workspace, event, made)]
    return ShowAnswer(made, tuple(gates), tuple(reversed(events)))


def _names(workspace: Workspace, event: Event, made: ModelLineage) -> bool:
    """Whether the event is about the very bytes."""
    try:
        return md5_of(workspace, event) == made.lineage.artifact.md5
    except DovetailError:  # the commit of a plain tag does not hold the model
        return False
