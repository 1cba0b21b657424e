"""What a clean-up has to know: who needs what, where the objects are, and what a version could lose."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from dovetail.cleanup import risks
from dovetail.cleanup.needs import (
    DvcFileHistory,
    Need,
    VersionFilter,
    VersionNeeds,
    of_history,
    of_refs,
    of_versions,
    version_needs,
)
from dovetail.cleanup.references import (
    BRANCH,
    OTHER,
    REMOTE_BRANCH,
    TAG,
    GitRef,
    Reader,
    git_refs,
    of_siblings,
    published,
)
from dovetail.cleanup.risks import DvcGcKeeps
from dovetail.errors import DataUnavailable, DovetailError
from dovetail.repo.dvc_files import RECORDS
from dovetail.repo.objects import Objects
from dovetail.repo.workspace import Workspace
from dovetail.tracking.store import Store
from dovetail.tracking.trash import TrashItem
from dovetail.values.finding import Finding


@dataclass(frozen=True, slots=True)
class Survey:
    """All that was found.

    Attributes:
        sizes: The objects of each place.
        needed: Which objects each ref or version needs, folders expanded.
        written: The commits that wrote a DVC file, newest first, those that no ref keeps included.
        kept: The commits that a ref keeps.
    """

    reader: Reader
    sizes: Mapping[Objects, Mapping[str, int]]
    needed: Mapping[str, frozenset[str]]
    written: DvcFileHistory
    kept: set[str]
    trash: Sequence[TrashItem]
    warnings: Sequence[Finding]


class _FolderExpander:
    """Expands folders, each listing read once, from wherever it is kept."""

    def __init__(
        self, places: Sequence[Objects], closed: Finding | None, sizes: Mapping[Objects, Mapping[str, int]]
    ) -> None:
        self._places = places
        self._closed = closed
        self._sizes = sizes
        self._known: dict[str, frozenset[str]] = {}
        self.problems: dict[str, Finding] = {}  # by place: it did not answer for a listing that no other place has

    def __call__(self, digests: Iterable[str]) -> frozenset[str]:
        found = set(digests)
        for md5 in [md5 for md5 in found if md5.endswith(".dir")]:
            if md5 not in self._known:
                self._known[md5] = frozenset(self._listing(md5))
            found |= self._known[md5]
        return frozenset(found)

    def _listing(self, md5: str) -> Iterable[str]:
        unanswered: dict[str, Finding] = {}
        for place in self._places:
            if place not in self._sizes or md5 in self._sizes[place]:
                try:
                    listing = place.listing(md5)
                except DataUnavailable as error:
                    unanswered[place.name] = _not_known(error)
                    continue
                if listing is not None:
                    return listing.values()
        if self._closed:
            unanswered["the default remote"] = self._closed
        self.problems |= unanswered
        return ()  # a folder that is a dependency only, or lost: nothing can bring it back


def _not_known(error: DovetailError) -> Finding:
    what = "what is in a folder that the cache lacks is not known, so its files here could be deleted"
    return Finding("error", what, error.message, error.next_command)


def survey(workspace: Workspace, store: Store | None, places: Sequence[Objects], *, consent: bool) -> Survey:
    """Look at everything; nothing is changed.

    Raises:
        GitFailed, DataUnavailable, StoreError: when a side cannot answer.
    """
    git, reader = workspace.git, Reader(workspace.git)
    there = published(git)
    known = git.known(there.refs.values())
    tips = _tips(git_refs(git), {ref: sha for ref, sha in there.refs.items() if sha in known})
    shas = {root.commit for root in tips if root.commit}
    written = list(git.written(["--all", "--reflog", *sorted(shas)], *RECORDS))
    promotions = workspace.read_ledger()
    versions = version_needs(workspace, reader, store, promotions, written)
    sizes = {place: place.sizes() for place in places}
    expand = _FolderExpander(*_listing_places(workspace, places), sizes)
    reader.read(shas)
    needs = [*of_refs(reader, tips), *of_versions(versions)]
    needed = {need.what: expand(need.digests) for need in needs}
    candidates = frozenset().union(*sizes.values()).difference(*needed.values())
    kept = git.reachable(shas)
    holding = {commit.sha for version in versions for commit in version.commits}
    wanted = VersionFilter(kept, holding, {version.md5 for version in versions})
    history = of_history(workspace, reader, written, wanted, candidates)
    needed |= {need.what: expand(need.digests) for need in history}
    needed |= {f"the project {name}": expand(digests) for name, digests in of_siblings(git, reader).items()}
    trash = store.discarded({*workspace.tree.declared.models, *(v.model for v in versions)}) if store else []
    warnings = [
        *risks.of_place(
            shallow=git.is_shallow,
            foreign_cache=workspace.storage.foreign_cache,
            unfinished=workspace.unfinished,
            consent=consent,
        ),
        *risks.of_git_remotes(there, known, places[1].name if places[1:] else None),
        *risks.of_trash(trash),
        *_of_commits(workspace, tips, versions, needs[0], known),
        *risks.of_tags({e.tag.name: f"{m}@{a}" for (m, a), e in promotions.aliases.items() if e}, there),
        *_of_bytes(workspace, versions, needs, sizes[workspace.storage.cache], expand),
    ]
    return Survey(reader, sizes, needed, written, kept, trash, [*warnings, *expand.problems.values()])


def _tips(own: Sequence[GitRef], theirs: Mapping[str, str]) -> list[GitRef]:
    """What is kept here, and commits that are here and that only a git remote names."""
    shas = {root.commit for root in own}
    return [*own, *(GitRef(OTHER, ref, sha) for ref, sha in theirs.items() if sha not in shas)]


def _of_commits(
    workspace: Workspace,
    tips: Sequence[GitRef],
    versions: Sequence[VersionNeeds],
    here: Need,
    known: set[str],
) -> Iterator[Finding]:
    git = workspace.git
    lasting = git.reachable([*(r.commit for r in tips if r.commit and r.kind in (BRANCH, REMOTE_BRANCH, TAG)), *known])
    away = {root.commit for root in tips if root.commit and root.kind == REMOTE_BRANCH} | known
    pushed = git.reachable(away) if git("remote") else None
    return risks.of_commits(versions, lasting, pushed, here.digests)


def _listing_places(workspace: Workspace, places: Sequence[Objects]) -> tuple[list[Objects], Finding | None]:
    """Where the listings of folders are looked for: the default remote may have those that the cache lacks.

    With it why the default remote cannot be asked, if that is so.
    """
    try:
        remote = workspace.remote.objects()
    except DataUnavailable as error:
        return list(places), _not_known(error)
    except DovetailError:  # it keeps files by their own names: no listings
        return list(places), None
    known = {place.name for place in places}
    return [*places, *([remote] if remote and remote.name not in known else [])], None


def _of_bytes(
    workspace: Workspace,
    versions: Sequence[VersionNeeds],
    needs: Sequence[Need],
    cached: Mapping[str, int],
    expand: _FolderExpander,
) -> list[Finding]:
    here = {version: expand(version.digests - version.in_git) & cached.keys() for version in versions}
    try:
        remote = workspace.remote.objects()
        there = remote.holds(frozenset().union(*here.values())) if remote else set()
    except DovetailError as error:
        return [Finding("warning", "the default remote", error.message, error.next_command)]
    of_kind: dict[str, set[str]] = {}
    for need in needs:
        of_kind.setdefault(need.kind, set()).update(expand(need.digests))
    alone = {version: here[version] - there for version in versions}
    push = workspace.remote.push_command(
        {commit for version in versions if alone[version] for commit in version.commits[:1]}
    )
    return list(
        risks.of_bytes(
            alone,
            DvcGcKeeps.of({kind: frozenset(found) for kind, found in of_kind.items()}),
            remote.name if remote else None,
            push,
        )
    )
