"""Versions that MLflow shows: whether they can still be served, explained and made again."""

from collections.abc import Iterator

from dovetail.doctor.check_data import kept
from dovetail.registration import loading, repair
from dovetail.registration.alias_check import disagreements, repair_command
from dovetail.repo.workspace import Workspace
from dovetail.tracking.store import Store, Version
from dovetail.values.finding import Finding
from dovetail.values.lineage import FileRef


def broken_versions(workspace: Workspace, store: Store) -> Iterator[Finding]:
    """Versions whose run, lineage or model file is gone or changed."""
    for name in store.models():
        for one in repair.broken_versions(store, name, workspace.ledger):
            for fault in one.faults:
                yield Finding(
                    "error", _named(store, one.version), one.why(fault), _repair(workspace, store, one.version)
                )


def unreadable_versions(workspace: Workspace, store: Store) -> Iterator[Finding]:
    """Versions that an alias names and that cannot be read here or do not predict; their bytes are the right ones."""
    for found in loading.unreadable(workspace, store, store.models(), ignore_cache=True):
        what = f"{_named(store, found.version)} cannot be loaded: {found.why}"
        yield Finding("error", what, "whoever loads it by alias gets an error", found.next)


def moved_aliases(workspace: Workspace, store: Store) -> Iterator[Finding]:
    """Aliases that are not what the promotions in git's tags say."""
    for found in disagreements(workspace, store, set(workspace.tree.declared.models)):
        why = "whoever loads it by alias gets what nobody promoted"
        yield Finding("error", f"{found.model}: {found.why}", why, repair_command(workspace, found))


def _repair(workspace: Workspace, store: Store, version: Version) -> str:
    """The sync that meets the version's bytes: in the history of HEAD and the working tree, or further away."""
    made = store.lineage(version.run_id) if version.md5 else None
    md5 = made.kept.md5 if made else str(version.md5)
    here = any(ref.md5 == md5 for ref in kept(workspace))
    commits = workspace.commits_with(md5, experiments=False)
    if here or any(workspace.git.reaches(commit.sha) for commit in commits):
        return "dovetail sync --repair"
    elsewhere = "" if commits else "git push, in the clone that made it, then here: git fetch && "
    return f"{elsewhere}dovetail sync --all --repair"


def lost_data(workspace: Workspace, store: Store) -> Iterator[Finding]:
    """What registered versions were made of and is in no cache and no remote; the working tree's own is told apart."""
    needed = _needed(workspace, store)
    places = workspace.remote.available(list(needed))
    for ref, versions in needed.items():
        if not places[ref.md5]:
            yield Finding(
                "error",
                f"{ref.path} (md5 {ref.md5}) of {', '.join(versions)} is in no cache and no remote",
                "these versions cannot be made again",
                "dvc push --all-commits, in the clone that has it, then: dvc fetch --all-commits",
            )


def unpushed_data(workspace: Workspace, store: Store) -> Iterator[Finding]:
    """What registered versions were made of and only this machine has."""
    needed = _needed(workspace, store)
    places = workspace.remote.available(list(needed))
    for ref in workspace.remote.missing([ref for ref in needed if "cache" in places[ref.md5]]) or ():
        if workspace.is_committed(ref.md5):
            yield Finding(
                "warning",
                f"{ref.path} (md5 {ref.md5}) of {', '.join(needed[ref])} is not in the remote",
                "this machine alone has what these versions were made of",
                workspace.remote.push_command(),
            )


def _needed(workspace: Workspace, store: Store) -> dict[FileRef, list[str]]:
    """The model and the sources of every version, with the versions that need them, less what the tree has itself."""
    own = {ref.md5 for ref in kept(workspace)}
    found: dict[FileRef, list[str]] = {}
    for name in store.models():
        for version in store.versions(name):
            made = store.lineage(version.run_id) if version.md5 else None
            sources = [ref for ref, role in made.data.items() if role == "source"] if made else []
            for ref in [made.kept, *sources] if made else []:
                if ref.md5 not in own:
                    found.setdefault(ref, []).append(_named(store, version))
    return found


def uncommitted_versions(workspace: Workspace, store: Store) -> Iterator[Finding]:
    """A version of what lies here that no commit holds: the next change makes it one of unknown origin."""
    recorded = {out.md5 for step in workspace.pipeline.stages for out in step.outs if out.md5}
    for name in store.models():
        for version in store.versions(name):
            if version.md5 in recorded and not workspace.is_committed(str(version.md5)):
                yield Finding(
                    "warning",
                    f"{_named(store, version)} is in no commit",
                    "after the next change of dvc.lock, the origin of this version is unknown",
                    f"git add -A && git commit -m 'dvc.lock of {version.model}/{version.number}'",
                )


def _named(store: Store, version: Version) -> str:
    aliases = [f" @{alias}" for alias, number in store.aliases(version.model).items() if number == version.number]
    return f"{version.model}/{version.number}{''.join(aliases)}"
