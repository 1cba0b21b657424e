"""What git's promotion tags say of each alias, compared with what MLflow's alias names: by content."""

import shlex
from collections.abc import Iterator
from dataclasses import dataclass

from dovetail.errors import DataUnavailable, DovetailError, UnknownModel
from dovetail.repo.ledger import ASSIGN, UNASSIGN, Event, Ledger
from dovetail.repo.workspace import Workspace
from dovetail.tracking.store import Store, Version
from dovetail.values.finding import Finding
from dovetail.values.reference import PRODUCTION


@dataclass(frozen=True, slots=True)
class Disagreement:
    """An alias that names another version in MLflow than in the ledger.

    Attributes:
        actual: The number that MLflow's alias names, if any.
        expected: The version that the ledger names; None where it was taken back or MLflow does not have it.
        event: The last assignment; None where the ledger has none.
        why: What is wrong, in words.
    """

    model: str
    alias: str
    actual: int | None
    expected: Version | None
    event: Event | None
    why: str


def md5_of(workspace: Workspace, event: Event) -> str:
    """The digest of the model that an event of the ledger names.

    Raises:
        DovetailError: when the commit of an assignment made with plain GTO does not hold the model.
    """
    return event.note.md5 if event.note else workspace.bytes_at(event.model, event.tag.commit)


def unfit(workspace: Workspace, store: Store, models: set[str]) -> Iterator[tuple[str, Finding]]:
    """The promotions in git's tags that do not fit what git holds, each with its model; they move nothing."""
    for event in workspace.ledger.unfit:
        is_plain = event.kind == ASSIGN and event.tag.target == "commit" and "Dovetail-" not in event.problem
        if event.model not in models or (is_plain and event.alias not in store.aliases(event.model)):
            continue  # GTO's tag is older than the model's entry in dvc.yaml: there is nothing to follow
        why = f"@{event.alias} of {event.model} does not follow it"
        next_command = write_off_command(event) if is_plain else delete_command(event)
        yield event.model, Finding("error", f"{event.tag.name}: {event.problem}", why, next_command)
    for event in workspace.ledger.doubtful:
        if event.model in models:
            why = "Dovetail goes by the digest, not the number; git does not say which tag is right"
            what = f"{event.tag.name}: {event.doubt}"
            yield event.model, Finding("warning", what, why, f"if it is the wrong one: {delete_command(event)}")


def delete_command(event: Event) -> str:
    """The command that deletes the tag of an event."""
    return f"git tag -d {shlex.quote(event.tag.name)}"


def write_off_command(event: Event) -> str:
    """The command that takes an event back, for every clone."""
    return f"dovetail write-off {event.model} {shlex.quote(event.tag.name)} --reason '…'"


def repair_command(workspace: Workspace, found: Disagreement) -> str:
    """The command after which MLflow's alias and the ledger agree, or another finding says why they cannot."""
    if found.event is None:
        version = f" --version {found.actual}" if found.actual else ""
        return f"dovetail promote {found.model}{version}"
    if found.expected is not None or found.event.kind == UNASSIGN:
        return "dovetail sync"
    return command_for_missing(workspace, found.event)


def command_for_missing(workspace: Workspace, event: Event) -> str:
    """The command for a promotion of which MLflow has no version: make one, or where nobody can, write it off."""
    if workspace.git.commit(event.tag.commit) is None:
        return "git fetch --unshallow --tags, then: dovetail sync --all"
    try:
        return (
            write_off_command(event)
            if is_out_of_reach(workspace, event.model, event.tag.commit)
            else "dovetail sync --all"
        )
    except DataUnavailable:  # a remote that does not answer may have it
        return "dovetail sync --all"


def is_out_of_reach(workspace: Workspace, model: str, commit: str) -> bool:
    """Whether neither git, the cache nor the remote has the model of a commit, or the commit does not say which it is.

    Raises:
        DataUnavailable: when nothing here has it and the remote does not answer.
    """
    try:
        tree = workspace.tree_of(commit)
        ref = tree.lineage(tree.model(model)).kept
    except DovetailError:
        return True
    if workspace.remote.available([ref])[ref.md5] in (["git"], ["git", "remote"]):
        return False
    return bool(workspace.remote.missing_everywhere([ref]))


def disagreements(workspace: Workspace, store: Store, models: set[str]) -> Iterator[Disagreement]:
    """Where MLflow's aliases of the models are not what the ledger says."""
    ledger = workspace.ledger
    for (model, alias), event in ledger.aliases.items():
        if model in models:
            actual = store.aliases(model).get(alias)
            found = _compare(workspace, store, event, actual) if event else _taken_back(ledger, model, alias, actual)
            if found:
                yield found
    for model in models:
        number = store.aliases(model).get(PRODUCTION)
        if number is not None and (model, PRODUCTION) not in ledger.aliases:
            why = f"@{PRODUCTION} names version {number}, but no tag records it: it was moved by hand"
            yield Disagreement(model, PRODUCTION, number, None, None, why)


def _taken_back(ledger: Ledger, model: str, alias: str, actual: int | None) -> Disagreement | None:
    last = ledger.of(model, alias)[-1]
    why = f"@{alias} names version {actual}, but {last.tag.name} withdrew it"
    return None if actual is None else Disagreement(model, alias, actual, None, last, why)


def _compare(workspace: Workspace, store: Store, event: Event, actual: int | None) -> Disagreement | None:
    model, alias = event.model, event.alias
    try:
        expected = store.find_version(model, md5_of(workspace, event))
    except DovetailError as error:
        if isinstance(error, UnknownModel) and actual is None:
            return None  # GTO's tag is older than the model's entry in dvc.yaml: there is nothing to follow
        return Disagreement(model, alias, actual, None, event, f"{event.tag.name}: {error.message}")
    if expected is None:
        why = f"MLflow has no version with the bytes that {event.tag.name} names"
        return Disagreement(model, alias, actual, None, event, why)
    names = f"names version {actual}" if actual else "names nothing"
    why = f"@{alias} {names} in MLflow, {event.tag.name} says version {expected.number}"
    return None if actual == expected.number else Disagreement(model, alias, actual, expected, event, why)
