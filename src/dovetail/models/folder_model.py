"""A folder of an MLflow flavor whose model is not one file: loaded by the loader that its MLmodel names.

Such a loader can run any code that the folder holds, and no list of names bounds it. So it is asked for only where the
machine's owner trusts it, by an environment variable: a commit cannot set one. `docs/adr/0014` says why.
"""

import hashlib
from pathlib import Path
from typing import Any

import yaml

from dovetail.models import mlflow_folder, trusted_loaders
from dovetail.models.folder_md5 import folder_md5
from dovetail.models.unsupported import Unsupported

_LARGEST = 1 << 20  # bytes of an MLmodel


class FolderModel:
    """An MLflow model behind `predict`, as any estimator is."""

    def __init__(self, model: Any) -> None:
        self._model = model

    def predict(self, rows: Any) -> Any:
        """Predictions for the rows, in whatever form the flavor gives them."""
        schema = self._model.metadata.get_input_schema()
        if schema is not None and schema.is_tensor_spec() and not schema.has_input_names():
            import numpy as np

            rows = np.asarray(rows, dtype=schema.numpy_types()[0])  # MLflow takes a tensor of that very type
        return self._model.predict(rows)


def read(folder: Path) -> FolderModel:
    """The model in the folder, once `refusal` found nothing. It may run code."""
    import mlflow.pyfunc

    return FolderModel(mlflow.pyfunc.load_model(str(folder), suppress_warnings=True))


def refusal(folder: Path) -> Unsupported | None:
    """Why the folder's loader is not asked for; None where it is trusted on this machine."""
    mlmodel = described(folder)
    what = f"it is an MLflow model of {mlflow_folder.flavors_of(mlmodel)}"
    if loader := mlflow_folder.loader_of(mlmodel):
        return trusted_loaders.refusal(loader, what, "folder")
    return Unsupported(f"{what}, whose MLmodel names no loader", "export it to ONNX")


def kind_of(folder: Path) -> str:
    """The flavor in a word, as MLflow shows it."""
    return next(iter(mlflow_folder.flavor_names(described(folder))), "pyfunc")


def has_own_signature(path: Path) -> bool:
    """Whether it is a folder whose MLmodel has a signature, of whatever kind."""
    mlmodel = described(path) if path.is_dir() else None
    return isinstance(mlmodel, dict) and bool(mlmodel.get("signature"))


def described(folder: Path) -> Any:
    """What the folder's MLmodel says; None where there is none that can be read."""
    file = folder / mlflow_folder.MLMODEL
    try:
        return yaml.safe_load(file.read_bytes()) if file.stat().st_size <= _LARGEST else None
    except (OSError, yaml.YAMLError, ValueError, RecursionError):
        return None


def digest(folder: Path) -> str:
    """The md5 that DVC gives the folder, from the bytes of its files."""
    files = [file for file in folder.rglob("*") if not file.is_dir() and file != folder / mlflow_folder.REGISTERED_META]
    return folder_md5((file.relative_to(folder).as_posix(), _md5(file)) for file in files)


def _md5(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
