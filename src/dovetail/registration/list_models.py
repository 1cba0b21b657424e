"""`dovetail list`: the models of dvc.yaml and of MLflow, their versions, and what the aliases name."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from dovetail.errors import UnknownModel
from dovetail.repo.workspace import Workspace
from dovetail.tracking.connection import Tracking
from dovetail.tracking.store import Store, Version
from dovetail.values.answer import Answer
from dovetail.values.names import unknown
from dovetail.values.registered_name import registered_name


@dataclass(frozen=True, slots=True)
class ListRequest:
    """Every model, or one of them, whose versions' metrics are read then."""

    model: str | None = None


@dataclass(frozen=True, slots=True)
class ListedVersion:
    """A registered version; `created` in ISO format, UTC; `metrics` None where they were not asked for."""

    version: int
    md5: str | None
    aliases: tuple[str, ...]
    created: str
    run_id: str
    metrics: Mapping[str, float] | None

    def as_json(self) -> dict[str, Any]:
        """The entry in the answer of `dovetail list --json`."""
        return {
            "version": self.version,
            "md5": self.md5,
            "aliases": list(self.aliases),
            "created": self.created,
            "run_id": self.run_id,
            "metrics": None if self.metrics is None else dict(self.metrics),
        }


@dataclass(frozen=True, slots=True)
class ListedModel:
    """A model with its versions, newest first; `path` None: dvc.yaml does not declare it."""

    model: str
    path: str | None
    desc: str | None
    versions: tuple[ListedVersion, ...]

    def as_json(self) -> dict[str, Any]:
        """The entry in the answer of `dovetail list --json`."""
        return {
            "model": self.model,
            "path": self.path,
            "desc": self.desc,
            "aliases": {alias: one.version for one in self.versions for alias in one.aliases},
            "versions": [version.as_json() for version in self.versions],
        }


@dataclass(frozen=True, slots=True, repr=False)
class ListAnswer(Answer):
    """The models that dvc.yaml declares, in its order, then those that MLflow alone has."""

    models: tuple[ListedModel, ...]

    def __repr__(self) -> str:
        return f"<ListAnswer {', '.join(f'{one.model}: {len(one.versions)}' for one in self.models) or 'no model'}>"

    def as_json(self) -> dict[str, Any]:
        """The answer of `dovetail list --json`."""
        return {"models": [model.as_json() for model in self.models]}


def list_models(workspace: Workspace, tracking: Tracking, request: ListRequest = ListRequest()) -> ListAnswer:
    """The models, their versions and aliases.

    Raises:
        UnknownModel: when neither dvc.yaml nor MLflow has the model that is asked for.
        StoreError: when MLflow does not answer.
    """
    declared = workspace.tree.declared.models
    with tracking.reading() as store:
        names = list(dict.fromkeys([*declared, *store.models()]))
        asked = registered_name(request.model) if request.model is not None else None
        if asked is not None and asked not in names:
            raise UnknownModel(unknown("this repository", "model", request.model, names), "dovetail list")
        found = []
        for name in [asked] if asked else names:
            model = declared.get(name)
            versions = _versions(store, name, metrics=request.model is not None)
            found.append(ListedModel(name, model.path if model else None, model.desc if model else None, versions))
    return ListAnswer(tuple(found))


def _versions(store: Store, name: str, *, metrics: bool) -> tuple[ListedVersion, ...]:
    aliases = store.aliases(name).items()
    newest_first = sorted(store.versions(name), key=lambda version: -version.number)
    return tuple(
        ListedVersion(
            version=version.number,
            md5=version.md5,
            aliases=tuple(sorted(alias for alias, number in aliases if number == version.number)),
            created=datetime.fromtimestamp(version.created, UTC).isoformat(timespec="seconds"),
            run_id=version.run_id,
            metrics=_metrics(store, version) if metrics else None,
        )
        for version in newest_first
    )


def _metrics(store: Store, version: Version) -> Mapping[str, float]:
    run = store.run(version.run_id)
    return run.metrics if run else {}
