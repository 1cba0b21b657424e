"""Take back what tags say of a model at a commit whose bytes nobody has: by GTO's own tags, for every clone."""

import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from time import time as now
from typing import Any

from dovetail.errors import DovetailError, UserError
from dovetail.promotion.known_names import check_named
from dovetail.registration.alias_check import is_out_of_reach, md5_of
from dovetail.repo.ledger import Event, Ledger
from dovetail.repo.tag_names import parse_name
from dovetail.repo.workspace import Workspace
from dovetail.system.locks import write_lock
from dovetail.tracking.connection import Tracking
from dovetail.values.answer import Answer
from dovetail.values.reference import PRODUCTION
from dovetail.values.registered_name import registered_name


@dataclass(frozen=True, slots=True)
class WriteOffRequest:
    """Which commit of `model` to write off: `rev`, a tag for example; else the one that production names."""

    model: str
    rev: str | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True, repr=False)
class WriteOffAnswer(Answer):
    """What was written off.

    Attributes:
        tags: The tags that were made; those that they take back stay where they are.
        aliases: The number of the version that each alias names in MLflow now; None where it names none.
        problem: Why aliases were not moved in MLflow; None where they were.
    """

    model: str
    commit: str
    tags: tuple[str, ...]
    aliases: Mapping[str, int | None] = field(default_factory=dict)
    problem: str | None = None

    def __repr__(self) -> str:
        return f"<WriteOffAnswer {self.model} at {self.commit[:8]}: {', '.join(self.tags)}>"

    def as_json(self) -> dict[str, Any]:
        """The answer of `dovetail write-off --json`."""
        return {
            "model": self.model,
            "commit": self.commit,
            "tags": list(self.tags),
            "aliases": dict(self.aliases),
            "problem": self.problem,
            "next": "dovetail sync" if self.problem else None,
        }


def write_off(workspace: Workspace, tracking: Tracking, request: WriteOffRequest) -> WriteOffAnswer:
    """Take back the promotions and versions that git's tags tell of a model at one commit, where its bytes are lost.

    Each alias then names what it named before, if anything.

    Raises:
        UserError: without a reason, where no tag names the model there, and where its bytes are still available.
        DataUnavailable: when nothing here has them and the remote does not answer.
        TagExists, TagRefused: when a tag cannot be made.
    """
    request = replace(request, model=registered_name(request.model))
    model = request.model
    if not request.reason.strip():
        typed = shlex.join(filter(None, (model, request.rev)))
        raise UserError("write-off without a reason", f"dovetail write-off {typed} --reason '…'")
    with write_lock(tracking.root):
        ledger = workspace.read_ledger()
        commit = _commit(workspace, ledger, request)
        events = ledger.active_events(model, commit)
        versions = [
            name for name in sorted(ledger.registrations) if _is_version(workspace, ledger, name, model, commit)
        ]
        if not events and not versions:
            what = f"no valid tag names {model} at commit {commit[:8]}"
            raise UserError(what, f"dovetail history {model}")
        _check_lost(workspace, tracking, model, commit, events)
        taken = [
            *dict.fromkeys(f"{event.tag.name.rpartition('#')[0]}!" for event in events),
            *(f"{v}!" for v in versions),
        ]
        names = [f"{name}#{ledger.counters.get(model, 0) + count}" for count, name in enumerate(taken, 1)]
        time = max(int(now()), max((event.time for event in ledger.all_events(model)), default=0) + 1)
        for name in names:
            message = f"Write off {name.partition('!')[0]}: {' '.join(request.reason.split())}\n"
            workspace.git.tag(name, commit, message, time)
        aliases, problem = _follow(workspace, tracking, model, {event.alias for event in events})
    return WriteOffAnswer(model, commit, tuple(names), aliases, problem)


def _commit(workspace: Workspace, ledger: Ledger, request: WriteOffRequest) -> str:
    if request.rev is None:
        event = ledger.current(request.model, PRODUCTION)
        if event is None:
            check_named(workspace, ledger, request.model, PRODUCTION)
            what = f"no tag says what {request.model}@{PRODUCTION} names, and no other commit is given"
            raise UserError(what, f"dovetail history {request.model}")
        return event.tag.commit
    commit = workspace.git.commit(request.rev)
    if commit is None:
        raise workspace.unknown_revision(request.rev)
    return commit.sha


def _is_version(workspace: Workspace, ledger: Ledger, name: str, model: str, commit: str) -> bool:
    """Whether the tag `name` says that the commit is a version of the model."""
    said = parse_name(name, workspace.git.prefix)
    return bool(said and said.model == model and ledger.versions[model].get(said.semver or "") == commit)


def _check_lost(workspace: Workspace, tracking: Tracking, model: str, commit: str, events: Iterable[Event]) -> None:
    """Refuse what can still be served or made again.

    Raises:
        UserError: naming where the bytes are.
        DataUnavailable: when that cannot be known.
    """
    fitting = [event for event in events if not event.problem]
    digests = {md5_of(workspace, event) for event in fitting}
    if tracking.exists and digests:
        with tracking.reading() as store:
            found = next(filter(None, (store.find_version(model, md5) for md5 in digests)), None)
        if found:
            raise UserError(f"MLflow has {model} of commit {commit[:8]}: it is version {found.number}",
                            f"dovetail history {model}")  # fmt: skip
    if not is_out_of_reach(workspace, model, commit):
        raise UserError(f"the bytes of {model} at commit {commit[:8]} are still available", "dovetail sync --all")


def _follow(
    workspace: Workspace, tracking: Tracking, model: str, aliases: Iterable[str]
) -> tuple[dict[str, int | None], str | None]:
    """Let MLflow's aliases name what git's tags say now. Returns their numbers, and why one was not moved."""
    if not tracking.exists:
        return {}, None
    ledger, moved, problem = workspace.read_ledger(), dict[str, int | None](), None
    try:
        with tracking.store() as store:
            for alias in sorted(aliases):
                event = ledger.current(model, alias)
                version = store.find_version(model, md5_of(workspace, event)) if event else None
                if version:
                    store.set_alias(model, alias, version.number)
                elif event:
                    problem = f"MLflow has no version with the bytes that {event.tag.name} names"
                elif alias in store.aliases(model):
                    store.delete_alias(model, alias)
                moved[alias] = version.number if version else None
    except DovetailError as error:
        problem = error.message
    return moved, problem
