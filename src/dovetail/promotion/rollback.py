"""One step back: a tag that names what the alias named before, then the alias. It works with MLflow gone."""

from dataclasses import dataclass, replace
from typing import Any

from dovetail.errors import DovetailError, NothingBehind
from dovetail.promotion.known_names import check_named
from dovetail.registration.alias_check import md5_of
from dovetail.registration.describe import update_description
from dovetail.repo.ledger import ROLLBACK, Note
from dovetail.repo.ledger_write import write
from dovetail.repo.workspace import Workspace
from dovetail.system.locks import write_lock
from dovetail.tracking.connection import Tracking
from dovetail.values.answer import Answer
from dovetail.values.reference import PRODUCTION
from dovetail.values.registered_name import registered_name


@dataclass(frozen=True, slots=True)
class RollbackRequest:
    """Which alias to move back; `reason` is kept in the tag."""

    model: str
    alias: str = PRODUCTION
    reason: str = ""


@dataclass(frozen=True, slots=True, repr=False)
class RollbackAnswer(Answer):
    """What came of a rollback.

    Attributes:
        version: MLflow's number of the version that the alias names now; None where neither MLflow nor the tag has it.
        before: That of the version which it named until now, likewise.
        tag: The tag that was made.
        alias_moved: Whether MLflow's alias names it.
        problem: Why it does not, or why MLflow's descriptions do not say so; None where all is well.
    """

    model: str
    alias: str
    version: int | None
    before: int | None
    tag: str
    alias_moved: bool
    problem: str | None

    def __repr__(self) -> str:
        outcome = "rolled back" if self.alias_moved else "rolled back in git, not in MLflow"
        return f"<RollbackAnswer {self.model}/{self.version} → {self.alias}: {outcome}>"

    def as_json(self) -> dict[str, Any]:
        """The answer of `dovetail rollback --json`."""
        return {
            "model": self.model,
            "alias": self.alias,
            "version": self.version,
            "from": self.before,
            "to": self.version,
            "promoted": True,
            "tag": self.tag,
            "alias_moved": self.alias_moved,
            "problem": self.problem,
            "next": "dovetail sync" if self.problem else None,
        }


def rollback(workspace: Workspace, tracking: Tracking, request: RollbackRequest) -> RollbackAnswer:
    """Let the alias name what it named before its last promotion.

    The tag is the truth; where MLflow does not answer, `problem` says so and `sync` moves the alias later.

    Raises:
        NothingBehind: when there is no step to go back.
        TagExists, TagRefused: when the tag cannot be made; nothing has changed then.
    """
    model, alias = registered_name(request.model), request.alias
    with write_lock(tracking.root):
        ledger = workspace.read_ledger()  # anew, under the lock
        current, previous = ledger.current(model, alias), ledger.previous(model, alias)
        if current is None:
            check_named(workspace, ledger, model, alias)
        if previous is None or current is None:
            named = f"only {current.tag.name} ever named it" if current else "no tag names it"
            raise NothingBehind(
                f"{model}@{alias} has no earlier version to roll back to: {named}", f"dovetail history {model}"
            )
        md5 = md5_of(workspace, previous)
        artifact = workspace.artifact_at(model, previous.tag.commit)
        note = replace(  # what the version consists of stays what it was; gates and evidence are those of its promotion
            previous.note or Note(ROLLBACK, previous.version, current.version, md5),
            kind=ROLLBACK, version=previous.version, before=current.version, reason=request.reason, evidence="",
            gates=(),
        )  # fmt: skip
        tag = write(workspace.git, ledger, (artifact, alias), previous.tag.commit, note)
        number, problem = _move_alias(tracking, model, alias, md5)
        if number is not None:
            problem = _describe(workspace, tracking, model, (number, current.version))
    return RollbackAnswer(model, alias, number or previous.version, current.version, tag, number is not None, problem)


def _describe(workspace: Workspace, tracking: Tracking, model: str, versions: tuple[int | None, ...]) -> str | None:
    """Tell in MLflow what became of the versions; returns why not."""
    try:
        with tracking.store() as store:
            for one in versions:
                update_description(workspace, store, model, one)
    except DovetailError as error:
        return error.message
    return None


def _move_alias(tracking: Tracking, model: str, alias: str, md5: str) -> tuple[int | None, str | None]:
    """Move the alias in MLflow. Returns the version's number, or why the alias was not moved."""
    if not tracking.exists:
        return None, "MLflow has no store yet"
    try:
        with tracking.store() as store:
            version = store.find_version(model, md5)
            if version is None:
                return None, f"MLflow has no version of {model} with md5 {md5}"
            store.set_alias(model, alias, version.number)
            return version.number, None
    except DovetailError as error:
        return None, error.message
