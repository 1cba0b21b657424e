"""The evidence about a version, gathered: where it comes from, how it behaves, how it does beside the champion."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from dovetail.errors import DovetailError
from dovetail.gates import rules
from dovetail.gates.evidence import Compared, Evidence, Served
from dovetail.promotion import test_set, trial
from dovetail.promotion.provenance import origin
from dovetail.promotion.test_set import TestPart
from dovetail.promotion.trial import Found, Running, Trial
from dovetail.registration.resolve import TrackedModel
from dovetail.repo.git_values import Commit
from dovetail.repo.workspace import Workspace
from dovetail.tracking.store import Store


@dataclass(frozen=True, slots=True)
class Contest:
    """A candidate, the commit that holds it, the gates that it meets there, and the champion that it would follow."""

    candidate: TrackedModel
    commit: Commit | None
    gates: Mapping[str, Mapping[str, Any]]
    champion: TrackedModel | None

    def gate(self, kind: str) -> dict[str, Any]:
        """The settings of one kind of gate."""
        return rules.settings(self.gates, kind)


def gather(workspace: Workspace, store: Store, contest: Contest) -> Evidence:
    """Everything that the gates may want to know of the candidate.

    Both models are tried at the same time, each in a process of its own; git and DVC are asked meanwhile.

    Raises:
        UserError: when a gate has an unknown key.
    """
    candidate, champion = contest.candidate, contest.champion
    inputs, _ = store.columns(candidate.model, candidate.version or 0)
    part = test_set.find(workspace, candidate.lineage, inputs, contest.gate(rules.CHAMPION)["target"])
    running = _begin(workspace, store, contest, candidate, part)
    rival = _begin(workspace, store, contest, champion, part) if champion else None
    known = store.version(candidate.model, candidate.version or 0)
    whence = origin(workspace, candidate.lineage, contest.commit, known.reproduced if known else None)
    found = _result(running)
    return Evidence(
        metrics=candidate.run.metrics,
        has_signature=bool(inputs),
        origin=whence,
        served=replace(
            running[0], refused=found.refused, error=found.error, missing=found.missing, p99_ms=found.p99_ms
        ),
        compared=_compared(workspace, contest, part, found, _result(rival) if rival else None),
        slices=_slices(contest, part, found),
    )


def _begin(
    workspace: Workspace, store: Store, contest: Contest, subject: TrackedModel, part: TestPart | str
) -> tuple[Served, Running | None]:
    """What is known of the artifact without reading it; the trial is begun only if the bytes are the right ones."""
    artifact = subject.lineage.artifact
    served = Served(artifact.md5, store.stored_md5(subject.run.id, artifact.path), artifact.size or 0)
    if served.stored_md5 != artifact.md5:
        return replace(served, error=f"the registry holds md5 {served.stored_md5}, not {artifact.md5}"), None
    try:
        file = workspace.object(artifact)
    except DovetailError as error:
        return replace(served, error=error.message), None
    return served, trial.start(
        Trial(
            uri=store.uri,
            source=f"models:/{subject.model}/{subject.version}",
            file=str(file),
            allow=tuple(contest.gate(rules.PICKLE)["allow"]),
            table=part.table if isinstance(part, TestPart) else None,
            timed=subject is contest.candidate,
            missing=contest.gate(rules.SERVING)["missing"],
        )
    )


def _result(begun: tuple[Served, Running | None]) -> Found:
    served, running = begun
    return running.result() if running else Found(error=served.error)


def _compared(
    workspace: Workspace, contest: Contest, part: TestPart | str, ours: Found, theirs: Found | None
) -> Compared:
    if contest.champion is None or theirs is None:
        return Compared(None)
    number = contest.champion.version
    if isinstance(part, str):
        return Compared(number, unknown=part)
    for found, name in ((ours, "the candidate"), (theirs, "the champion")):
        if found.predicted is None:
            return Compared(number, error=f"{name} does not predict: {found.error or found.refused}")
    seen = test_set.seen_by(workspace, contest.champion.lineage, part.table)
    compared = test_set.compare(part, ours.predicted, theirs.predicted, seen, contest.gate(rules.CHAMPION))
    return replace(compared, champion=number)


def _slices(contest: Contest, part: TestPart | str, found: Found) -> Any:
    asked = contest.gate(rules.SLICES)
    if isinstance(part, str) or found.predicted is None:
        return dict.fromkeys(asked, found.error or found.refused or str(part))
    return test_set.slices(part, found.predicted, asked)
