"""Who needs which objects: branches, tags, experiments, registered versions, and versions that only git knows."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from dovetail.cleanup.references import GitRef, Reader, digests
from dovetail.errors import DovetailError, MissingFile
from dovetail.repo.dvc_values import Model
from dovetail.repo.git_values import Commit
from dovetail.repo.ledger import Ledger
from dovetail.repo.tree import Tree
from dovetail.repo.workspace import Workspace
from dovetail.tracking.run_content import LINEAGE_FILE, read_lineage
from dovetail.tracking.store import Store, Version
from dovetail.values import tag_keys
from dovetail.values.lineage import Lineage

VERSION, HISTORY = "version", "history"
DvcFileHistory = Sequence[
    tuple[Commit, Mapping[str, str]]
]  # each commit with the DVC files that it wrote, newest first


@dataclass(frozen=True, slots=True)
class Need:
    """The objects that something needs, by md5; of a folder its listing alone, not the files in it."""

    kind: str
    what: str
    digests: frozenset[str]


@dataclass(frozen=True, slots=True)
class VersionNeeds:
    """A registered version, or one that only the ledger knows, and what it needs.

    Attributes:
        aliases: Those that name it, in MLflow or in the ledger.
        md5: The digest of its bytes.
        digests: What it needs to be served, explained and rebuilt.
        in_git: Those of them that git keeps itself: metrics, code.
        commits: The commits that record it, whether a ref keeps them or not.
    """

    model: str
    number: int | None
    aliases: tuple[str, ...]
    md5: str | None
    digests: frozenset[str]
    in_git: frozenset[str]
    commits: tuple[Commit, ...]

    def __str__(self) -> str:
        number = f"version {self.number}" if self.number else f"md5 {(self.md5 or '?')[:8]}"
        return " ".join([self.model, number, *(f"@{alias}" for alias in self.aliases)])


@dataclass(frozen=True, slots=True)
class VersionFilter:
    """Which models of the history are versions: every one of a commit that is kept; else those that MLflow shows.

    Attributes:
        kept: The commits that a ref keeps.
        holding: The commits that hold a registered version, whether a ref keeps them or not.
        versions: The digests of the registered versions' models.
    """

    kept: set[str]
    holding: set[str]
    versions: set[str | None]

    def at(self, commit: Commit) -> bool:
        """Whether there can be one at the commit."""
        return commit.sha in self.kept or commit.sha in self.holding

    def includes(self, commit: Commit, md5: str) -> bool:
        """Whether the model of this digest at the commit is one."""
        return commit.sha in self.kept or md5 in self.versions


@dataclass(frozen=True, slots=True)
class _RunRecord:
    """What a version's run says of it; `kept` is what a DVC file names, the model or the folder with it."""

    digests: frozenset[str]
    kept: str | None
    paths: Mapping[str, str]  # path → md5
    commit: str | None  # where it was registered with nothing changed


def of_refs(reader: Reader, roots: Iterable[GitRef]) -> list[Need]:
    """All that the tips of branches, tags and experiments name, and the working tree."""
    return [
        Need(root.kind, str(root), reader.tree(root.commit) if root.commit else reader.here(root.name))
        for root in roots
    ]


def of_versions(versions: Iterable[VersionNeeds]) -> list[Need]:
    """What registered versions need."""
    return [Need(VERSION, str(version), version.digests) for version in versions]


def version_needs(
    workspace: Workspace, reader: Reader, store: Store | None, ledger: Ledger, written: DvcFileHistory
) -> list[VersionNeeds]:
    """Every version that MLflow shows, and every one that an alias names in git's ledger."""
    named: dict[tuple[str, str | None], dict[str, str]] = {}  # model and md5 → the commit of each alias in the ledger
    for (model, alias), event in ledger.aliases.items():
        if event and event.note:
            named.setdefault((model, event.note.md5), {})[alias] = event.tag.commit
    shown = {name: store.aliases(name) for name in store.models()} if store else {}
    recorded = {v: _recorded(store, v) for name in shown for v in store.versions(name)} if store else {}
    holding = _holding(reader, written, {record.kept for record in recorded.values()})
    found = []
    for version, record in recorded.items():
        tagged = named.pop((version.model, version.md5), {})
        aliases = {alias for alias, number in shown[version.model].items() if number == version.number} | tagged.keys()
        known = _commits(workspace, [*tagged.values(), record.commit])
        commits = tuple(dict.fromkeys([*known, *holding.get(record.kept, ())]))
        tracked = workspace.git.files(commits[0].sha) if commits else {}
        in_git = frozenset(md5 for path, md5 in record.paths.items() if path in tracked)
        order = tuple(sorted(aliases))
        found.append(VersionNeeds(version.model, version.number, order, version.md5, record.digests, in_git, commits))
    for (model, md5), tagged in named.items():
        commits = tuple(_commits(workspace, tagged.values()))
        needed, in_git = reader.tree(commits[0].sha), _outside_dvc(workspace, commits[0])
        found.append(VersionNeeds(model, None, tuple(sorted(tagged)), md5, needed, in_git, commits))
    return found


