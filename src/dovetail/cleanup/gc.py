"""One clean-up across DVC's cache, its remote and MLflow's trash: planned, shown, and deleted when asked to."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from dovetail.cleanup import risks
from dovetail.cleanup.references import git_refs
from dovetail.cleanup.survey import Survey, survey
from dovetail.cleanup.unreferenced import Unreferenced, of_leftovers, of_objects, of_trash
from dovetail.errors import UserError
from dovetail.repo.objects import Objects
from dovetail.repo.workspace import Workspace
from dovetail.system.locks import REPRO, RETRAIN, exclusive, write_lock
from dovetail.tracking.connection import Tracking
from dovetail.tracking.store import Store
from dovetail.tracking.trash import TrashItem
from dovetail.values.answer import Answer
from dovetail.values.finding import Finding


@dataclass(frozen=True, slots=True)
class GcRequest:
    """Where to look, and whether to delete.

    Attributes:
        force: Delete what the plan shows.
        cloud: Look at DVC's default remote, too.
        remote: Look at the remote of this name, too.
        shared_cache: No other repository uses the cache outside of this one.
    """

    force: bool = False
    cloud: bool = False
    remote: str | None = None
    shared_cache: bool = False


@dataclass(frozen=True, slots=True)
class KeptObjects:
    """How many objects something needs, and their bytes; what several need is counted for each."""

    what: str
    objects: int
    size: int

    def as_json(self) -> dict[str, Any]:
        """The entry of `keep` in the answer of `dovetail gc --json`."""
        return {"what": self.what, "objects": self.objects, "size": self.size}


@dataclass(frozen=True, slots=True, repr=False)
class GcAnswer(Answer):
    """What is kept for whom, what nothing needs, and what to know before that is deleted.

    Attributes:
        deleted: Whether it was deleted.
        looked_at: Where objects were looked for.
        warnings: One of severity `error` blocks the clean-up.
    """

    keep: tuple[KeptObjects, ...]
    delete: tuple[Unreferenced, ...]
    deleted: bool
    looked_at: tuple[str, ...]
    warnings: tuple[Finding, ...]

    @property
    def size(self) -> int:
        """The bytes of what nothing needs."""
        return sum(entry.size for entry in self.delete)

    def __repr__(self) -> str:
        done = "deleted" if self.deleted else "to delete"
        return f"<GcAnswer {len(self.delete)} {done} ({self.size} bytes), {len(self.warnings)} warnings>"

    def as_json(self) -> dict[str, Any]:
        """The answer of `dovetail gc --json`."""
        return {
            "keep": [entry.as_json() for entry in self.keep],
            "delete": [entry.as_json() for entry in self.delete],
            "bytes": self.size,
            "deleted": self.deleted,
            "looked_at": list(self.looked_at),
            "warnings": [risks.as_json(warning) for warning in self.warnings],
        }


@dataclass(frozen=True, slots=True)
class _Plan:
    keep: Sequence[KeptObjects]
    objects: Mapping[Objects, Sequence[Unreferenced]]  # with what is no object, only half of one
    trash: Mapping[TrashItem, Unreferenced]
    warnings: Sequence[Finding]


def gc(
    workspace: Workspace,
    tracking: Tracking,
    request: GcRequest = GcRequest(),
    *,
    tell: Callable[[str], None] = lambda _: None,
) -> GcAnswer:
    """What nothing needs any more; with `force` it is deleted. `tell` hears what is being done.

    Interrupted, nothing that is needed is lost, and running it again goes on.

    Raises:
        UserError: with `force`, when something has to be settled first; nothing is deleted then.
        Busy: with `force`, when another command of DVC or Dovetail is at work.
        DataUnavailable: when the cache or the remote does not answer.
        StoreError: when MLflow does not answer: what its versions need is not known then.
    """
    with ExitStack() as stack:
        if request.force:
            for name, root in ((REPRO, workspace.root), (RETRAIN, tracking.root)):  # what is made is in no dvc.lock yet
                stack.enter_context(exclusive(root, name, 0))
            stack.enter_context(write_lock(tracking.root))
            stack.enter_context(workspace.locked())
        tell("asking MLflow")
        store = stack.enter_context(tracking.store()) if tracking.exists else None
        tell("looking at what branches, tags, experiments, versions and aliases need, and at what is there")
        before = git_refs(workspace.git) if request.force else []
        plan = _plan(workspace, store, request)
        while request.force and before != (before := git_refs(workspace.git)):  # a tag was made or fetched meanwhile
            plan = _plan(workspace, store, request)
        if request.force:
            tell(f"deleting {sum(map(len, plan.objects.values())) + len(plan.trash)} objects")
            _carry_out(plan, store)
    return GcAnswer(
        keep=tuple(plan.keep),
        delete=(*(entry for entries in plan.objects.values() for entry in entries), *plan.trash.values()),
        deleted=request.force,
        looked_at=(*(place.name for place in plan.objects), "mlflow"),
        warnings=tuple(plan.warnings),
    )


def _plan(workspace: Workspace, store: Store | None, request: GcRequest) -> _Plan:
    places = [workspace.storage.cache]
    if request.cloud or request.remote:
        remote = workspace.remote.objects(request.remote)
        if remote is None:
            raise UserError("DVC has no default remote", "dvc remote list, then: dovetail gc --remote NAME")
        places.append(remote)
    found = survey(workspace, store, places, consent=request.shared_cache)
    trash = {item: of_trash(item) for item in found.trash if not (item.versions or item.is_outside)}
    objects = {place: [*gone, *of_leftovers(place)] for place, gone in of_objects(workspace, found).items()}
    return _Plan(_kept(found), objects, trash, found.warnings)


def _kept(found: Survey) -> list[KeptObjects]:
    size = {md5: size for sizes in found.sizes.values() for md5, size in sizes.items()}
    present = {what: [md5 for md5 in needed if md5 in size] for what, needed in found.needed.items()}
    return [KeptObjects(what, len(own), sum(size[md5] for md5 in own)) for what, own in present.items() if own]


def _carry_out(plan: _Plan, store: Store | None) -> None:
    for warning in plan.warnings:
        if warning.severity == "error":
            raise UserError(f"nothing was deleted: {warning.what}: {warning.why}", warning.next)
    for place, entries in plan.objects.items():
        place.delete([entry.md5 for entry in entries if entry.md5])
        place.delete_leftovers([entry.what for entry in entries if not entry.md5])
    for item in plan.trash if store else ():
        store.delete_bytes(item)  # type: ignore[union-attr]  # only a store has a trash
