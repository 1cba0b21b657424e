"""Read a model of any kind, told by its content."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from dovetail import joblib_model, native_model
from dovetail.joblib_model import UnreadableError
from dovetail.models.unsupported import unsupported

_HEAD = 4096  # bytes that tell a format
_BY_NAME = {
    ".cbm": "CatBoost", ".ubj": "XGBoost", ".onnx": "ONNX", ".skops": "skops", ".pt": "PyTorch", ".pth": "PyTorch",
    ".keras": "Keras", ".h5": "HDF5", ".safetensors": "safetensors",
}  # fmt: skip


class UnsupportedError(UnreadableError):
    """The file is of a kind that cannot be registered as it is; `remedy` says how to get to one that can."""

    def __init__(self, what: str, remedy: str) -> None:
        super().__init__(what)
        self.remedy = remedy


def read(content: bytes, allow: Iterable[str] = ()) -> Any:
    """The model in `content`: an object with `predict`, if it is one that predicts.

    Raises:
        NotAllowedError: before what a pickle names is called, unless the table or `allow` hold it.
        UnreadableError: when it cannot be read here; UnsupportedError where its kind is known.
    """
    if what := unsupported(content):
        raise UnsupportedError(what.what, what.remedy)
    if native_model.format_of(content):
        try:
            return native_model.read(content)
        except native_model.UnreadableModelError as error:
            raise UnreadableError(str(error)) from error.__cause__
    return joblib_model.read(content, allow)


def format_of(file: Path) -> str | None:
    """Which library's own format the file has, by its first bytes alone; None for pickles and skops."""
    with file.open("rb") as content:
        return native_model.format_of(content.read(_HEAD))


def loader_of(file: Path | None) -> Any:
    """The module that reads the file where it is served by MLflow; its FILES travel inside the model."""
    return native_model if file and format_of(file) else joblib_model


def named_otherwise(name: str, error: Exception) -> str:
    """The start of a sentence on a file that cannot be read: which format its name promises, where it is not that."""
    wanted = _BY_NAME.get(name[name.rfind(".") :].lower())
    return f"its name says {wanted}, which it is not: " if wanted and wanted.lower() not in str(error).lower() else ""


def kind_of(file: Path) -> str:
    """The file's kind in a word, as MLflow shows it: joblib for every pickle."""
    with file.open("rb") as content:
        head = content.read(_HEAD)
    return native_model.format_of(head) or ("skops" if head.startswith(b"PK") else "joblib")


def packages_of(file: Path) -> tuple[str, ...]:
    """The distributions that the file's format needs, besides those of any model; alternatives are among them."""
    kind = format_of(file)
    return native_model.PACKAGES[kind] if kind else ()
