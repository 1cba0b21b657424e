"""Let an alias name a version, on evidence: gates, then the ledger in git, then MLflow."""

import hashlib
import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from dovetail.errors import DovetailError, MissingFile, Overtaken, StaleLock, StoreError, UnknownReference, UserError
from dovetail.gates import rules
from dovetail.gates.evidence import Evidence
from dovetail.gates.rules import Verdict
from dovetail.promotion.gather import Contest, gather
from dovetail.registration.alias_check import md5_of
from dovetail.registration.register import RegisterRequest, register
from dovetail.registration.resolve import TrackedModel, commit_of, resolve
from dovetail.repo import ledger
from dovetail.repo.dvc_values import Model
from dovetail.repo.ledger import FORCE, PROMOTE, Ledger, Note
from dovetail.repo.workspace import Workspace, open_workspace
from dovetail.system.locks import write_lock
from dovetail.tracking.connection import Tracking, open_store
from dovetail.tracking.store import Store
from dovetail.values.reference import STAGING, ByAlias, ByVersion


@dataclass(frozen=True, slots=True)
class Wish:
    """What is asked for."""

    model: str
    version: int | None = None
    alias: str = "production"
    reason: str = ""
    force: bool = False
    dry_run: bool = False


@dataclass(frozen=True, slots=True)
class Plan:
    """What is known before anything is done.

    Attributes:
        contest: Who is compared; its commit is the newest that holds the candidate, with the gates that count now.
        home: The commit to tag: one that is tagged for these bytes already, else the same.
        ledger: The state that the verdicts were given on.
        evidence: What is known of the candidate.
        verdicts: What the gates say of it.
    """

    contest: Contest
    home: str | None
    ledger: Ledger
    evidence: Evidence
    verdicts: Sequence[Verdict]

    @property
    def passed(self) -> bool:
        """Whether no gate says no."""
        return all(verdict.passed for verdict in self.verdicts)


def promote(wish: Wish) -> dict[str, Any]:
    """The answer of `dovetail promote`: the verdicts and, if they allow it, the tag; `promoted` says whether.

    The evidence is kept first, then the tag is made, then the alias moves: killed in between, `sync` completes it.

    Raises:
        UserError: when there is no such version, or `force` without a reason.
        Overtaken: when the alias moved while the gates ran; nothing has changed then.
        TagRefused: when git cannot make the tag; nothing has changed then.
        StoreError: when MLflow does not answer; the message says whether the tag is made.
    """
    if wish.force and not wish.reason.strip():
        raise UserError("--force without a reason", f"dovetail promote {wish.model} --force --reason '…'")
    with open_workspace() as workspace:
        workspace.tree.model(wish.model)
        with open_store(workspace.store_root) as store:
            candidate = _candidate(workspace, store, wish)
            plan = _plan(workspace, store, candidate, wish)
            tag = None
            if wish.dry_run or plan.home is None:
                pass
            elif _is_named(plan, wish):
                assert candidate.version is not None
                store.set_alias(wish.model, wish.alias, candidate.version)  # an interruption may have left it behind
            elif plan.passed or wish.force:
                with write_lock(workspace.store_root):
                    tag = _carry_out(workspace, store, plan, plan.home, wish)
    return _answer(plan, wish, tag)


def _candidate(workspace: Workspace, store: Store, wish: Wish) -> TrackedModel:
    """The version asked for, else that of the workspace's model, registered if it is not, else `staging`."""
    if wish.version is not None:
        return resolve(workspace, store, ByVersion(wish.model, wish.version))
    model = workspace.tree.model(wish.model)
    try:
        md5 = workspace.tree.lineage(model).artifact.md5
    except (MissingFile, StaleLock) as error:
        return _staged(workspace, store, model, error)
    found = store.find_version(model.name, md5)
    if found is None and wish.dry_run:
        raise UnknownReference(f"the workspace's {model.name} is no version yet", f"dovetail register {model.name}")
    if found is None:
        made = register(workspace, Tracking(workspace.store_root), RegisterRequest((model.name,)))
    number = found.number if found else made.registrations[0].version
    assert number is not None  # this is no experiment
    return resolve(workspace, store, ByVersion(model.name, number))


def _staged(workspace: Workspace, store: Store, model: Model, why: DovetailError) -> TrackedModel:
    try:
        return resolve(workspace, store, ByAlias(model.name, STAGING))
    except UnknownReference:
        raise why from None


