"""`dovetail reproduce`: a model rebuilt from its commit and data, and whether the result is the same."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from dovetail.errors import DovetailError, Interrupted, StoreError, UnknownReference, UserError
from dovetail.registration.resolve import resolve
from dovetail.repo.revision import Revision
from dovetail.repo.tree import Tree
from dovetail.repo.workspace import Workspace
from dovetail.reproduction.impossible import RebuildImpossible, missing
from dovetail.reproduction.ledger_check import check_ledger
from dovetail.reproduction.rebuild import RebuildRequest, rebuild
from dovetail.reproduction.verdict import (
    IMPOSSIBLE,
    REPRODUCED,
    EnvironmentComparison,
    RebuildResult,
    compare_environments,
    describe,
)
from dovetail.system.processes import interruptible
from dovetail.tracking.connection import Tracking
from dovetail.tracking.run_content import ENVIRONMENT_FILE
from dovetail.tracking.store import Store, Version
from dovetail.values import readable_tags
from dovetail.values.answer import Answer
from dovetail.values.environment import PINS, Environment, pinned
from dovetail.values.finding import Finding
from dovetail.values.lineage import Lineage
from dovetail.values.names import unknown
from dovetail.values.reference import ByCommit, ByDigest, ByPath, parse
from dovetail.values.tag_keys import FINGERPRINT, GIT_COMMIT, MODEL_VALUE, Reproduction

_TAG_LIMIT = 3500  # characters of a tag's value that every version of MLflow takes, with what else it holds
_NO_RESULT: Mapping[str, Any] = {  # what `--json` says where the rebuild was impossible
    "verdict": IMPOSSIBLE,
    "outputs": [],
    "first_difference": None,
    "cause": None,
    "metrics": None,
    "inputs": [],
    "stages": [],
    "frozen": [],
    "settings": {},
    "unavailable": "",
}


@dataclass(frozen=True, slots=True)
class ReproduceRequest:
    """What to rebuild (a model, version, run or commit:model), perhaps in an environment built from its lock."""

    ref: str
    fresh_env: bool = False
    workers: int = 1  # stages side by side


@dataclass(frozen=True, slots=True, repr=False)
class ReproduceAnswer(Answer):
    """What came of rebuilding `ref`.

    Attributes:
        commit: The sha of the commit that it was rebuilt from; None where no commit has it.
        result: What the rebuild made; None where it was impossible.
        missing: What it cannot be rebuilt without.
        output: The last lines of the stage that failed.
        version: The version that the verdict is tagged on; `problems` say why it is not.
        seconds: How long it took.
    """

    ref: str
    model: str
    commit: str | None
    result: RebuildResult | None
    missing: tuple[Finding, ...]
    output: str
    environment: EnvironmentComparison
    version: int | None
    problems: tuple[str, ...]
    seconds: float

    @property
    def verdict(self) -> str:
        """`identical`, `identical-model`, `same-predictions`, `same-metrics`, `different` or `impossible`."""
        return self.result.verdict if self.result else IMPOSSIBLE

    @property
    def reproduced(self) -> bool:
        """Whether the verdict counts as reproduced."""
        return self.verdict in REPRODUCED

    def __repr__(self) -> str:
        return f"<ReproduceAnswer {self.ref}: {self.verdict}>"

    def as_json(self) -> dict[str, Any]:
        """The answer of `dovetail reproduce --json`."""
        return {
            "ref": self.ref,
            "model": self.model,
            "commit": self.commit,
            **(self.result.as_json() if self.result else _NO_RESULT),
            "missing": [finding.as_json("what", "why", "next") for finding in self.missing],
            "output": self.output,
            "environment": self.environment.as_json(),
            "version": self.version,
            "problems": list(self.problems),
            "seconds": self.seconds,
        }


@dataclass(frozen=True, slots=True)
class _Original:
    """What a REF names: a model's lineage, the packages it was made with, and the commits that may hold it."""

    model: str
    lineage: Lineage
    packages: Environment | None
    trees: tuple[Revision, ...]
    value: str | None = None  # the digest of what it is, whatever its bytes


