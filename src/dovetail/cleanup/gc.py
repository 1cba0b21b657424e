"""One clean-up across DVC's cache, its remote and MLflow's trash: planned, shown, and deleted when asked to."""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from dovetail.cleanup.references import roots
from dovetail.cleanup.risks import Warned
from dovetail.cleanup.survey import Survey, survey
from dovetail.cleanup.unreferenced import Doomed, of_objects, of_trash
from dovetail.errors import UserError
from dovetail.repo.objects import Objects
from dovetail.repo.workspace import Workspace, open_workspace
from dovetail.system.locks import write_lock
from dovetail.tracking.connection import has_store, open_store
from dovetail.tracking.store import Store
from dovetail.tracking.trash import Discarded


@dataclass(frozen=True, slots=True)
class Wish:
    """What is asked for; `cloud`: DVC's default remote too, `remote`: the one of that name too."""

    force: bool = False
    cloud: bool = False
    remote: str | None = None
    shared_cache: bool = False


@dataclass(frozen=True, slots=True)
class Plan:
    """What is kept for whom, what nothing needs, and what to know before that goes."""

    keep: Sequence[Mapping[str, Any]]
    objects: Mapping[Objects, Sequence[Doomed]]
    trash: Mapping[Discarded, Doomed]
    warnings: Sequence[Warned]

    def as_json(self, *, deleted: bool) -> dict[str, Any]:
        """The answer of `dovetail gc --json`."""
        doomed = [*(row for rows in self.objects.values() for row in rows), *self.trash.values()]
        return {
            "keep": list(self.keep),
            "delete": [row.as_json() for row in doomed],
            "bytes": sum(row.size for row in doomed),
            "deleted": deleted,
            "looked_at": [*(place.name for place in self.objects), "mlflow"],
            "warnings": [warned.as_json() for warned in self.warnings],
        }


def gc(wish: Wish) -> dict[str, Any]:
    """The answer of `dovetail gc`: what nothing needs any more; with `force` it is deleted.

    Killed on the way, nothing that is needed is gone, and the same again goes on.

    Raises:
        UserError: with `force`, when something has to be settled first; nothing is deleted then.
        Busy: with `force`, when another command of DVC or Dovetail is at work.
        DataUnavailable: when the cache or the remote does not answer.
        StoreError: when MLflow does not answer: what its versions need is not known then.
    """
    with open_workspace() as workspace, ExitStack() as stack:
        if wish.force:
            stack.enter_context(write_lock(workspace.store_root))
            stack.enter_context(workspace.locked())
        root = workspace.store_root
        store = stack.enter_context(open_store(root)) if has_store(root) else None
        before = roots(workspace.git)
        plan = _plan(workspace, store, wish)
        while wish.force and before != (before := roots(workspace.git)):  # somebody made or fetched a tag meanwhile
            plan = _plan(workspace, store, wish)
        if wish.force:
            _carry_out(plan, store)
    return plan.as_json(deleted=wish.force)


def _plan(workspace: Workspace, store: Store | None, wish: Wish) -> Plan:
    places = [workspace.cache]
    if wish.cloud or wish.remote:
        remote = workspace.remote(wish.remote)
        if remote is None:
            raise UserError("DVC has no default remote", "dvc remote list, then: dovetail gc --remote NAME")
        places.append(remote)
    found = survey(workspace, store, places, consent=wish.shared_cache)
    trash = {item: of_trash(item) for item in found.trash if not item.versions}
    return Plan(_kept(found), of_objects(workspace, found), trash, found.warnings)


def _kept(found: Survey) -> list[dict[str, Any]]:
    """Who needs how much; what several need is counted for each."""
    size = {md5: size for sizes in found.sizes.values() for md5, size in sizes.items()}
    present = {what: [md5 for md5 in needed if md5 in size] for what, needed in found.needed.items()}
    return [
        {"what": what, "objects": len(mine), "size": sum(size[md5] for md5 in mine)}
        for what, mine in present.items()
        if mine
    ]


def _carry_out(plan: Plan, store: Store | None) -> None:
    for warned in plan.warnings:
        if warned.blocks:
            raise UserError(f"nothing was deleted: {warned.what}: {warned.why}", warned.next)
    for place, rows in plan.objects.items():
        place.delete([row.md5 for row in rows if row.md5])
    for item in plan.trash if store else ():
        store.empty(item)  # type: ignore[union-attr]  # only a store has a trash
