"""Versions that an alias names and that cannot be loaded here, each read once: what was well stays well.

It is asked again for other bytes, other names allowed, and after a package was installed or removed.
"""

import hashlib
import json
import os
import site
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from dovetail.registration.value_cache import ValueCache
from dovetail.repo.workspace import Workspace
from dovetail.tracking.store import Store, Version

_KEPT = "models-that-load"


@dataclass(frozen=True, slots=True)
class UnreadableVersion:
    """A version that does not load or predict here, why, and the next command."""

    version: Version
    why: str
    next: str


def unreadable(
    workspace: Workspace, store: Store, name: str, *, ignore_cache: bool = False
) -> Iterator[UnreadableVersion]:
    """Versions of the model that an alias names and that do not load or predict.

    One whose files are gone or changed is none of them. `ignore_cache`: also what was read before is read.
    """
    named = set(store.aliases(name).values())
    for version in store.versions(name):
        if version.number not in named or version.md5 is None:
            continue
        allow = tuple(filter(None, version.allow.split(",")))
        if not ignore_cache and _key(version.md5, allow) in ValueCache(workspace.root, _KEPT).all():
            continue
        if store.served_md5(version) != version.md5:
            continue
        from dovetail.registration import probe  # a tenth of a second, for what is to be read only

        with store.model_file(version) as file:
            found = probe.refusal(file, allow) if file else probe.ProbeRefusal()
        if found.why or found.name:
            why = found.why or f"it names {found.name}, which its gates do not allow"
            other = f"dovetail rollback {name}, or dovetail promote {name} of a version that loads"
            yield UnreadableVersion(version, why, found.next_command if found.is_local else other)
        else:
            remember(workspace, version.md5, allow)


def remember(workspace: Workspace, md5: str, allow: tuple[str, ...]) -> None:
    """Keep in mind that the model of these bytes loads and predicts here."""
    ValueCache(workspace.root, _KEPT).add(_key(md5, allow), answer=True)


def _key(md5: str, allow: tuple[str, ...]) -> str:
    """Bytes, names and environment: pip changes the time of the folder that it installs to or removes from."""
    folders = [*site.getsitepackages(), site.getusersitepackages(), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    times = [(folder, Path(folder).stat().st_mtime_ns) for folder in folders if folder and Path(folder).is_dir()]
    content = json.dumps([md5, sorted(allow), sys.version, times])
    return hashlib.sha256(content.encode()).hexdigest()
