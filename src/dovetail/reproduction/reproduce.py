"""Rebuild a version from its commit and its data, and say whether the same comes out."""

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from dovetail.errors import DovetailError, Interrupted, StoreError, UnknownReference, UserError
from dovetail.registration.resolve import resolve
from dovetail.repo.tree import Snapshot
from dovetail.repo.trees import PINS, Revision
from dovetail.repo.workspace import Workspace
from dovetail.reproduction.rebuild import Impossible, Missing, Rebuilt, Wanted, rebuild
from dovetail.reproduction.verdict import IMPOSSIBLE, describe
from dovetail.system.processes import interruptible
from dovetail.tracking.connection import has_store, open_store, tracking_uri
from dovetail.tracking.run_content import ENVIRONMENT_FILE
from dovetail.tracking.store import Store, Version
from dovetail.values import environment
from dovetail.values.environment import Change, Environment, pinned
from dovetail.values.lineage import Lineage
from dovetail.values.reference import ByCommit, ByDigest, ByPath, parse
from dovetail.values.tag_keys import FINGERPRINT, GIT_COMMIT, Reproduction

_TAG_LIMIT = 4000  # characters of a tag's value that every version of MLflow takes


@dataclass(frozen=True, slots=True)
class _Subject:
    """What a REF names: a model's lineage, the packages it was made with, and where its commit may be found."""

    model: str
    lineage: Lineage
    packages: Environment | None
    trees: tuple[Revision, ...]


def reproduce(
    workspace: Workspace, text: str, *, fresh_env: bool = False, tell: Callable[[str], None] = lambda _: None
) -> dict[str, Any]:
    """The answer of `dovetail reproduce`. The verdict is tagged on the version, if there is one.

    `tell` hears what is being done.

    Raises:
        UnknownReference: naming what there is.
        UserError: when no commit holds it yet, or the commit has no lock file for a fresh environment.
        OutsideError: when MLflow or the remote does not answer, or no environment can be built.
        Interrupted: after Ctrl-C or a signal; everything is as it was.
    """
    start = time.monotonic()
    tree, done, packages = None, None, None
    missing: tuple[Missing, ...] = ()
    output = ""
    try:
        with interruptible():
            subject = _subject(workspace, text)
            try:
                tree = _tree(workspace, subject)
                if fresh_env and tree.environment is None:
                    raise UserError(f"{tree.where} has no {PINS}", f"dovetail reproduce {text}, without --fresh-env")
                wanted = Wanted(tree, subject.model, subject.lineage, subject.packages, fresh_env)
                done = rebuild(workspace, wanted, tell)
            except Impossible as impossible:
                missing, output, packages = impossible.missing, impossible.output, impossible.packages
            else:
                packages = done.packages
    except KeyboardInterrupt as error:
        raise Interrupted(f"{text} was not rebuilt, everything is as it was", "the same again") from error
    answer = {
        "ref": text,
        "model": subject.model,
        "commit": tree.commit.sha if tree else None,
        **_result(done),
        "missing": [asdict(one) for one in missing],
        "output": output,
        "environment": _environment(subject.packages, packages, fresh=fresh_env),
    }
    version, problems = _tag(workspace, subject, answer)
    return {**answer, "version": version, "problems": problems, "seconds": round(time.monotonic() - start, 3)}


def _subject(workspace: Workspace, text: str) -> _Subject:
    reference = parse(text, frozenset())
    if isinstance(reference, ByCommit):  # git and DVC know all of it; MLflow may be asked what it was made with
        tree = workspace.tree_of(reference.rev)
        if not isinstance(tree, Revision):
            raise UnknownReference(
                "the workspace is no commit", f"git commit, then: dovetail reproduce HEAD:{reference.model}"
            )
        found = tree.lineage(tree.model(reference.model))
        return _Subject(
            reference.model, found, _recorded(workspace, reference.model, found) or tree.environment, (tree,)
        )
    if not has_store(workspace.store_root):
        uri = tracking_uri(workspace.store_root)
        raise UnknownReference(f"{text!r} is to be looked up in MLflow, but {uri} is not there", "dovetail sync")
    with open_store(workspace.store_root) as store:
        models = store.models()
        reference = parse(text, frozenset(models))
        if isinstance(reference, ByPath | ByDigest):
            known = ", ".join(models) or "none"
            raise UnknownReference(f"{text!r} names no registered model; there are: {known}", "dovetail status")
        named = resolve(workspace, store, reference)
        packages = store.text(named.run.id, ENVIRONMENT_FILE)
    commits = [
        *workspace.commits_with(named.lineage.kept.md5),
        *filter(None, map(workspace.git.commit, ("HEAD", named.run.tags.get(GIT_COMMIT, "HEAD")))),
    ]
    trees = {commit.sha: workspace.at(commit) for commit in commits}
    return _Subject(named.model, named.lineage, pinned(packages) if packages else None, tuple(trees.values()))


