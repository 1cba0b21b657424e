"""Files at an artifact address of MLflow: written in place if that is a local folder, else uploaded."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


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


def copy(source: Path, target: Path) -> None:
    """Copy a file or a folder, without the write protection that DVC's cache gives its files."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, target, copy_function=shutil.copyfile, dirs_exist_ok=True)
    else:
        shutil.copyfile(source, target)
