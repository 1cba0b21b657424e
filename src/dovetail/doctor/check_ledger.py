"""Whether promotions in git's tags say what git, MLflow and the stored evidence say, and whether a remote has them."""

import shlex
from collections.abc import Iterator

from dovetail.errors import GitFailed
from dovetail.registration import evidence_check
from dovetail.registration.alias_check import delete_command, unfit
from dovetail.repo.workspace import Workspace
from dovetail.tracking.store import Store
from dovetail.values.finding import Finding

_REMOTE_SECONDS = 5
_LISTED = 10  # tags that are named one by one


def unfit_tags(workspace: Workspace, store: Store) -> Iterator[Finding]:
    """Tags that contradict what git holds."""
    models = {event.model for event in (*workspace.ledger.unfit, *workspace.ledger.doubtful)}
    yield from (finding for _, finding in unfit(workspace, store, models))


def other_numbers(workspace: Workspace, store: Store) -> Iterator[Finding]:
    """Tags that give the promoted bytes another number than MLflow: nothing follows the number, people read it."""
    for model in workspace.tree.declared.models:
        numbers = {version.md5: version.number for version in reversed(store.versions(model))}
        current = [event for (name, _), event in workspace.ledger.aliases.items() if event and name == model]
        for event in current:
            number = numbers.get(event.note.md5) if event.note else None
            if event.version and number and event.version != number:
                yield Finding(
                    "warning",
                    f"{event.tag.name}: Dovetail-Version is {event.version}, in MLflow its bytes are version {number}",
                    "the registry was rebuilt, or the message was written by hand; the bytes count, not the number",
                    f"{delete_command(event)} && dovetail promote {model} --version {number} --to {event.alias}",
                )


def changed_evidence(workspace: Workspace, store: Store) -> Iterator[Finding]:
    """Evidence of promotions that is not what their tags say of it, or that was deleted."""
    yield from evidence_check.changed_evidence(workspace, store)


def unpushed_tags(workspace: Workspace) -> Iterator[Finding]:
    """Promotions that no git remote has; where a remote does not answer it is not known."""
    git, ledger = workspace.git, workspace.ledger
    remotes, there = git("remote").split(), set[str]()
    try:
        for remote in remotes if ledger.events else ():
            there |= git.remote_refs(remote, seconds=_REMOTE_SECONDS).keys()
    except GitFailed:
        return
    names = [event.tag.name for event in ledger.events if not event.problem]
    names += sorted({*ledger.registrations, *ledger.deregistrations})
    lacking = [name for name in names if f"refs/tags/{name}" not in there]
    if remotes and lacking:
        remote = "origin" if "origin" in remotes else remotes[0]
        typed = " ".join(f"refs/tags/{name}" for name in lacking)
        more = f" and {len(lacking) - _LISTED} more" if len(lacking) > _LISTED else ""
        yield Finding(
            "warning",
            f"promotion tags that no git remote has: {', '.join(lacking[:_LISTED])}{more}",
            "other clones do not know of these promotions, and this machine alone keeps them",
            f"git push {remote} --tags" if more else f"git push {remote} {shlex.join(typed.split())}",
        )