def _recorded(workspace: Workspace, model: str, lineage: Lineage) -> Environment | None:
    """The packages that MLflow shows for this lineage, as far as it can be asked."""
    if not has_store(workspace.store_root):
        return None
    try:
        with open_store(workspace.store_root) as store:
            version = _version(store, model, lineage)
            text = store.text(version.run_id, ENVIRONMENT_FILE) if version else None
    except StoreError:  # said when the verdict cannot be tagged either
        return None
    return pinned(text) if text else None


def _version(store: Store, model: str, lineage: Lineage) -> Version | None:
    """The version of this lineage: the same bytes made otherwise are another thing to rebuild."""
    version = store.find_version(model, lineage.artifact.md5)
    run = store.run(version.run_id) if version else None
    return version if run and run.tags.get(FINGERPRINT) == lineage.fingerprint else None


def _tree(workspace: Workspace, subject: _Subject) -> Revision:
    """The commit that holds this lineage, one with the very code before others.

    Raises:
        Impossible: when there is none any more.
        UserError: when there is none yet.
    """
    artifact = subject.lineage.artifact
    what = f"{artifact.path} (md5 {artifact.md5})"
    if not any(stage.makes(artifact.path) for stage in subject.lineage.stages):
        raise Impossible([Missing(f"what makes {what}", "no stage does", "let a stage in dvc.yaml write it")])
    holding = (tree for tree in subject.trees if _records(tree, subject.lineage))
    first = None
    for tree in holding:
        if _has_code(tree, subject.lineage):
            return tree
        first = first or tree
    if first:
        return first
    if _records(workspace.tree, subject.lineage):
        raise UserError(f"no commit holds {what}", "git add -A && git commit, then the same again")
    following = "git fetch --unshallow" if workspace.git.is_shallow else "git fetch --all, where its commit is"
    raise Impossible(
        [Missing(f"the commit of {what}", "no branch, tag or experiment here holds its dvc.lock", following)]
    )


def _records(tree: Snapshot, lineage: Lineage) -> bool:
    """Whether the tree's dvc.lock records these very stages."""
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


def _result(done: Rebuilt | None) -> dict[str, Any]:
    if done is None:
        nothing: dict[str, Any] = dict.fromkeys(("first_difference", "cause", "metrics"))
        return {"verdict": IMPOSSIBLE, "outputs": [], **nothing, "inputs": [], "stages": [], "frozen": []}
    return {
        "verdict": done.verdict,
        "outputs": [output.as_json() for output in done.outputs],
        "first_difference": done.first.as_json() if done.first else None,
        "cause": asdict(done.cause) if done.cause else None,
        "inputs": list(done.inputs),
        "metrics": None if done.metrics is None else {"identical": not done.metrics, "changed": list(done.metrics)},
        "stages": [{"name": name, "seconds": round(seconds, 3)} for name, seconds in done.seconds.items()],
        "frozen": list(done.frozen),
    }


def _environment(expected: Environment | None, actual: Environment | None, *, fresh: bool) -> dict[str, Any]:
    """`identical` is None where nothing was run or nothing is recorded."""
    found = environment.changes(expected, actual) if expected and actual else ()
    # A lock file brings what it pins: installers, and the project's own package, are not in it.
    unpinned = [change.name for change in found if fresh and change.actual is None]
    changed = [asdict(change) for change in found if change.name not in unpinned]
    return {
        "identical": not changed if expected and actual else None,
        "changed": changed,
        "unpinned": unpinned,
        "md5": actual.md5 if actual else None,
        "fresh": fresh,
    }


def _tag(workspace: Workspace, subject: _Subject, answer: Mapping[str, Any]) -> tuple[int | None, list[str]]:
    """Tag the verdict on the version; returns its number, and why that could not be done."""
    if not has_store(workspace.store_root):
        return None, []
    found = answer["environment"]
    changed = describe([Change(**change) for change in found["changed"]])[:_TAG_LIMIT] or "nothing"
    attempt = Reproduction(
        verdict=answer["verdict"],
        time=datetime.now(UTC).isoformat(timespec="seconds"),
        env_md5=found["md5"] or "none",
        env_changed="unknown" if found["identical"] is None else changed,
    )
    try:
        with open_store(workspace.store_root) as store:
            version = _version(store, subject.model, subject.lineage)
            if version:
                store.tag_version(version, attempt.tags())
    except StoreError as error:  # hours of work are not thrown away for it
        return None, [f"the verdict is tagged on no version: {error}"]
    return version.number if version else None, []
