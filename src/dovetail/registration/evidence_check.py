"""The stored evidence of promotions, compared with what their tags say of it; nothing can make it again."""

import hashlib
import json
from collections.abc import Iterator

from dovetail.registration.alias_check import delete_command
from dovetail.repo.ledger import Event, Note
from dovetail.repo.workspace import Workspace
from dovetail.tracking.store import Store, Version
from dovetail.values.finding import Finding


def changed_evidence(workspace: Workspace, store: Store) -> Iterator[Finding]:
    """Evidence of promotions that is not what their tags say of it, or that was deleted."""
    for model in workspace.tree.declared.models:
        versions = {version.md5: version for version in reversed(store.versions(model))}
        for event in workspace.ledger.of(model):
            version = versions.get(event.note.md5) if event.note else None
            if version and event.note and event.note.evidence and (why := _differs(store, event, event.note, version)):
                path = evidence_path(event)
                yield Finding(
                    "error",
                    f"{event.tag.name}: {why}",
                    "what the gates saw then cannot be made again to the same sha256, so that nobody can look it up",
                    f"restore {path} of run {version.run_id} from a backup, or: {delete_command(event)} && "
                    f"dovetail promote {model} --version {version.number} --to {event.alias}",
                )


def evidence_path(event: Event) -> str:
    """Where the run of the promoted version keeps the evidence."""
    return f"promotions/{event.alias}-{event.number}.json"


def _differs(store: Store, event: Event, note: Note, version: Version) -> str | None:
    path = evidence_path(event)
    try:
        text = store.text(version.run_id, path)
    except UnicodeDecodeError:
        text = ""
    if text is None:
        # A version that `sync` made anew since has none: evidence goes with MLflow's store.
        return None if version.created > event.time else f"its evidence {path} was deleted from run {version.run_id}"
    if hashlib.sha256(text.encode()).hexdigest() != note.evidence:
        return f"its evidence {path} in run {version.run_id} was edited: Dovetail-Evidence is another sha256"
    stored = {gate["name"]: gate for gate in json.loads(text)["gates"]}
    for gate in note.gates:
        known = stored.get(gate["name"], {})
        if any(known.get(key) != value for key, value in gate.items()):
            return f"Dovetail-Gates says of {gate['name']} what its evidence {path} does not say"
    missing = sorted(stored.keys() - {gate["name"] for gate in note.gates})
    return f"Dovetail-Gates lacks {', '.join(missing)}, which its evidence {path} has" if missing else None
