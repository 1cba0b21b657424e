"""The evidence about a version: where it comes from, how it behaves, how it compares with the champion."""

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dovetail.errors import DovetailError
from dovetail.gates import rules
from dovetail.gates.evidence import Compared, Evidence, TriedPackage
from dovetail.promotion import package, test_set, trial
from dovetail.promotion.provenance import origin
from dovetail.promotion.test_set import TestSet
from dovetail.promotion.trial import PackageTrial, RunningTrial, TrialResult
from dovetail.registration.resolve import TrackedModel
from dovetail.repo.git_values import Commit
from dovetail.repo.workspace import Workspace
from dovetail.tracking.store import Store


@dataclass(frozen=True, slots=True)
class Candidate:
    """A version that may be promoted.

    Attributes:
        subject: The version and its lineage.
        commit: The newest commit that holds it; None where none does.
        gates: The gates that are set there.
        champion: The version that it would replace.
        allowed_later: Names that HEAD allows and the version's own commit does not; `gates` has them.
        is_champion: Whether the alias names it already.
    """

    subject: TrackedModel
    commit: Commit | None
    gates: Mapping[str, Mapping[str, Any]]
    champion: TrackedModel | None
    allowed_later: tuple[str, ...] = ()
    is_champion: bool = False

    def gate(self, kind: str) -> dict[str, Any]:
        """The settings of one kind of gate."""
        return rules.settings(self.gates, kind)


def gather(
    workspace: Workspace, store: Store, candidate: Candidate, known: Callable[[Evidence], None] = lambda _: None
) -> Evidence:
    """Everything that the gates may ask about the candidate; `known` is given what there is of it so far.

    Candidate and champion are tried at the same time, each in a process of its own; git and DVC are asked meanwhile.

    Raises:
        UserError: when a gate has an unknown key.
    """
    with tempfile.TemporaryDirectory(dir=workspace.scratch) as folder:
        return _gather(_Sources(workspace, store, Path(folder)), candidate, known)


def _gather(sources: "_Sources", candidate: Candidate, known: Callable[[Evidence], None]) -> Evidence:
    workspace, store, subject, champion = sources.workspace, sources.store, candidate.subject, candidate.champion
    inputs, _ = store.columns(subject.model, subject.version or 0)
    tests = test_set.find(workspace, subject.lineage, inputs, candidate.gate(rules.CHAMPION)["target"])
    started = _start(sources, candidate, subject, tests)
    champion_started = _start(sources, candidate, champion, tests) if champion else None
    has_signature = bool(inputs) or store.has_signature(subject.model, subject.version or 0)
    evidence = Evidence(subject.run.metrics, has_signature=has_signature)
    known(evidence)
    version = store.version(subject.model, subject.version or 0)
    comes_from = origin(workspace, subject.lineage, candidate.commit, version.reproduced if version else None)
    evidence = replace(evidence, origin=comes_from)
    known(evidence)
    ours = _result(started)
    evidence = replace(
        evidence,
        served=replace(
            started[0],
            refused=ours.refused,
            error=ours.error,
            has_example=ours.has_example,
            missing=ours.missing,
            p99_ms=ours.p99_ms,
            allowed_later=candidate.allowed_later,
            allowed_by=workspace.tree.commit.sha if candidate.allowed_later and workspace.tree.commit else None,
        ),
        slices=_slices(candidate, tests, ours),
    )
    known(evidence)
    return replace(
        evidence,
        compared=_compared(workspace, candidate, tests, ours, _result(champion_started) if champion_started else None),
    )


@dataclass(frozen=True, slots=True)
class _Sources:
    """Where a trial's model comes from; below `folder` a model that is a folder is written."""

    workspace: Workspace
    store: Store
    folder: Path


def _start(
    sources: _Sources, candidate: Candidate, subject: TrackedModel, tests: TestSet | str
) -> tuple[TriedPackage, RunningTrial | None]:
    """What is known of the artifact without reading it; its trial is started only if the digest is the right one."""
    store = sources.store
    artifact = subject.lineage.artifact
    served = TriedPackage(artifact.md5, store.stored_md5(subject.run.id, artifact), artifact.size or 0)
    if served.stored_md5 != artifact.md5:
        return replace(served, error=f"the registry holds md5 {served.stored_md5}, not {artifact.md5}"), None
    served = package.check(sources.workspace, store, subject, served)
    if not served.may_be_read:
        return replace(served, error="the registry's package is not the one that was registered"), None
    try:
        file = sources.workspace.storage.readable(artifact, sources.folder)
    except DovetailError as error:
        return replace(served, error=error.message), None
    return served, trial.start(
        PackageTrial(
            uri=store.uri,
            source=f"models:/{subject.model}/{subject.version}",
            file=str(file),
            allow=tuple(candidate.gate(rules.PICKLE)["allow"]),
            table=tests.table if isinstance(tests, TestSet) else None,
            timed=subject is candidate.subject,
            missing=candidate.gate(rules.SERVING)["missing"],
        )
    )


def _result(started: tuple[TriedPackage, RunningTrial | None]) -> TrialResult:
    served, running = started
    return running.result() if running else TrialResult(error=served.error)


def _compared(
    workspace: Workspace, candidate: Candidate, tests: TestSet | str, ours: TrialResult, theirs: TrialResult | None
) -> Compared:
    if candidate.champion is None or theirs is None:
        return Compared(None, is_champion=candidate.is_champion)
    number = candidate.champion.version
    if isinstance(tests, str):
        return Compared(number, unknown=tests)
    for result, name in ((ours, "the candidate"), (theirs, "the champion")):
        if result.predicted is None:
            return Compared(number, error=f"{name} does not predict: {result.error or result.refused}")
    seen = test_set.seen_by(workspace, candidate.champion.lineage, tests.table)
    compared = test_set.compare(tests, ours.predicted, theirs.predicted, seen, candidate.gate(rules.CHAMPION))
    return replace(compared, champion=number)


def _slices(candidate: Candidate, tests: TestSet | str, result: TrialResult) -> Any:
    asked = candidate.gate(rules.SLICES)
    if isinstance(tests, str) or result.predicted is None:
        return dict.fromkeys(asked, result.error or result.refused or str(tests))
    return test_set.slices(tests, result.predicted, asked)