def _plan(workspace: Workspace, store: Store, candidate: TrackedModel, wish: Wish) -> Plan:
    tags = workspace.ledger
    commit = commit_of(workspace, candidate.lineage)
    tree = workspace.at(commit) if commit else workspace.tree
    asked = tree.model(wish.model).gates
    contest = Contest(candidate, commit, asked, _champion(workspace, store, candidate, wish))
    evidence = gather(workspace, store, contest)
    home = (_tagged(workspace, tags, candidate) or commit.sha) if commit else None
    return Plan(contest, home, tags, evidence, rules.evaluate(asked, evidence))


def _champion(workspace: Workspace, store: Store, candidate: TrackedModel, wish: Wish) -> TrackedModel | None:
    """What the candidate would follow: as the ledger says, and only where it says nothing, as MLflow's alias does.

    Raises:
        UnknownReference: when MLflow does not have the version that the ledger names.
    """
    name = (wish.model, wish.alias)
    number = store.aliases(wish.model).get(wish.alias)
    if name in workspace.ledger.aliases:
        event = workspace.ledger.aliases[name]
        version = store.find_version(wish.model, md5_of(workspace, event)) if event else None
        if event and version is None:
            what = f"{event.tag.name} names a version of {wish.model} that MLflow does not have"
            raise UnknownReference(what, "dovetail sync --all")
        number = version.number if version else None
    if number is None or number == candidate.version:
        return None
    return resolve(workspace, store, ByVersion(wish.model, number))


def _tagged(workspace: Workspace, tags: Ledger, candidate: TrackedModel) -> str | None:
    """The commit that is a version already, in the ledger's tags, of the candidate's bytes."""
    for sha in tags.versions.get(candidate.model, {}).values():
        with suppress(DovetailError):  # a commit that holds no such model
            if workspace.bytes_at(candidate.model, sha) == candidate.lineage.artifact.md5:
                return sha
    return None


def _is_named(plan: Plan, wish: Wish) -> bool:
    """Whether the ledger says already what is wished."""
    event = plan.ledger.current(wish.model, wish.alias)
    return event is not None and event.tag.commit == plan.home


def _carry_out(workspace: Workspace, store: Store, plan: Plan, home: str, wish: Wish) -> str:
    candidate, champion = plan.contest.candidate, plan.contest.champion
    assert candidate.version is not None
    before, now = (state.current(wish.model, wish.alias) for state in (plan.ledger, ledger.read(workspace.git.tags())))
    if before != now:
        what = f"@{wish.alias} of {wish.model} moved while the gates ran: {now.tag.name if now else 'taken back'}"
        raise Overtaken(what, f"dovetail promote {wish.model} --version {candidate.version}")
    shown = [{k: v for k, v in verdict.as_json().items() if k in ("name", "passed", "value", "limit")}
             for verdict in plan.verdicts]  # fmt: skip
    text = json.dumps({"evidence": plan.evidence.as_json(), "gates": [v.as_json() for v in plan.verdicts]}, indent=2)
    number = plan.ledger.counters.get(wish.model, 0) + 1
    store.write_text(candidate.run.id, f"promotions/{wish.alias}-{number}.json", text + "\n")
    note = Note(
        kind=PROMOTE if plan.passed else FORCE,
        version=candidate.version,
        before=champion.version if champion else None,
        md5=candidate.lineage.artifact.md5,
        reason=wish.reason,
        evidence=hashlib.sha256((text + "\n").encode()).hexdigest(),
        gates=tuple(shown),
    )
    tag = ledger.write(workspace.git, wish.model, wish.alias, home, note)
    try:
        store.set_alias(wish.model, wish.alias, candidate.version)
    except Exception as error:
        raise StoreError(f"the tag {tag} is made, MLflow's alias stays behind: {error}", "dovetail sync") from error
    return tag


def _answer(plan: Plan, wish: Wish, tag: str | None) -> dict[str, Any]:
    candidate, champion = plan.contest.candidate, plan.contest.champion
    named = _is_named(plan, wish)
    event = plan.ledger.current(wish.model, wish.alias)
    return {
        "model": wish.model,
        "alias": wish.alias,
        "version": candidate.version,
        "from": champion.version if champion else None,
        "to": candidate.version,
        "commit": plan.home,
        "promoted": tag is not None or named,
        "passed": plan.passed,
        "forced": tag is not None and not plan.passed,
        "dry_run": wish.dry_run,
        "already": named,
        "tag": tag or (event.tag.name if named and event else None),
        "gates": [verdict.as_json() for verdict in plan.verdicts],
    }
