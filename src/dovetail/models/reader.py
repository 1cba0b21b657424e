"""Read a model of any kind, told by its content."""

import os
import re
from collections.abc import Iterable
from io import BytesIO
from pathlib import Path
from typing import Any

from dovetail import joblib_model, native_model
from dovetail.joblib_model import NotAllowedError, UnreadableError
from dovetail.models import folder_model, network_file
from dovetail.models.unsupported import broken, unsupported

# Read by onnxruntime on import, which else writes to the user's home and complains where it may not.
ENV_NO_ORT_TELEMETRY = "ORT_DISABLE_TELEMETRY"
_HEAD = 4096  # bytes that tell a format
_WITHOUT_CODE = "write an estimator that holds no code: its functions lie in a module, not in lambdas"
_BY_NAME = {
    ".cbm": "CatBoost", ".ubj": "XGBoost", ".onnx": "ONNX", ".skops": "skops", ".pt": "PyTorch", ".pth": "PyTorch",
    ".keras": "Keras", ".h5": "HDF5", ".safetensors": "safetensors",
}  # fmt: skip


class UnsupportedError(UnreadableError):
    """The file is of a kind that cannot be registered as it is; `next_command` says how to get to one that can."""

    def __init__(self, what: str, next_command: str) -> None:
        super().__init__(what)
        self.next_command = next_command


class UntrustedLoaderError(UnsupportedError):
    """It is a folder, or the file of a network, whose loader is not trusted on this machine."""


def read(content: bytes, allow: Iterable[str] = (), file: Path = Path()) -> Any:
    """The model in `content`: an object with `predict`, if it is one that predicts.

    Keras loads no bytes, but the `file` that holds them. A network is read where its loader is trusted on this machine.

    Raises:
        NotAllowedError: before what a pickle names is called, unless the table or `allow` hold it.
        UnreadableError: when it cannot be read here, whatever is allowed; UnsupportedError where its kind is known.
    """
    if network := network_file.kind_in(BytesIO(content)):
        return _network(file, content, network)
    if what := unsupported(content):
        raise UnsupportedError(what.what, what.next_command)
    if kind := native_model.format_of(content):
        if _is_cut(content, kind):  # it would end the process
            raise UnreadableError(f"it begins like a model of {kind}, which cannot read it: its end is missing")
        os.environ.setdefault(ENV_NO_ORT_TELEMETRY, "1")
        try:
            return native_model.read(content)
        except native_model.UnreadableModelError as error:
            raise UnreadableError(str(error)) from error.__cause__
    return _pickled(content, tuple(allow))


def _network(file: Path, content: bytes, kind: network_file.NetworkFile) -> Any:
    if what := network_file.refusal(kind):
        raise UntrustedLoaderError(what.what, what.next_command)
    return network_file.read(file, content, kind)


def _pickled(content: bytes, allowed: tuple[str, ...]) -> Any:
    try:
        return joblib_model.read(content, allowed)
    except NotAllowedError as error:
        if re.fullmatch(r"[\w.]+", error.name) and error.name not in allowed:
            raise
        raise UnsupportedError(f"it holds {error.name}, which nothing can allow", _WITHOUT_CODE) from error
    except UnreadableError as error:
        if what := broken(content, error.__cause__):
            raise UnsupportedError(what.what, what.next_command) from error
        raise


def _is_cut(content: bytes, kind: str) -> bool:
    return kind == "lightgbm" and b"\ntree_sizes=" in content and b"\nend of trees" not in content


def read_at(path: Path, allow: Iterable[str] = ()) -> Any:
    """The model in a file, or in a folder that MLflow wrote.

    A folder, or the file of a network, is read where its loader is trusted on this machine.

    Raises:
        NotAllowedError, UnreadableError: as for `read`.
    """
    if not path.is_dir():
        return read(path.read_bytes(), allow, path)
    if what := folder_model.refusal(path):
        raise UntrustedLoaderError(what.what, what.next_command)
    return folder_model.read(path)


def format_of(file: Path) -> str | None:
    """Which library's own format the file has, by its first bytes alone; None for pickles, skops and folders."""
    if file.is_dir():
        return None
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
    """The file's kind in a word, as MLflow shows it: joblib for every pickle, the flavor of a folder."""
    if file.is_dir():
        return folder_model.kind_of(file)
    if network := network_file.kind_of(file):
        return network.flavor[0]
    with file.open("rb") as content:
        head = content.read(_HEAD)
    return native_model.format_of(head) or ("skops" if head.startswith(b"PK") else "joblib")


def packages_of(file: Path) -> tuple[str, ...]:
    """The distributions that the file's format needs, besides those of any model; alternatives are among them."""
    if not file.is_dir() and (network := network_file.kind_of(file)):
        return network.packages
    kind = format_of(file)
    return native_model.PACKAGES[kind] if kind else ()
