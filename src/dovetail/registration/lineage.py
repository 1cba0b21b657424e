"""Lineage both ways: from a version up to the raw data that made it, from data down to every version made of it."""

from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from dovetail.errors import DovetailError, UnknownReference
from dovetail.registration.resolve import TrackedModel, resolve
from dovetail.repo.git_values import Commit
from dovetail.repo.workspace import Workspace
from dovetail.tracking.connection import Tracking
from dovetail.tracking.run_content import ENVIRONMENT_FILE
from dovetail.tracking.store import RunDetails, Store
from dovetail.values import tag_keys
from dovetail.values.answer import Answer
from dovetail.values.environment import Environment, pinned
from dovetail.values.lineage import Lineage
from dovetail.values.names import unknown
from dovetail.values.reference import ByDigest, ByPath, ByVersion, parse
from dovetail.values.scored import Scored, scored_below
from dovetail.values.scored import scored as scored_file


@dataclass(frozen=True, slots=True)
class LineageRequest:
    """What to explain: a reference to a model, a data file's path or md5, or a file that `dovetail predict` wrote.

    `scored` is a folder: of its scored files those are told that these versions wrote.
    """

    ref: str
    scored: Path | None = None


@dataclass(frozen=True, slots=True, repr=False)
class ModelLineage(Answer):
    """What made a version, or a run without one.

    Attributes:
        verified: Whether the bytes that MLflow stores have the digest that dvc.lock records.
        commits: Those that record the model, newest first.
        available: Where the bytes of each data file are kept, by md5: `cache`, `remote`, `git`.
        scored: What a scored file says of itself, where one was asked for.
        scored_files: Those that the version wrote below the folder that was asked for; None where none was.
    """

    model: str
    version: int | None
    aliases: tuple[str, ...]
    run: RunDetails
    lineage: Lineage
    verified: bool
    commits: tuple[Commit, ...]
    available: Mapping[str, list[str]]
    environment: Environment
    scored: Scored | None = None
    scored_files: tuple[str, ...] | None = None

    def __repr__(self) -> str:
        name = f"{self.model}/{self.version}" if self.version else f"runs:/{self.run.id}"
        return f"<ModelLineage {name}: {len(self.lineage.stages)} stages, {len(self.lineage.data)} data files>"

    def as_json(self) -> dict[str, Any]:
        """The answer of `dovetail lineage --json` for a model."""
        made = self.lineage
        return {
            "model": self.model,
            "version": self.version,
            "aliases": list(self.aliases),
            "run_id": self.run.id,
            "fingerprint": made.fingerprint,
            "artifact": {**made.artifact.as_json(), "verified": self.verified},
            "commits": [commit.as_json() for commit in self.commits],
            "stages": made.as_json()["stages"],
            "data": [
                {
                    "path": ref.path,
                    "md5": ref.md5,
                    "role": role,
                    "available": self.available[ref.md5],
                    "origin": made.origin(ref),
                }
                for ref, role in made.data.items()
            ],
            "params": made.params,
            "metrics": dict(self.run.metrics),
            "environment": {
                "python": self.environment.python,
                "md5": self.run.tags.get(tag_keys.ENV_MD5),
                "packages": self.environment.packages,
                "computing": dict(self.environment.computing),
            },
            **({"scored": self.scored.as_json()} if self.scored else {}),
            **({} if self.scored_files is None else {"scored_files": list(self.scored_files)}),
        }


@dataclass(frozen=True, slots=True)
class VersionOfData:
    """A version that was made of the data."""

    model: str
    version: int
    aliases: tuple[str, ...]
    run_id: str

    def as_json(self) -> dict[str, Any]:
        """The entry in the answer of `dovetail lineage --json`."""
        return {
            "model": self.model,
            "version": self.version,
            "aliases": list(self.aliases),
            "run_id": self.run_id,
        }


@dataclass(frozen=True, slots=True, repr=False)
class DataLineage(Answer):
    """Every version and run that was made of a data file; `path` is None where an md5 was asked for.

    `scored_files` are those that these versions wrote below the folder that was asked for; None where none was.
    """

    path: str | None
    md5: str
    versions: tuple[VersionOfData, ...]
    runs: tuple[str, ...]
    scored_files: tuple[str, ...] | None = None

    def __repr__(self) -> str:
        return f"<DataLineage {self.path or self.md5}: {len(self.versions)} versions, {len(self.runs)} runs>"

    def as_json(self) -> dict[str, Any]:
        """The answer of `dovetail lineage --json` for data."""
        return {
            "path": self.path,
            "md5": self.md5,
            "versions": [version.as_json() for version in self.versions],
            "runs": list(self.runs),
            **({} if self.scored_files is None else {"scored_files": list(self.scored_files)}),
        }


LineageAnswer = ModelLineage | DataLineage
AnyLineage = TypeVar("AnyLineage", ModelLineage, DataLineage)


