"""Let an alias name a version if the gates allow it: evidence, then the tag in git, then MLflow's alias."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from dovetail.errors import DovetailError, Overtaken, StoreError, UserError
from dovetail.gates import rules
from dovetail.gates.evidence import Evidence
from dovetail.gates.gate_verdict import Verdict
from dovetail.promotion import allowed_later
from dovetail.promotion.choice import champion_number, choose
from dovetail.promotion.gather import Candidate, gather
from dovetail.promotion.known_names import check_alias
from dovetail.registration.describe import update_description
from dovetail.registration.resolve import TrackedModel, commit_of, resolve
from dovetail.repo import ledger_write
from dovetail.repo.ledger import FORCE, PROMOTE, Ledger, Note
from dovetail.repo.workspace import Workspace
from dovetail.system.locks import write_lock
from dovetail.tracking.connection import Tracking
from dovetail.tracking.store import Store
from dovetail.values.answer import Answer
from dovetail.values.reference import PRODUCTION, ByVersion
from dovetail.values.registered_name import registered_name


@dataclass(frozen=True, slots=True)
class PromoteRequest:
    """Which version `alias` is to name: `version`, else that of the workspace's model, else `staging`.

    `reason` is kept in the tag. `force` promotes against the gates and needs a reason; `dry_run` only runs the gates.
    `new_alias` takes an alias that no model ever had.
    """

    model: str
    version: int | None = None
    alias: str = PRODUCTION
    reason: str = ""
    force: bool = False
    dry_run: bool = False
    new_alias: bool = False


@dataclass(frozen=True, slots=True, repr=False)
class PromoteAnswer(Answer):
    """What came of a promotion.

    Attributes:
        version: The candidate; `before` is the version that the alias named, if it was another.
        commit: The commit that the tag names; None where no commit holds the candidate.
        promoted: Whether the alias names the candidate now; `already` if it did before.
        passed: Whether every gate passed; `forced` if it was promoted although one did not.
        tag: The tag that says so.
        gates: The verdict of each gate.
        chosen: Why it was this version: it was asked for, is the workspace's, or is what `staging` names.
    """

    model: str
    alias: str
    version: int | None
    before: int | None
    commit: str | None
    promoted: bool
    passed: bool
    forced: bool
    dry_run: bool
    already: bool
    tag: str | None
    gates: tuple[Verdict, ...]
    chosen: str = ""

    def __repr__(self) -> str:
        outcome = "promoted" if self.promoted else "not changed" if self.passed else "refused"
        return f"<PromoteAnswer {self.model}/{self.version} → {self.alias}: {outcome}>"

    def as_json(self) -> dict[str, Any]:
        """The answer of `dovetail promote --json`."""
        return {
            "model": self.model,
            "alias": self.alias,
            "version": self.version,
            "chosen": self.chosen,
            "from": self.before,
            "to": self.version,
            "commit": self.commit,
            "promoted": self.promoted,
            "passed": self.passed,
            "forced": self.forced,
            "dry_run": self.dry_run,
            "already": self.already,
            "tag": self.tag,
            "gates": [verdict.as_json() for verdict in self.gates],
        }


@dataclass(frozen=True, slots=True)
class Plan:
    """What is known before anything is changed.

    Attributes:
        candidate: The version, with the newest commit that holds it, the gates there and the champion.
        commit: The sha to tag: that of a commit which is tagged for these bytes already, else the candidate's.
        ledger: The state of the ledger that the verdicts were given on.
        evidence: What is known of the candidate.
        verdicts: What the gates say of it.
    """

    candidate: Candidate
    commit: str | None
    ledger: Ledger
    evidence: Evidence
    verdicts: Sequence[Verdict]

    @property
    def passed(self) -> bool:
        """Whether every gate passed."""
        return all(verdict.passed for verdict in self.verdicts)

    @property
    def package(self) -> str | None:
        """The digest of the package that the gates were run on."""
        return self.evidence.served.stored_package if self.evidence.served else None


def promote(
    workspace: Workspace,
    tracking: Tracking,
    request: PromoteRequest,
    *,
    decided: Callable[[Verdict], None] = lambda _: None,
) -> PromoteAnswer:
    """Run the gates on a version and, if they pass or `force` is set, let the alias name it.

    `decided` is given the verdict of each gate as soon as there is one.

    The evidence is stored first, then the tag is made, then the alias moves: after a kill in between, `sync` completes
    the promotion. A model of the workspace that is not registered yet is registered first.

    Raises:
        UnknownAlias: when no model ever had the alias, and it is not said to be a new one.
        UserError: when there is no such version, `force` is set without a reason, or git does not know who it is.
        StaleLock: when no version is named and the workspace is not what dvc.lock records.
        Overtaken: when the alias moved while the gates ran; nothing has changed then.
        TagRefused: when git cannot make the tag; nothing has changed then.
        StoreError: when MLflow does not answer; the message says whether the tag is made.
    """
    request = replace(request, model=registered_name(request.model))
    if request.force and not request.reason.strip():
        raise UserError("--force without a reason", f"dovetail promote {request.model} --force --reason '…'")
    workspace.tree.model(request.model)
    if not request.dry_run:
        workspace.git.identity()  # who makes the tag, asked before the gates take their time
    with tracking.store() as store:
        if not request.new_alias:
            check_alias(workspace, store, request.model, request.alias)
        chosen = choose(workspace, tracking, store, request.model, request.version, dry_run=request.dry_run)
        plan = _plan(workspace, store, chosen.version, request, decided)
        tag, already = None, _is_named(workspace, plan, request)
        if request.dry_run or plan.commit is None:
            pass
        elif already:
            assert chosen.version.version is not None
            store.set_alias(
                request.model, request.alias, chosen.version.version
            )  # an interruption may have left it behind
        elif plan.passed or request.force:
            with write_lock(tracking.root):
                tag = _carry_out(workspace, store, plan, plan.commit, request)
    return _answer(plan, request, tag, chosen.why, already=already)


def _plan(
    workspace: Workspace,
    store: Store,
    version: TrackedModel,
    request: PromoteRequest,
    decided: Callable[[Verdict], None],
) -> Plan:
    tags = workspace.ledger
    commit = commit_of(workspace, version.lineage)
    tree = workspace.at(commit) if commit else workspace.tree
    gates = tree.model(request.model).gates
    gates, later = allowed_later.with_later_names(workspace, request.model, gates) if commit else (gates, ())
    number = champion_number(workspace, store, request.model, request.alias)
    replaced = number not in (None, version.version)
    champion = resolve(workspace, store, ByVersion(request.model, number)) if number and replaced else None
    candidate = Candidate(version, commit, gates, champion, later, is_champion=number == version.version)
    told: set[str] = set()

    def known(evidence: Evidence) -> None:
        for verdict in rules.evaluate(gates, evidence):
            if verdict.name not in told:
                told.add(verdict.name)
                decided(verdict)

    evidence = gather(workspace, store, candidate, known)
    known(evidence)
    sha = (_tagged(workspace, tags, version) or commit.sha) if commit else None
    return Plan(candidate, sha, tags, evidence, rules.evaluate(gates, evidence))


def _tagged(workspace: Workspace, tags: Ledger, candidate: TrackedModel) -> str | None:
    """The commit that the ledger's tags already call a version and that holds the candidate's bytes."""
    for sha in tags.versions.get(candidate.model, {}).values():
        with suppress(DovetailError):  # a commit that holds no such model
            if workspace.bytes_at(candidate.model, sha) == candidate.lineage.artifact.md5:
                return sha
    return None


def _is_named(workspace: Workspace, plan: Plan, request: PromoteRequest) -> bool:
    """Whether the ledger says already what is asked for, in a tag that DVC finds."""
    event = plan.ledger.current(request.model, request.alias)
    if event is None or event.tag.commit != plan.commit:
        return False
    if event.tag.name.partition("#")[0] != workspace.artifact_at(request.model, plan.commit):
        return False
    noted = event.note.package if event.note else ""
    return noted in ("", plan.package) or not (plan.passed or request.force)


def _carry_out(workspace: Workspace, store: Store, plan: Plan, commit: str, request: PromoteRequest) -> str:
    """Store the evidence, make the tag, move the alias. Returns the tag."""
    version, champion = plan.candidate.subject, plan.candidate.champion
    assert version.version is not None
    tags = workspace.read_ledger()
    before, now = (state.current(request.model, request.alias) for state in (plan.ledger, tags))
    if (before and before.tag) != (now and now.tag):
        moved = now.tag.name if now else "unassigned"
        raise Overtaken(
            f"@{request.alias} of {request.model} moved while the gates ran: {moved}",
            f"dovetail promote {request.model} --version {version.version}",
        )
    text = json.dumps({"evidence": plan.evidence.as_json(), "gates": [v.as_json() for v in plan.verdicts]}, indent=2)
    registered = store.version(request.model, version.version)
    package = plan.package
    if registered and plan.candidate.allowed_later:
        package = allowed_later.let_loader_allow(workspace, store, registered, plan.candidate)
    artifact = workspace.artifact_at(request.model, commit)
    number = plan.ledger.counters.get(request.model, 0) + 1
    store.write_text(version.run.id, f"promotions/{request.alias}-{number}.json", text + "\n")
    note = Note(
        kind=PROMOTE if plan.passed else FORCE,
        version=version.version,
        before=champion.version if champion else None,
        md5=version.lineage.artifact.md5,
        reason=request.reason,
        evidence=hashlib.sha256((text + "\n").encode()).hexdigest(),
        gates=tuple(_in_tag(verdict) for verdict in plan.verdicts),
        package=package or "",
        requirements=tuple(store.requirements_of(registered)) if registered and package else (),
        allow=plan.candidate.allowed_later,
        value=(registered.value if registered else None) or "",
    )
    made = registered.created if registered else 0
    tag = ledger_write.write(workspace.git, tags, (artifact, request.alias), commit, note, made=made)
    try:
        store.set_alias(request.model, request.alias, version.version)
    except Exception as error:
        raise StoreError(f"the tag {tag} is made, MLflow's alias was not moved: {error}", "dovetail sync") from error
    try:
        update_description(workspace, store, request.model, version.version)
    except Exception as error:
        what = f"the tag {tag} is made and the alias moved, MLflow's description was not written: {error}"
        raise StoreError(what, "dovetail sync") from error
    return tag


def _in_tag(verdict: Verdict) -> Mapping[str, Any]:
    """What a tag keeps of a verdict; the whole of it is stored with the evidence."""
    return {key: value for key, value in verdict.as_json().items() if key in ("name", "passed", "value", "limit")}


def _answer(plan: Plan, request: PromoteRequest, tag: str | None, chosen: str, *, already: bool) -> PromoteAnswer:
    champion = plan.candidate.champion
    event = plan.ledger.current(request.model, request.alias)
    return PromoteAnswer(
        model=request.model,
        alias=request.alias,
        version=plan.candidate.subject.version,
        before=champion.version if champion else None,
        commit=plan.commit,
        promoted=tag is not None or already,
        passed=plan.passed,
        forced=tag is not None and not plan.passed,
        dry_run=request.dry_run,
        already=already,
        tag=tag or (event.tag.name if already and event else None),
        gates=tuple(plan.verdicts),
        chosen=chosen,
    )
