"""What a version needs and could lose: to a clean-up, to git's or DVC's own, or because it never left this machine."""

import shlex
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dovetail.cleanup.needs import VersionNeeds
from dovetail.cleanup.references import BRANCH, TAG, WORKING_TREE, RemoteRefs
from dovetail.tracking.trash import RUN, TrashItem, as_path
from dovetail.values.finding import Finding, Severity


def as_json(warning: Finding) -> dict[str, Any]:
    """The warning as `dovetail gc --json` gives it: an error blocks the clean-up."""
    return {**warning.as_json("what", "why", "next"), "blocks": warning.severity == "error"}


def _severity(*, blocks: bool) -> Severity:
    return "error" if blocks else "warning"


def of_place(
    *, shallow: bool, foreign_cache: Path | None, unfinished: Iterable[Path], consent: bool
) -> Iterator[Finding]:
    """What makes it unsafe to delete here at all."""
    if shallow:
        yield Finding("error", "shallow clone", "what older commits need is not known here", "git fetch --unshallow")
    if foreign_cache:
        yield Finding(
            _severity(blocks=not consent),
            f"the cache {foreign_cache}",
            "it lies outside of this repository, and what another repository keeps there is not known here",
            "if no other repository uses it: dovetail gc --shared-cache",
        )
    for folder in unfinished:
        yield Finding(
            "error",
            f"experiment in {folder}",
            "it runs or was killed: what it made is in no commit yet",
            f"dvc queue status, or if it does not run any more: rm -r {shlex.quote(str(folder))}",
        )


def of_git_remotes(published: RemoteRefs, known: set[str], remote: str | None) -> Iterator[Finding]:
    """What the git remotes hold and this clone does not; with DVC's `remote` in the plan it has to be here first."""
    severity = _severity(blocks=remote is not None)
    for name, reason in published.unreachable.items():
        why = f"{reason}: what was tagged and pushed by others is not known"
        yield Finding(severity, f"git remote {name}", why, "git fetch --all --tags")
    lacking: dict[str, list[str]] = {}
    for ref, sha in published.refs.items():
        if sha not in known:
            lacking.setdefault(ref.partition(" ")[0], []).append(ref.partition(" ")[2])
    for name, refs in lacking.items():
        more = f" and {len(refs) - 3} more" if len(refs) > 3 else ""  # noqa: PLR2004  (what fits on a line)
        next_command = f"git fetch --tags {name} '+refs/heads/*:refs/remotes/{name}/*' '+refs/exps/*:refs/exps/*'"
        why = f"it has {', '.join(refs[:3])}{more}, whose commits are not here"
        yield Finding(severity, f"git remote {name}", why, next_command)
    if remote:
        yield Finding(
            "warning",
            remote,
            "other clones may have pushed data of commits that they did not push; those commits are not known here",
            "let everybody git push first, then: git fetch --all --tags",
        )


def of_trash(trash: Iterable[TrashItem]) -> Iterator[Finding]:
    """What `mlflow gc` would take from registered versions."""
    for item in trash:
        if item.versions:
            yield Finding(
                "warning",
                f"{item.kind} {item.id} of {', '.join(item.versions)}",
                "it is in MLflow's trash: mlflow gc would delete what the version needs to be explained or served",
                f"mlflow runs restore --run-id {item.id}" if item.kind == RUN else "dovetail sync --repair",
            )
        elif item.is_outside:
            what = f"{item.kind} {item.id} of MLflow's trash"
            why = f"its files lie outside of this repository, in {item.location}: they stay there"
            yield Finding(
                "warning", what, why, f"rm -r {shlex.quote(as_path(item.location))}, if they are this repository's"
            )


def of_commits(
    held: Iterable[VersionNeeds], kept: set[str], pushed: set[str] | None, here: frozenset[str]
) -> Iterator[Finding]:
    """Versions that no branch or tag holds (`kept`), and named ones in no git remote (`pushed`; None: none is set)."""
    for version in held:
        holding = [commit for commit in version.commits if commit.sha in kept]
        if not holding and version.commits:
            sha = version.commits[0].sha[:8]
            why = f"commit {sha} is on no branch and no tag: git will forget it, and with it the code to rebuild this"
            yield Finding("warning", str(version), why, f"git branch {version.model}-{version.number or sha} {sha}")
        elif not holding and version.md5 in here:
            why = "it is in no commit: its data are kept, but not the code to rebuild it"
            yield Finding("warning", str(version), why, "git add -A && git commit")
        elif not holding and version.aliases:
            why = "no commit holds it: its data are kept, but the code that made it is not known"
            next_command = f"dovetail lineage {version.model}/{version.number}, then commit that code and its dvc.lock"
            yield Finding("warning", str(version), why, next_command)
        elif version.aliases and pushed is not None and not any(commit.sha in pushed for commit in holding):
            why = f"commit {holding[0].sha[:8]} is in no git remote: no other clone can rebuild it"
            yield Finding("warning", str(version), why, "git push --all && git push --tags")


def of_tags(tags: Mapping[str, str], published: RemoteRefs) -> Iterator[Finding]:
    """Promotions, by tag and what they promote, that no git remote knows."""
    there = {ref.partition(" refs/tags/")[2] for ref in published.refs}
    for tag, promoted in tags.items():
        if published.refs and tag not in there:
            yield Finding(
                "warning",
                promoted,
                f"its tag {tag} is in no git remote: nobody else keeps it",
                f"git push origin '{tag}'",
            )


@dataclass(frozen=True, slots=True)
class DvcGcKeeps:
    """What `dvc gc` keeps with each of its options, folders expanded."""

    workspace: frozenset[str]
    branches: frozenset[str]
    tags: frozenset[str]

    @classmethod
    def of(cls, needed: Mapping[str, frozenset[str]]) -> "DvcGcKeeps":
        """From what the tips of each kind need."""
        workspace = needed.get(WORKING_TREE, frozenset())
        branches = workspace | needed.get(BRANCH, frozenset())
        return cls(workspace, branches, branches | needed.get(TAG, frozenset()))

    def lost(self, digests: frozenset[str]) -> str:
        """The options of `dvc gc` with which some of `digests` would go, the strongest first; empty: none."""
        if digests - self.tags:
            return "-w, -a and -T"
        if digests - self.branches:
            return "-w and -a (-aT keeps it)"
        return "-w (-a keeps it)" if digests - self.workspace else ""


def of_bytes(
    alone: Mapping[VersionNeeds, frozenset[str]], keepers: DvcGcKeeps, remote: str | None, push: str
) -> Iterator[Finding]:
    """Versions with the bytes of them that lie in this cache `alone`; `push` is the command that ends that."""
    unnamed: dict[tuple[str, str], list[str]] = {}
    for version, only in alone.items():
        options = keepers.lost(only)
        if version.aliases and only and (remote or options):
            place = f"not in {remote}" if remote else "in no remote"
            after = f"; dvc gc with {options} would make it unrecoverable" if options else ""
            yield Finding(
                "warning", str(version), f"{len(only)} objects that it needs are in this cache, {place}{after}", push
            )
        elif options:
            unnamed.setdefault((version.model, options), []).append(str(version.number))
    for (model, options), numbers in unnamed.items():
        what = f"{model} version{'s' if len(numbers) > 1 else ''} {', '.join(numbers)}"
        why = f"in no remote, and dvc gc with {options} would delete what it needs: it does not know the registry"
        yield Finding("warning", what, why, push)
