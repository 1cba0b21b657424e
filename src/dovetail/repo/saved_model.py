"""A model in a folder, as a tree holds it: which file it is, its card where MLflow wrote it, or why there is none."""

from collections.abc import Sequence
from typing import Any, Protocol

from dovetail.errors import DataUnavailable, MissingFile
from dovetail.models import mlflow_folder
from dovetail.models.unsupported import unsupported_folder
from dovetail.repo.dvc_values import Model
from dovetail.values.documents import Unreadable, decoded, load_yaml
from dovetail.values.lineage import FileRef

SUFFIXES = (".joblib", ".pkl", ".pickle", ".skops", ".cbm", ".onnx", ".ubj")  # by which a model is found in a folder


class Files(Protocol):
    """What is asked of a tree."""

    def file(self, path: str) -> FileRef:
        """The file or folder at `path`."""

    def listing(self, ref: FileRef) -> list[FileRef]:
        """Every file below the folder."""

    def read(self, ref: FileRef) -> bytes:
        """The bytes of the file."""

    def parsed(self, ref: FileRef) -> Any:
        """The document in the file."""


def model_file(tree: Files, model: Model, inside: Sequence[FileRef]) -> FileRef | None:
    """The file that is the model, of the files in the model's folder; None where MLflow did not write it.

    Of a flavor whose model is not one file it is the folder.

    Raises:
        MissingFile: when it is of a kind that cannot be registered, or the model's file is not there.
    """
    described = _named(inside, f"{model.path}/{mlflow_folder.MLMODEL}")
    if described is None:
        what = unsupported_folder(file.path for file in inside)
        if what and not any(file.path.endswith(SUFFIXES) for file in inside):
            raise MissingFile(f"the folder {model.path} of model {model.name!r} is {what.what}", what.next_command)
        return None
    mlmodel = _mlmodel(tree, described)
    path = mlflow_folder.model_file(mlmodel)
    if path and (found := _named(inside, f"{model.path}/{path}")):
        return found
    if path is None and mlflow_folder.loader_of(mlmodel):
        return tree.file(model.path)
    raise MissingFile(
        f"{model.path} of model {model.name!r} is an MLflow model of {mlflow_folder.flavors_of(mlmodel)}, "
        + (f"which names {path}, and that is not there" if path else "whose MLmodel names no loader"),
        "correct what writes it, then: dvc repro" if path else "export it to ONNX",
    )


def card(tree: Files, model: Model) -> dict[str, Any] | None:
    """What a folder that MLflow wrote says of its model's inputs and output; None where it says nothing."""
    try:
        ref = tree.file(model.path)
        inside = tree.listing(ref) if ref.is_folder else []
        described = _named(inside, f"{model.path}/{mlflow_folder.MLMODEL}")
        if described is None:
            return None
        mlmodel = _mlmodel(tree, described)
        example = _named(inside, f"{model.path}/{mlflow_folder.example_file(mlmodel)}")
        pins = _named(inside, f"{model.path}/{mlflow_folder.REQUIREMENTS}")
        return mlflow_folder.card_of(
            mlmodel, tree.parsed(example) if example else None, decoded(tree.read(pins)) if pins else ""
        )
    except (MissingFile, DataUnavailable, Unreadable):
        return None


def _mlmodel(tree: Files, described: FileRef) -> Any:
    try:
        return load_yaml(tree.read(described))
    except Unreadable as error:
        raise MissingFile(
            f"{described.path} cannot be read: {error}", "correct what writes it, then: dvc repro"
        ) from error


def _named(files: Sequence[FileRef], path: str) -> FileRef | None:
    return next((file for file in files if file.path == path), None)
