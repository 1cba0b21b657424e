"""Versions that an alias names and that cannot be loaded here, each read once: what was well stays well.

It is asked again for other bytes, other names allowed, and after a package was installed or removed.
"""

import hashlib
import json
import os
import site
import sys
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from dovetail.registration.value_cache import ValueCache
from dovetail.repo.workspace import Workspace
from dovetail.tracking.store import Store, Version
from dovetail.values.computing import cores

if TYPE_CHECKING:
    from dovetail.system.processes import Worker

_KEPT = "models-that-load"
_AT_ONCE = 4


@dataclass(frozen=True, slots=True)
class UnreadableVersion:
    """A version that does not load or predict here, why, and the next command."""

    version: Version
    why: str
    next: str


def unreadable(
    workspace: Workspace, store: Store, names: Iterable[str], *, ignore_cache: bool = False
) -> Iterator[UnreadableVersion]:
    """Versions of the models that an alias names and that do not load or predict, model by model.

    One whose files are gone or changed is none of them. `ignore_cache`: also what was read before is read.
    As many are read at a time as there are cores, four at most: each is in memory as a whole.
    """
    begun: deque[_Begun] = deque()
    with ExitStack() as stack:  # what was begun ends, too, where nobody waits for its answer
        for version in (version for name in names for version in _to_read(workspace, store, name, ignore_cache)):
            ending = stack.enter_context(ExitStack())
            begun.append(ending.enter_context(_reading(store, version, ending)))
            if len(begun) >= min(cores(), _AT_ONCE):
                yield from _told(workspace, begun.popleft())
        while begun:
            yield from _told(workspace, begun.popleft())


def _to_read(workspace: Workspace, store: Store, name: str, ignore_cache: bool) -> Iterator[Version]:  # noqa: FBT001
    named = set(store.aliases(name).values())
    for version in store.versions(name):
        if version.number not in named or version.md5 is None:
            continue
        if not ignore_cache and _key(workspace, version.md5, _allowed(version)) in _cache(workspace).all():
            continue
        if store.served_md5(version) == version.md5:
            yield version


class _Begun(NamedTuple):
    """A version whose model is being read, by nobody where it has none, and what ends that."""

    version: Version
    running: "Worker | None"
    ending: ExitStack


@contextmanager
def _reading(store: Store, version: Version, ending: ExitStack) -> Iterator[_Begun]:
    from dovetail.registration import probe  # a tenth of a second, for what is to be read only

    with store.model_file(version) as file:
        running = probe.start_refusal(file, _allowed(version)) if file else None
        try:
            yield _Begun(version, running, ending)
        finally:
            if running:
                running.end()


def _told(workspace: Workspace, begun: _Begun) -> Iterator[UnreadableVersion]:
    from dovetail.registration import probe

    version, allow = begun.version, _allowed(begun.version)
    with begun.ending:
        found = probe.finish_refusal(begun.running) if begun.running else probe.ProbeRefusal()
    if found.why or found.name:
        name = version.model
        why = found.why or f"it names {found.name}, which its gates do not allow"
        other = f"dovetail rollback {name}, or dovetail promote {name} of a version that loads"
        yield UnreadableVersion(version, why, found.next_command if found.is_local else other)
    else:
        remember(workspace, str(version.md5), allow)


def remember(workspace: Workspace, md5: str, allow: tuple[str, ...]) -> None:
    """Keep in mind that the model of these bytes loads and predicts here."""
    _cache(workspace).add(_key(workspace, md5, allow), answer=True)


def _cache(workspace: Workspace) -> ValueCache:
    return ValueCache(workspace.store_root, _KEPT)


def _allowed(version: Version) -> tuple[str, ...]:
    return tuple(filter(None, version.allow.split(",")))


def _key(workspace: Workspace, md5: str, allow: tuple[str, ...]) -> str:
    """Bytes, names and environment: pip changes the time of the folder that it installs to or removes from.

    Of the project's own folders it is what their modules are: a copy of the project has them at other times.
    """
    variable = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    folders = [Path(one) for one in (*site.getsitepackages(), site.getusersitepackages(), *variable) if one]
    state = [_state(workspace, folder.absolute()) for folder in folders if folder.is_dir()]
    content = json.dumps([md5, sorted(allow), sys.version, state])
    return hashlib.sha256(content.encode()).hexdigest()


def _modules(folder: Path) -> Iterator[tuple[str, str]]:
    """The Python files below a folder, and what they hold; hidden folders and environments are none of its own."""
    for place, folders, files in os.walk(folder):
        folders[:] = [
            name for name in folders if not name.startswith(".") and not Path(place, name, "pyvenv.cfg").exists()
        ]
        for file in (Path(place, name) for name in files if name.endswith(".py")):
            with suppress(OSError):  # it was removed meanwhile
                yield file.relative_to(folder).as_posix(), hashlib.sha256(file.read_bytes()).hexdigest()


def _state(workspace: Workspace, folder: Path) -> list[Any]:
    own = [root.absolute() for root in (workspace.root, workspace.store_root) if folder.is_relative_to(root.absolute())]
    if own and not folder.is_relative_to(sys.prefix):
        return [folder.relative_to(own[0]).as_posix(), sorted(_modules(folder))]
    return [str(folder), folder.stat().st_mtime_ns]