def _recorded(store: Store, version: Version) -> _RunRecord:
    """What the version's run keeps of it; of a version that Dovetail did not make, what its tags say."""
    shown = store.run(version.run_id or "")
    tags = dict(shown.tags) if shown else {}
    clean = tags.get(tag_keys.GIT_DIRTY) == "false"
    text = store.text(version.run_id or "", LINEAGE_FILE) or ""
    made = read_lineage(text)
    if made is None:
        return _RunRecord(digests(json.dumps(tags) + (version.md5 or "")), version.md5, {}, None)
    refs = [made.artifact, *(ref for stage in made.stages for ref in (*stage.deps, *stage.outs))]
    paths = {ref.path: ref.md5 for ref in refs}
    return _RunRecord(
        digests(text + json.dumps(tags)), made.kept.md5, paths, tags.get(tag_keys.GIT_COMMIT) if clean else None
    )


def _commits(workspace: Workspace, shas: Iterable[str | None]) -> list[Commit]:
    found = (workspace.git.commit(sha) for sha in dict.fromkeys(shas) if sha)
    return [commit for commit in found if commit]


def _holding(reader: Reader, written: DvcFileHistory, wanted: set[str | None]) -> dict[str | None, list[Commit]]:
    found: dict[str | None, list[Commit]] = {}
    reader.read_blobs(blob for _, files in written for blob in files.values())
    for commit, files in written:
        named = [blob for blob in files.values() if reader.blob(blob) & wanted]
        for md5 in frozenset[str | None]().union(*map(reader.made, named)) & wanted:
            found.setdefault(md5, []).append(commit)
    return found


def _outside_dvc(workspace: Workspace, commit: Commit) -> frozenset[str]:
    """The digests of the files that dvc.lock names at a commit and that git keeps."""
    tree, tracked = workspace.at(commit), workspace.git.files(commit.sha)
    try:
        refs = [ref for record in tree.records.values() for ref in (*record.deps, *record.outs)]
    except DovetailError:
        return frozenset()
    return frozenset(ref.md5 for ref in refs if ref.path in tracked)


def of_history(
    workspace: Workspace, reader: Reader, written: DvcFileHistory, wanted: VersionFilter, candidates: frozenset[str]
) -> list[Need]:
    """What a version in the history needs, whether MLflow knows it or not: `sync` restores it from its commit.

    Only the commits are looked at that name one of `candidates`, objects that nothing else needs.
    """
    found = []
    for commit, _ in written:
        if wanted.at(commit) and reader.tree(commit.sha) & candidates:
            known = _models_need(workspace, commit, wanted)
            needed = reader.tree(commit.sha) if known is None else known
            if needed & candidates:
                candidates -= needed
                what = f"a model at commit {commit.sha[:8]}"
                if known is None:
                    what = f"commit {commit.sha[:8]}, which cannot be read: all that it names"
                found.append(Need(HISTORY, what, needed))
    return found


def _models_need(workspace: Workspace, commit: Commit, wanted: VersionFilter) -> frozenset[str] | None:
    """What made the models that a commit records and that are versions; None where it cannot be read."""
    tree = workspace.at(commit)
    try:
        made = [lineage for model in tree.models.values() if (lineage := _lineage(tree, model))]
        outs = [out for record in tree.records.values() for out in record.outs]
        tracked = [*outs, *(entry.ref for entry in tree.tracked.values())]
    except DovetailError:
        return None
    needed = {
        ref
        for lineage in made
        if wanted.includes(commit, lineage.artifact.md5)
        for ref in [lineage.kept, *(ref for stage in lineage.stages for ref in (*stage.deps, *stage.outs))]
    }
    # A stage may read one file of a folder that `dvc add` knows as a whole, or a folder of files added one by one.
    around = {ref for ref in tracked if any(ref.overlaps(path) for path in {ref.path for ref in needed})}
    return frozenset(ref.md5 for ref in needed | around)


def _lineage(tree: Tree, model: Model) -> Lineage | None:
    try:
        return tree.lineage(model)
    except MissingFile:  # declared, not yet trained
        return None
