"""MLflow's entry points: what a training script gains inside a DVC stage without a line of its own.

MLflow imports this file whenever it is imported, so it imports nothing heavy.
"""

import os
import platform
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

from mlflow.data.dataset_source import DatasetSource
from mlflow.tracking.context.abstract_context import RunContextProvider

from dovetail.repo.dvc_variables import ENV_EXPERIMENT, ENV_ROOT, ENV_STAGE
from dovetail.tracking.connection import ENV_TRACKING_URI, tracking_uri
from dovetail.tracking.store import SOURCE_TYPE
from dovetail.values import computing, stage_settings, tag_keys, tag_layout
from dovetail.values.lineage import FileRef

if ENV_STAGE in os.environ and ENV_ROOT in os.environ:
    # MLflow chooses its store before it asks any provider, so this import is the last moment to say where it is: in a
    # temporary experiment MLflow's own default lies in a folder that DVC deletes, and the run with it.
    os.environ[ENV_TRACKING_URI] = tracking_uri(Path(os.environ[ENV_ROOT]))
    # `mlflow run` lets every process below it write into its own run: a stage's run is the stage's.
    os.environ.pop("MLFLOW_RUN_ID", None)


class DvcRunContext(RunContextProvider):
    """Tags every run that is started inside a DVC stage with the stage, the experiment and the commit."""

    def in_context(self) -> bool:
        """Whether a DVC stage runs this process."""
        return ENV_STAGE in os.environ

    def tags(self) -> dict[str, str]:
        """Dovetail's tags, as far as they are known while the stage runs."""
        from dovetail.repo.git import Git

        commit = Git(Path.cwd()).commit("HEAD")
        known = {
            tag_keys.DVC_STAGE: os.environ.get(ENV_STAGE),
            tag_keys.DVC_EXPERIMENT: os.environ.get(ENV_EXPERIMENT),
            tag_keys.GIT_COMMIT: commit.sha if commit else None,
            tag_keys.DVC_INPUTS: _inputs(os.environ[ENV_STAGE], Path.cwd()),
            tag_keys.DVC_EXECUTION: _execution(),
            tag_keys.COMPUTING: _computing(),
        }
        return tag_layout.stored({key: value for key, value in known.items() if value})


@cache
def _inputs(stage: str, folder: Path) -> str | None:
    """The digest of what the running stage was given: by it `register` finds this run. None where DVC cannot tell."""
    from dovetail.errors import DovetailError
    from dovetail.repo.workspace import open_workspace

    try:
        with open_workspace() as workspace:
            record = workspace.pipeline.running(stage, folder)
    except DovetailError:
        return None  # a script that tracks is not to fail for it
    return record.inputs if record else None


def _computing() -> str | None:
    """What this very process computes with, which a stage may have set itself."""
    try:
        return stage_settings.settings_tag(computing.of_process())
    except ImportError:  # without threadpoolctl, which comes with scikit-learn
        return None


@cache
def _execution() -> str | None:
    """Which `dvc` process runs this stage: what one execution made, a forced repeat makes again."""
    import psutil

    from dovetail.repo.running_stage import runner

    try:
        process = runner()
        return f"{platform.node()} {process.pid} {process.create_time():.2f}" if process else None
    except psutil.Error:
        return None


class DvcDatasetSource(DatasetSource):
    """Data that DVC keeps: `load()` brings back the very bytes that a run used, from cache or remote, at any time."""

    def __init__(self, path: str, md5: str) -> None:
        self.path = path
        self.md5 = md5

    @staticmethod
    def _get_source_type() -> str:
        return SOURCE_TYPE

    def load(self, dst_path: str | None = None) -> str:
        """Lay the file or folder below `dst_path` (default: a new temporary folder) and return where it is.

        Called below the DVC repository, or inside one of its stages.

        Raises:
            NotARepository: when called outside a DVC repository.
            DataUnavailable: when the bytes are in no cache and no remote.
        """
        from dovetail.repo.workspace import open_workspace

        root = os.environ.get(ENV_ROOT)
        target = Path(dst_path or tempfile.mkdtemp(prefix="dovetail-")) / Path(self.path).name
        with open_workspace(Path(root) if root else None) as workspace:
            workspace.storage.write_to(FileRef(self.path, self.md5), target)
        return str(target)

    @staticmethod
    def _can_resolve(raw_source: Any) -> bool:  # noqa: ARG004  (MLflow's signature)
        return False  # it is named by a digest, never guessed from a path

    @classmethod
    def _resolve(cls, raw_source: Any) -> "DvcDatasetSource":
        raise NotImplementedError(f"a DVC source is not guessed from {raw_source!r}: give its path and md5")

    def to_dict(self) -> dict[str, str]:
        """What MLflow stores of it; `from_dict` is the inverse."""
        return {"path": self.path, "md5": self.md5}

    @classmethod
    def from_dict(cls, source_dict: dict[str, str]) -> "DvcDatasetSource":
        """The source that `to_dict` wrote."""
        return cls(source_dict["path"], source_dict["md5"])
