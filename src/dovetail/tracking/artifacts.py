"""Files at an artifact address of MLflow: written in place if that is a local folder, else uploaded."""

import re
import shutil
import tempfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

from dovetail.tracking.client import md5, none_if_missing


def local(location: str) -> Path | None:
    """The path of an artifact address that is one of this machine, told without MLflow; None where MLflow has to."""
    parts = urlsplit(location)
    if parts.query or parts.fragment or parts.netloc:
        return None
    if parts.scheme == "file":
        return Path(url2pathname(parts.path))
    return Path(location) if location.startswith("/") and not parts.scheme else None


def packaged_name(name: str) -> str:
    """The name of a model's file in its package: MLflow reads `#`, `?` and `%41` in an address as no part of a path."""
    return re.sub("[#?%]", "_", name)


@contextmanager
def writing(location: str) -> Iterator[Path]:
    """A folder; what the block writes there is at the artifact address `location` afterwards."""
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
    from mlflow.store.artifact.local_artifact_repo import LocalArtifactRepository

    repository: Any = get_artifact_repository(location)  # untyped
    if isinstance(repository, LocalArtifactRepository):
        folder = Path(repository.artifact_dir)
        folder.mkdir(parents=True, exist_ok=True)
        yield folder
        return
    with tempfile.TemporaryDirectory() as temporary:
        yield Path(temporary)
        repository.log_artifacts(temporary)


@contextmanager
def reading(location: str) -> Iterator[Path]:
    """The files at the artifact address `location`: a local folder as it is, else downloaded for the block."""
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
    from mlflow.store.artifact.local_artifact_repo import LocalArtifactRepository

    repository: Any = get_artifact_repository(location)  # untyped
    if isinstance(repository, LocalArtifactRepository):
        yield Path(repository.artifact_dir)
        return
    with tempfile.TemporaryDirectory() as temporary:
        yield Path(repository.download_artifacts("", dst_path=temporary))


def keep_only(location: str, paths: Collection[str]) -> None:
    """Delete every other file at the artifact address, as far as its kind of store can delete."""
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    repository: Any = get_artifact_repository(location)  # untyped
    with suppress(NotImplementedError):  # what stays there, the package's digest shows
        for path, _ in _files(repository):
            if path not in paths:
                repository.delete_artifacts(path)


def holds(location: str, digest: str, size: int) -> bool:
    """Whether a file at the artifact address has these bytes; only those of `size` are read."""
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    repository: Any = get_artifact_repository(location)  # untyped
    with none_if_missing():  # a folder that nothing was written to
        files = [path for path, found in _files(repository) if found == size]
        return any(md5(repository.download_artifacts(path)) == digest for path in files)
    return False


def _files(repository: Any, folder: str | None = None) -> list[tuple[str, int | None]]:
    """The path and the size of every file."""
    return [
        file
        for entry in repository.list_artifacts(folder)
        for file in (_files(repository, entry.path) if entry.is_dir else [(entry.path, entry.file_size)])
    ]


def copy(source: Path, target: Path) -> None:
    """Copy a file or a folder, without the write protection that DVC's cache gives its files."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, target, copy_function=shutil.copyfile, dirs_exist_ok=True)
    else:
        shutil.copyfile(source, target)
