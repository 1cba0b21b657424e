"""What to know of a model's versions besides where they stand: data of other bytes, and another machine's settings.

None of it is wrong, so none of it is a problem. It costs `status` no import: tables are read once, and only where
digests differ; what this machine computes with is asked of the operating system.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import version as installed_version
from pathlib import Path

from dovetail.errors import MissingFile
from dovetail.registration.value_cache import ValueCache
from dovetail.repo.workspace import Workspace
from dovetail.tracking.run_content import ENVIRONMENT_FILE
from dovetail.tracking.store import Store, Version
from dovetail.values import computing, stage_settings
from dovetail.values.finding import Finding
from dovetail.values.lineage import FileRef, Lineage
from dovetail.values.table_names import is_table

_LARGEST = 64 << 20  # bytes of a table that is read here; `diff` reads any
_MOST = 3  # files that are named


@dataclass(frozen=True, slots=True)
class NamedVersion:
    """A version and the aliases that name it."""

    version: Version
    aliases: tuple[str, ...]

    def __str__(self) -> str:
        return f"version {self.version.number} ({', '.join(f'@{alias}' for alias in self.aliases)})"


def named(versions: Iterable[Version], aliases: Mapping[str, int]) -> Iterator[NamedVersion]:
    """The versions that an alias names."""
    for version in versions:
        if own := tuple(sorted(alias for alias, number in aliases.items() if number == version.number)):
            yield NamedVersion(version, own)


def of_data(workspace: Workspace, lineage: Lineage) -> Iterator[Finding]:
    """What the model in the workspace was made of and is not that any more, unless it is a problem already."""
    changed, told = [], list(unrecorded_sources(workspace, lineage))
    for ref in (ref for ref, role in lineage.data.items() if role == "source"):
        try:
            here = workspace.tree.file(ref.path)
        except MissingFile:
            continue  # DVC brings it back when it is asked for
        if here.md5 != ref.md5 and not any(one.overlaps(ref.path) for one in told):
            changed.append(_said(workspace, ref, here))
    if changed:
        yield Finding("warning", f"changed since the model was made: {_listed(changed)}", "", "dvc repro")


def unrecorded_sources(workspace: Workspace, lineage: Lineage) -> Iterator[FileRef]:
    """What .dvc files record of files that are other files now, and that the model was made of."""
    used = {dep.path for stage in lineage.stages for dep in stage.deps}
    for entry in workspace.tree.tracked.values():
        if any(entry.ref.overlaps(dep) for dep in used):
            with suppress(MissingFile):
                if not workspace.tree.is_as_recorded(entry.ref):
                    yield entry.ref


def since(workspace: Workspace, store: Store, lineage: Lineage, one: NamedVersion) -> Iterator[Finding]:
    """How the data of the workspace's model differ from those of the version, where that has other bytes."""
    if one.version.md5 == lineage.artifact.md5 or (before := store.lineage(one.version.run_id)) is None:
        return
    then = {ref.path: ref for ref in before.data}
    pairs = [(then[ref.path], ref) for ref in lineage.data if ref.path in then and then[ref.path].md5 != ref.md5]
    if pairs:
        changed = _listed([_said(workspace, *pair) for pair in pairs])
        ref = f"{lineage.model}@{one.aliases[0]}"
        yield Finding("warning", f"data since {one}: {changed}", "", f"dovetail diff {ref} workspace:{lineage.model}")


def elsewhere(store: Store, one: NamedVersion) -> Iterator[Finding]:
    """Whether the version was computed under other settings than this machine's now, unless its stage fixes its own."""
    facts = computing.parse(store.text(one.version.run_id, ENVIRONMENT_FILE) or "")
    here = computing.of_machine()
    changed = computing.elsewhere(facts, here)
    if not changed or _is_fixed(store, one, facts, here):
        return
    what = "; ".join(_change(key, *pair) for key, pair in changed.items())
    ref = f"{one.version.model}@{one.aliases[0]}"
    yield Finding(
        "warning",
        f"{one} was computed under other settings than this machine has now: {what}",
        "",
        f"dovetail reproduce {ref}",
    )


def _is_fixed(store: Store, one: NamedVersion, facts: Mapping[str, str], here: Mapping[str, str]) -> bool:
    """Whether the stage that made the version fixes its own settings, and this machine has what it needs."""
    if facts[computing.MACHINE] != here.get(computing.MACHINE):
        return False
    made = store.lineage(one.version.run_id)
    return bool(made and made.maker and stage_settings.fixes_its_own(facts, made.maker.name))


def _change(key: str, then: str, now: str) -> str:
    if key != computing.CPU:
        return f"{key.removeprefix(computing.VARIABLE)} {then or 'none'} → {now or 'none'}"
    lost, new = (" ".join(sorted(set(a.split()) - set(b.split()))) for a, b in ((then, now), (now, then)))
    return " and ".join(filter(None, [lost and f"cpu without {lost}", new and f"cpu with {new}"]))


def how(workspace: Workspace, then: FileRef, now: FileRef) -> str:
    """How a file with other bytes differs, in words."""
    words = {True: "the same table, written otherwise", False: "other values", None: "other bytes"}
    return words[_same(workspace, then, now)]


def _said(workspace: Workspace, then: FileRef, now: FileRef) -> str:
    return f"{now.path} ({how(workspace, then, now)})"


def _listed(changed: list[str]) -> str:
    more = [f"{len(changed) - _MOST} more"] if len(changed) > _MOST else []
    return ", ".join([*changed[:_MOST], *more])


def _same(workspace: Workspace, then: FileRef, now: FileRef) -> bool | None:
    """Whether both say the same; None where they are no tables, or one is not here or too large to be read now."""
    digests = [_value(workspace, ref) for ref in (then, now)]
    return None if None in digests else digests[0] == digests[1]


def _value(workspace: Workspace, ref: FileRef) -> str | None:
    """The digest of what the table says; None where it is none. The same bytes under one ending are read once."""
    if not is_table(ref.path):
        return None
    key = (
        f"{ref.md5}{''.join(Path(ref.path).suffixes[-2:])} {installed_version('pyarrow')}"  # another one may read more
    )
    kept = ValueCache(workspace.store_root, "table-values")
    known: Mapping[str, str | None] = kept.all()
    if key in known:
        return known[key]
    file = workspace.storage.here(ref)
    if file is None or file.stat().st_size > _LARGEST:
        return None
    from dovetail.values.table_value import table_digest

    try:
        value = table_digest(file, ref.path)
    except MissingFile as error:
        if isinstance(error.__cause__, OSError):  # the file could not be read now
            return None
        value = None
    kept.add(key, value)
    return value
