"""Where MLflow's packages and the promotions in git's tags disagree, by the tags of both alone."""

from collections.abc import Iterator

from dovetail.repo.workspace import Workspace
from dovetail.tracking.store import Store
from dovetail.values.finding import Finding


def other_packages(workspace: Workspace, store: Store, name: str, *, tried: bool) -> Iterator[Finding]:
    """Promoted versions whose package is, by its tag, not the promoted one; `tried`: it was just written anew."""
    for version in store.versions(name):
        event = workspace.ledger.package(name, version.md5) if version.md5 else None
        if event and event.note and version.package not in (None, event.note.package):
            parts = store.differing_parts(version, event.note.requirements)
            what = f" ({', '.join(parts)})" if parts else ""
            why = f"its package is not the one that {event.tag.name} promoted{what}"
            next_command = f"dovetail promote {name} --version {version.number}" if tried else "dovetail sync --repair"
            yield Finding("error", f"{name}/{version.number}", why, next_command)
