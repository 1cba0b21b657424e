"""Who needs which objects: branches, tags, experiments, registered versions, and versions that only git knows."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from dovetail.errors import DovetailError, MissingFile
from dovetail.ledger import Ledger
from dovetail.lineage import FileRef, Lineage
from dovetail.register import LINEAGE_FILE
from dovetail.roots import Reader, Root, digests, named, refs
from dovetail.snapshot import Commit, Snapshot
from dovetail.store import Store, Version
from dovetail.workspace import Workspace

VERSION, HISTORY = "version", "history"
Written = Sequence[tuple[Commit, Mapping[str, str]]]  # each commit with the DVC files that it wrote, newest first


@dataclass(frozen=True, slots=True)
class Claim:
    """What something needs: the md5s of objects, a folder's listing without what it names."""

    kind: str
    what: str
    digests: frozenset[str]


@dataclass(frozen=True, slots=True)
class Held:
    """A registered version, or what the ledger names where MLflow does not know it.

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
class Wanted:
    """Which models of the history are versions: every one of a commit that is `kept`; else those that MLflow shows.

    Attributes:
        kept: The commits that a ref keeps.
        holding: The commits that hold a registered version, whether a ref keeps them or not.
        versions: The digests of the registered versions' models.
    """

    kept: set[str]
    holding: set[str]
    versions: set[str | None]

    def __call__(self, commit: Commit) -> bool:
        """Whether there can be one at the commit."""
        return commit.sha in self.kept or commit.sha in self.holding

    def all_of(self, commit: Commit) -> bool:
        """Whether each model of the commit is one."""
        return commit.sha in self.kept


def of_roots(reader: Reader, roots: Iterable[Root]) -> list[Claim]:
    """All that the tips of branches, tags and experiments name, and the working tree."""
    return [Claim(root.kind, str(root), reader.tree(root.commit) if root.commit else reader.here()) for root in roots]


def held(workspace: Workspace, reader: Reader, store: Store | None, ledger: Ledger, written: Written) -> list[Held]:
    """Every version that MLflow shows, and every one that an alias names in git's ledger."""
    models = store.models() if store else []
    versions = [version for name in models for version in store.versions(name)] if store else []
    told: dict[tuple[str, str | None], list[str]] = {}  # model and md5 → aliases, as the ledger has them
    tagged: dict[tuple[str, str | None], str] = {}
    for (model, alias), event in ledger.aliases.items():
        if event and event.note:
            told.setdefault((model, event.note.md5), []).append(alias)
            tagged[model, event.note.md5] = event.tag.commit
    shown = {name: store.aliases(name) for name in models} if store else {}
    holding = _holding(reader, written, {md5 for _, md5 in tagged} | {v.md5 for v in versions})
    found = []
    for v in versions:
        mine = {alias for alias, number in shown[v.model].items() if number == v.number}
        aliases = tuple(sorted(mine | {*told.get((v.model, v.md5), ())}))
        commits = holding.get(v.md5, ())
        needed, recorded = _needed(store, v) if store else (frozenset(), [])
        in_git = _in_git(workspace, recorded, commits)
        found.append(Held(v.model, v.number, aliases, v.md5, needed, in_git, commits))
    known = {(version.model, version.md5) for version in versions}
    for (model, md5), commit in tagged.items():
        if (model, md5) not in known:
            aliases = tuple(sorted(told[model, md5]))
            recorded = [ref for blob in reader.files(commit).items() for ref in _named(reader, *blob)]
            commits = holding.get(md5, ())
            in_git = _in_git(workspace, recorded, commits)
            found.append(Held(model, None, aliases, md5, reader.tree(commit), in_git, commits))
    return found


def _holding(reader: Reader, written: Written, wanted: set[str | None]) -> dict[str | None, tuple[Commit, ...]]:
    found: dict[str | None, tuple[Commit, ...]] = {}
    for commit, files in written:
        for md5 in frozenset[str | None]().union(*map(reader.made, files.values())) & wanted:
            found[md5] = (*found.get(md5, ()), commit)
    return found


def _needed(store: Store, version: Version) -> tuple[frozenset[str], list[FileRef]]:
    """What the version's run says that made it, and its paths; of one that Dovetail did not make, what its tags say."""
    shown = store.run(version.run_id or "")
    tags = json.dumps(dict(shown.tags)) if shown else ""
    recorded = store.text(version.run_id or "", LINEAGE_FILE) or ""
    return digests("\n".join([version.md5 or "", tags, recorded])), refs(json.loads(recorded or "[]"))


def _in_git(workspace: Workspace, recorded: Iterable[FileRef], commits: Sequence[Commit]) -> frozenset[str]:
    tracked = workspace.git.files(commits[0].sha) if commits else {}
    return frozenset(ref.md5 for ref in recorded if ref.path in tracked)


def of_held(versions: Iterable[Held]) -> list[Claim]:
    """What registered versions need."""
    return [Claim(VERSION, str(version), version.digests) for version in versions]


def of_history(
    workspace: Workspace, reader: Reader, written: Written, wanted: Wanted, candidates: frozenset[str]
) -> list[Claim]:
    """What a version in the history needs, MLflow knowing it or not: `sync` makes it anew from its commit.

    Only the commits are looked at that name one of `candidates`, objects that nothing else needs.
    """
    found = []
    for commit, _ in written:
        if wanted(commit) and reader.tree(commit.sha) & candidates:
            needed = _models_need(workspace, reader, commit, wanted)
            if needed & candidates:
                candidates -= needed
                found.append(Claim(HISTORY, f"a model at commit {commit.sha[:8]}", needed))
    return found


def _models_need(workspace: Workspace, reader: Reader, commit: Commit, wanted: Wanted) -> frozenset[str]:
    """What made the models that a commit records and that are wanted of it; all that it names where that is unclear."""
    tree = workspace.at(commit)
    needed: set[FileRef] = set()
    paths: set[str] = set()
    try:
        for model in tree.declared.models.values():
            lineage = _lineage(tree, model.name)
            if lineage is None:
                paths |= {model.path} if wanted.all_of(commit) else set()
            elif wanted.all_of(commit) or lineage.artifact.md5 in wanted.versions:
                needed |= {lineage.artifact, *(ref for stage in lineage.stages for ref in (*stage.deps, *stage.outs))}
    except DovetailError:
        return reader.tree(commit.sha)
    # A stage may read one file of a folder that `dvc add` knows as a whole, or a folder of files added one by one.
    paths |= {ref.path for ref in needed}
    laid = (ref for file in reader.files(commit.sha).items() for ref in _named(reader, *file))
    return frozenset(ref.md5 for ref in [*needed, *(ref for ref in laid if any(map(ref.overlaps, paths)))])


def _named(reader: Reader, path: str, blob: str) -> list[FileRef]:
    return named(reader.text(blob), path.rpartition("/")[0])


def _lineage(tree: Snapshot, model: str) -> Lineage | None:
    try:
        return tree.lineage(tree.model(model))
    except MissingFile:  # declared, not yet trained
        return None