def reproduce(
    workspace: Workspace,
    tracking: Tracking,
    request: ReproduceRequest,
    *,
    tell: Callable[[str], None] = lambda _: None,
) -> ReproduceAnswer:
    """Rebuild a model from its commit and data, compare it, and tag the verdict on the version, if there is one.

    `tell` hears what is being done.

    Raises:
        UnknownReference: naming what there is.
        UserError: when no commit holds it yet, or the commit has no lock file for a fresh environment.
        Untrusted: when the version in MLflow is not what git's tag names.
        OutsideError: when MLflow or the remote does not answer, or no environment can be built.
        Interrupted: after Ctrl-C or a signal; everything is as it was.
    """
    start, ref = time.monotonic(), request.ref
    tree, result, packages = None, None, None
    lacking: tuple[Finding, ...] = ()
    output = ""
    try:
        with interruptible():
            original = _original(workspace, tracking, ref)
            try:
                tree = _tree(workspace, original)
                if request.fresh_env and tree.environment is None:
                    raise UserError(f"{tree.where} has no {PINS}", f"dovetail reproduce {ref}, without --fresh-env")
                lineage = replace(
                    original.lineage, stages=tuple(tree.records[stage.name] for stage in original.lineage.stages)
                )  # the same, with what DVC says of its own digests
                wanted = RebuildRequest(
                    tree, original.model, lineage, original.packages, request.fresh_env, original.value, request.workers
                )
                result = rebuild(workspace, wanted, tell)
            except RebuildImpossible as impossible:
                lacking, output, packages = impossible.missing, impossible.output, impossible.packages
            else:
                packages = result.packages
    except KeyboardInterrupt as error:
        raise Interrupted(f"{ref} was not rebuilt, everything is as it was", "run the same command again") from error
    environment = compare_environments(original.packages, packages, fresh=request.fresh_env)
    version, problems = _tag(tracking, original, result.verdict if result else IMPOSSIBLE, environment)
    return ReproduceAnswer(
        ref=ref,
        model=original.model,
        commit=tree.commit.sha if tree else None,
        result=result,
        missing=lacking,
        output=output,
        environment=environment,
        version=version,
        problems=problems,
        seconds=round(time.monotonic() - start, 3),
    )


def _original(workspace: Workspace, tracking: Tracking, text: str) -> _Original:
    reference = parse(text, frozenset())
    if isinstance(reference, ByCommit):  # git and DVC know all of it; MLflow may be asked what it was made with
        tree = workspace.tree_of(reference.rev)
        if not isinstance(tree, Revision):
            raise UnknownReference(
                "the workspace is not a commit", f"git commit, then: dovetail reproduce HEAD:{reference.model}"
            )
        lineage = tree.lineage(tree.model(reference.model))
        recorded = _recorded(tracking, reference.model, lineage) or tree.environment
        return _Original(reference.model, lineage, recorded, (tree,))
    if not tracking.exists:
        what = f"{text!r} must be looked up in MLflow, but there is no store at {tracking.uri}"
        raise UnknownReference(what, "dovetail sync")
    with tracking.store() as store:
        models = store.models()
        reference = parse(text, frozenset(models))
        if isinstance(reference, ByPath | ByDigest):
            raise UnknownReference(unknown("MLflow", "model", text, models), "dovetail list")
        named = resolve(workspace, store, reference)
        check_ledger(workspace, store, reference, named)
        packages = store.text(named.run.id, ENVIRONMENT_FILE)
        value = named.run.tags.get(MODEL_VALUE)
    commits = [
        *workspace.commits_with(named.lineage.kept.md5),
        *filter(None, map(workspace.git.commit, ("HEAD", named.run.tags.get(GIT_COMMIT, "HEAD")))),
    ]
    trees = {commit.sha: workspace.at(commit) for commit in commits}
    made_with = pinned(packages) if packages else None
    return _Original(named.model, named.lineage, made_with, tuple(trees.values()), value)