def lineage(workspace: Workspace, tracking: Tracking, request: LineageRequest) -> LineageAnswer:
    """What made a model, or the version that scored a file, or what was made of a data file.

    Raises:
        UnknownReference: naming what there is.
        StoreError: when MLflow does not answer.
        MissingFile: when the folder of scored files is not there.
    """
    scored = _scored(workspace, request.ref)
    with tracking.reading() as store:
        if scored:
            found = _of_model(workspace, store, resolve(workspace, store, _version_of(store, scored)))
            return _with_files(replace(found, scored=scored), request.scored, {found.lineage.artifact.md5})
        reference = parse(request.ref, frozenset(workspace.tree.declared.models) | frozenset(store.models()))
        if isinstance(reference, ByPath | ByDigest):
            down, models = _of_data(workspace, store, reference)
            return _with_files(down, request.scored, models)
        found = _of_model(workspace, store, resolve(workspace, store, reference))
        return _with_files(found, request.scored, {found.lineage.artifact.md5})


def _with_files(answer: AnyLineage, folder: Path | None, models: Collection[str]) -> AnyLineage:
    """The answer with the scored files below the folder that models of these digests wrote."""
    return replace(answer, scored_files=scored_below(folder, models)) if folder else answer


def _scored(workspace: Workspace, path: str) -> Scored | None:
    """What a file that `dovetail predict` wrote says of itself; None where `path` names none."""
    for file in (Path(path), workspace.root / path):
        if path.endswith(".parquet") and file.is_file():
            import pyarrow as pa  # a tenth of a second, for a path alone

            with suppress(pa.ArrowException, OSError):  # data like any other
                found = scored_file(file)
                return found[0] if found else None
    return None


def _version_of(store: Store, scored: Scored) -> ByVersion:
    """The version that scored a file: the one with its bytes, whatever number it has in this store.

    Raises:
        UnknownReference: when there is none.
    """
    version = store.find_version(scored.model, scored.md5)
    if version is None:
        what = f"it was scored by {scored.model}/{scored.version} (md5 {scored.md5}), which MLflow does not have"
        raise UnknownReference(what, "dovetail sync --all")
    return ByVersion(scored.model, version.number)


def _of_model(workspace: Workspace, store: Store, found: TrackedModel) -> ModelLineage:
    made = found.lineage
    aliases = store.aliases(found.model).items()
    return ModelLineage(
        model=found.model,
        version=found.version,
        aliases=tuple(sorted(alias for alias, number in aliases if number == found.version)),
        run=found.run,
        lineage=made,
        verified=store.stored_md5(found.run.id, made.artifact) == made.artifact.md5,
        commits=tuple(workspace.commits_with(made.kept.md5)),
        available=workspace.remote.available(list(made.data)),
        environment=pinned(store.text(found.run.id, ENVIRONMENT_FILE) or ""),
    )


def _of_data(workspace: Workspace, store: Store, reference: ByPath | ByDigest) -> tuple[DataLineage, set[str]]:
    """What was made of the data, and the digests of the models among it."""
    path, md5 = (None, reference.md5) if isinstance(reference, ByDigest) else _current(workspace, reference.path)
    runs = store.runs_with_data(md5)
    aliases: dict[str, dict[str, int]] = {}
    versions = []
    models = {run.model_md5 for run in runs if run.model_md5}
    for version in store.versions_of_bytes(models):
        if version.model not in aliases:
            aliases[version.model] = store.aliases(version.model)
        named = aliases[version.model].items()
        own = tuple(sorted(alias for alias, number in named if number == version.number))
        versions.append(VersionOfData(version.model, version.number, own, version.run_id))
    if not runs and isinstance(reference, ByDigest) and not workspace.commits_with(md5):
        raise UnknownReference(
            f"neither MLflow nor any dvc.lock knows md5 {md5}",
            "git fetch --all --tags, then run the same command again",
        )
    return DataLineage(path, md5, tuple(versions), tuple(run.id for run in runs)), models


def _current(workspace: Workspace, path: str) -> tuple[str, str]:
    """The path from the root, and the digest that dvc.lock records for it, else the one that DVC gives it."""
    clean = workspace.relative(path)
    refs = [ref for record in workspace.tree.records.values() for ref in (*record.deps, *record.outs)]
    for ref in refs:
        if ref.path == clean:
            return clean, ref.md5
    try:
        return clean, workspace.storage.hash(clean).md5
    except DovetailError as error:
        made = {out.path for record in workspace.tree.records.values() for out in record.outs}
        code = {ref for ref in refs if ref.is_code or (ref.is_folder and workspace.tree.is_code_folder(ref))}
        sources = sorted({ref.path for ref in refs if ref not in code} - made)
        what = unknown("this repository", "model or data", path, [*workspace.tree.declared.models, *sources])
        raise UnknownReference(what, "dovetail list") from error
