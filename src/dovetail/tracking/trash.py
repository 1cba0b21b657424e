"""MLflow's trash: runs and logged models that were deleted there but still have their bytes, and broken uploads."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from time import time
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from dovetail.values import tag_keys

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.store.artifact.artifact_repo import ArtifactRepository

RUN, MODEL, UPLOAD = "run", "logged model", "upload"
_DAY = 24 * 60 * 60 * 1000  # in milliseconds: an upload that has not ended in one will not end


@dataclass(frozen=True, slots=True)
class TrashItem:
    """Something in the trash; `versions` are the registered versions ("m/2") that need it all the same.

    `is_outside` says that its files are neither below the repository's root nor at an address that MLflow keeps.
    """

    kind: str
    id: str
    experiment: str
    location: str
    md5: str | None
    size: int
    versions: tuple[str, ...]
    is_outside: bool = False


def discarded(client: "MlflowClient", names: Iterable[str]) -> list[TrashItem]:
    """What lies in the trash of the experiments `names`, without what has no bytes any more.

    An experiment that is itself in the trash is left alone.
    """
    found = (client.get_experiment_by_name(name) for name in sorted(set(names)))
    experiments = {e.experiment_id: e.name for e in found if e is not None and e.lifecycle_stage == "active"}
    return [item for item in _items(client, experiments) if item.size] if experiments else []


def is_outside(location: str, root: Path) -> bool:
    """Whether files at `location` are on this machine and, links followed, not below `root`."""
    if urlsplit(location).scheme not in ("", "file"):
        return False
    return not Path(as_path(location)).resolve().is_relative_to(root.resolve())


def as_path(location: str) -> str:
    """The path of files on this machine, which MLflow may have as an address."""
    parsed = urlsplit(location)
    return unquote(parsed.path) if parsed.scheme else location


def delete_bytes(client: "MlflowClient", item: TrashItem) -> None:
    """Delete the bytes; the record stays in the trash, for `mlflow gc`."""
    if item.kind == UPLOAD:
        client.delete_logged_model(item.id)
    _artifacts(item.location).delete_artifacts()  # type: ignore[no-untyped-call]  # MLflow's own


def restore_models(client: "MlflowClient") -> list[str]:
    """Take the logged models that registered versions need out of the trash; MLflow itself has no command for it.

    Returns the versions.
    """
    from mlflow.entities import LifecycleStage

    users, found = _users(client), list[str]()
    store = client._tracking_client.store  # noqa: SLF001  (as for _deleted_models)
    for _, model in _deleted_models(client):
        if versions := users.get(model.model_id):
            with store.ManagedSessionMaker(read_only=False) as session:
                record = store._get_logged_model_record(session, model.model_id)  # noqa: SLF001
                record.lifecycle_stage = LifecycleStage.ACTIVE
                record.last_updated_timestamp_ms = int(time() * 1000)
            found += versions
    return found


def _items(client: "MlflowClient", experiments: dict[str, str]) -> Iterator[TrashItem]:
    from mlflow.entities import ViewType

    users = _users(client)
    token: str | None = None
    while True:
        page = client.search_runs(list(experiments), run_view_type=ViewType.DELETED_ONLY, page_token=token)
        for run in page:
            info, md5 = run.info, run.data.tags.get(tag_keys.MODEL_MD5)
            size, needed = _size(_artifacts(info.artifact_uri)), users.get(info.run_id, ())
            yield TrashItem(RUN, info.run_id, experiments[info.experiment_id], info.artifact_uri, md5, size, needed)
        if not (token := page.token):
            break
    for kind, model in [*_deleted_models(client), *_uploads(client, list(experiments))]:
        if model.experiment_id in experiments:
            name, md5 = experiments[model.experiment_id], model.tags.get(tag_keys.MODEL_MD5)
            size, needed = _size(_artifacts(model.artifact_location)), users.get(model.model_id, ())
            yield TrashItem(kind, model.model_id, name, model.artifact_location, md5, size, needed)


def _deleted_models(client: "MlflowClient") -> Iterator[tuple[str, Any]]:
    """Logged models in the trash: only a store with a database lists them, and only as `mlflow gc` asks it."""
    store = client._tracking_client.store  # noqa: SLF001  (the client cannot ask for them)
    for model_id in store._get_deleted_logged_models() if hasattr(store, "_get_deleted_logged_models") else ():  # noqa: SLF001
        yield MODEL, store.get_logged_model(model_id, allow_deleted=True)


def _uploads(client: "MlflowClient", experiments: list[str]) -> Iterator[tuple[str, Any]]:
    """Logged models that never became whole, begun more than a day ago."""
    token: str | None = None
    while True:
        page = client.search_logged_models(experiments, page_token=token)
        for model in page:
            if model.status != "READY" and model.creation_timestamp < time() * 1000 - _DAY:
                yield UPLOAD, model
        if not (token := page.token):
            return


def _users(client: "MlflowClient") -> dict[str, tuple[str, ...]]:
    """The registered versions that need a run or a logged model, by its id."""
    users: dict[str, tuple[str, ...]] = {}
    token: str | None = None
    while True:
        page = client.search_model_versions(page_token=token)
        for version in page:
            source = (version.source or "").rpartition("/")[2]
            for needed in {version.run_id or "", version.model_id or "", source} - {""}:
                users[needed] = (*users.get(needed, ()), f"{version.name}/{version.version}")
        if not (token := page.token):
            return users


def _artifacts(location: str) -> "ArtifactRepository":
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    return get_artifact_repository(location)


def _size(artifacts: "ArtifactRepository", path: str | None = None) -> int:
    entries = artifacts.list_artifacts(path)
    return sum(_size(artifacts, entry.path) if entry.is_dir else int(entry.file_size or 0) for entry in entries)
