"""Whether the version that is to be rebuilt is the one that git's tag names: MLflow alone is not asked."""

from dovetail.registration.resolve import TrackedModel
from dovetail.repo.binding import VersionInMlflow, binding
from dovetail.repo.workspace import Workspace
from dovetail.tracking.store import Store
from dovetail.values.reference import PRODUCTION, ByAlias, Reference


def check_ledger(workspace: Workspace, store: Store, reference: Reference, named: TrackedModel) -> None:
    """Compare the digests that MLflow shows of the version, in its tag and its run, with what git's tag says.

    Raises:
        Untrusted: when it is another one.
    """
    version = store.version(named.model, named.version) if named.version else None
    if version is None or version.md5 is None:
        return
    alias = None
    if isinstance(reference, ByAlias):  # a model alone means its production, where it has one
        alias = reference.alias or (PRODUCTION if workspace.ledger.of(named.model, PRODUCTION) else None)
    for md5 in (version.md5, named.lineage.artifact.md5):
        shown = VersionInMlflow(named.model, alias, version.number, md5)
        said = binding(
            workspace.ledger, shown, bytes_of=lambda event: workspace.bytes_at(event.model, event.tag.commit)
        )
        if said:
            said.check(shown)