def _recorded(tracking: Tracking, model: str, lineage: Lineage) -> Environment | None:
    """The packages that MLflow shows for this lineage, as far as it answers."""
    if not tracking.exists:
        return None
    try:
        with tracking.store() as store:
            version = _version(store, model, lineage)
            text = store.text(version.run_id, ENVIRONMENT_FILE) if version else None
    except StoreError:  # the answer says so, when the verdict cannot be tagged either
        return None
    return pinned(text) if text else None


def _version(store: Store, model: str, lineage: Lineage) -> Version | None:
    """The version of this lineage: the same bytes made in another way are something else to rebuild."""
    version = store.find_version(model, lineage.artifact.md5)
    run = store.run(version.run_id) if version else None
    return version if run and run.tags.get(FINGERPRINT) == lineage.fingerprint else None


def _tree(workspace: Workspace, original: _Original) -> Revision:
    """The commit that holds this lineage, preferably one that holds the same code.

    Raises:
        RebuildImpossible: when there is none any more.
        UserError: when there is none yet.
    """
    artifact = original.lineage.artifact
    what = f"{artifact.path} (md5 {artifact.md5})"
    if not any(stage.makes(artifact.path) for stage in original.lineage.stages):
        raise RebuildImpossible([missing(f"what makes {what}", "no stage does", "let a stage in dvc.yaml write it")])
    holding = (tree for tree in original.trees if _records(tree, original.lineage))
    first = None
    for tree in holding:
        if _has_code(tree, original.lineage):
            return tree
        first = first or tree
    if first:
        return first
    if _records(workspace.tree, original.lineage):
        raise UserError(f"no commit holds {what}", "git add -A && git commit, then run the same command again")
    next_command = "git fetch --unshallow" if workspace.git.is_shallow else "git fetch --all, where its commit is"
    raise RebuildImpossible(
        [missing(f"the commit of {what}", "no branch, tag or experiment here holds its dvc.lock", next_command)]
    )


def _records(tree: Tree, lineage: Lineage) -> bool:
    """Whether the tree's dvc.lock records exactly these stages."""
    try:
        found = tree.records
    except DovetailError:
        return False
    return all(stage.name in found and found[stage.name].as_json() == stage.as_json() for stage in lineage.stages)


def _has_code(tree: Revision, lineage: Lineage) -> bool:
    """Whether the files and the folders of code that git keeps are those that the stages read."""
    made = {out.path for stage in lineage.stages for out in stage.outs}
    deps = {dep for stage in lineage.stages for dep in stage.deps if tree.keeps(dep.path) and dep.path not in made}
    return all(tree.file(dep.path).md5 == dep.md5 for dep in deps if not dep.is_folder or dep.path in lineage.code)


def _tag(
    tracking: Tracking, original: _Original, verdict: str, environment: EnvironmentComparison
) -> tuple[int | None, tuple[str, ...]]:
    """Tag the verdict on the version; returns its number, and why that could not be done."""
    if not tracking.exists:
        return None, ()
    changed = describe(environment.changed)[:_TAG_LIMIT] or "nothing"
    attempt = Reproduction(
        verdict=verdict,
        time=datetime.now(UTC).isoformat(timespec="seconds"),
        env_md5=environment.md5 or "none",
        env_changed="unknown" if environment.identical is None else changed,
    )
    try:
        with tracking.store() as store:
            version = _version(store, original.model, original.lineage)
            if version:
                shown = {readable_tags.REPRODUCED: readable_tags.look(verdict, attempt.time)}
                store.tag_version(version, attempt.tags() | shown)
    except StoreError as error:  # hours of work are not thrown away for it
        return None, (f"the verdict is tagged on no version: {error}",)
    return version.number if version else None, ()
