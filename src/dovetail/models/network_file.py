"""One file that is a whole network, as PyTorch or Keras writes it: told by its content, loaded by its framework.

Such a file can run any code when it is loaded, so it is asked for only where the machine's owner trusts the loader by
which MLflow loads it. Weights without their class are no model: `unsupported` says so.
"""

import pickletools
import zipfile
import zlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import IO, Any

from dovetail.joblib_model import UnreadableError
from dovetail.models import folder_model, mlflow_folder, trusted_loaders
from dovetail.models.unsupported import Unsupported

_LARGEST = 64 << 20  # bytes of a pickle without its tensors
_HDF5, _ZIP = b"\x89HDF\r\n", b"PK\x03\x04"
# What the pickle of weights alone names: tensors, and what keeps them.
_OF_WEIGHTS = frozenset({"collections", "builtins", "copyreg", "_codecs", "numpy", "torch", "argparse"})
_OF_TORCH = ("torch.nn.parameter", "torch._utils", "torch.storage", "torch._tensor", "torch.serialization")


@dataclass(frozen=True, slots=True, eq=False)
class NetworkFile:
    """A kind of file.

    Attributes:
        what: As a message says it.
        loader: The module by which MLflow loads it.
        flavor: MLflow's flavor, and what MLmodel says under it besides the framework's version.
        packages: The distributions that load it, alternatives among them; MLmodel says the version of the first.
        version_key: Under which key it says that.
        name: The file's name in MLflow's package, where the loader looks for it.
        companion_files: What the loader reads beside the file there: name → text.
        data: Where MLmodel says that `mlflow.pyfunc` finds it; empty where the loader takes the package as a whole.
        suffixes: By which the framework knows the file; it takes no other then.
    """

    what: str
    loader: str
    flavor: tuple[str, Mapping[str, Any]]
    packages: tuple[str, ...]
    version_key: str
    name: str
    load: Callable[[Path, bytes], Callable[[Any], Any]]
    companion_files: Mapping[str, str] = field(default_factory=dict)
    data: str = "data"
    suffixes: tuple[str, ...] = ()


class NetworkModel:
    """A network behind `predict`, as any estimator is."""

    def __init__(self, answer: Callable[[Any], Any]) -> None:
        self._answer = answer

    def predict(self, rows: Any) -> Any:
        """Shape (rows,), or (rows, outputs); a table is given as MLflow gives it, as float32."""
        import numpy as np

        given = np.asarray(rows)
        if hasattr(rows, "columns") or given.dtype == np.float64:
            given = given.astype(np.float32)
        found = np.asarray(self._answer(given))
        return found.reshape(-1) if found.ndim == 2 and found.shape[1] == 1 else found  # noqa: PLR2004


def refusal(kind: NetworkFile) -> Unsupported | None:
    """Why a file of this kind is not loaded; None where its loader is trusted on this machine."""
    return trusted_loaders.refusal(kind.loader, f"it is {kind.what}", "file")


def read(file: Path, content: bytes, kind: NetworkFile) -> NetworkModel:
    """The model in the file, once `refusal` found nothing. It may run code.

    Raises:
        UnreadableError: when it cannot be loaded here; its cause is a ModuleNotFoundError where a package is missing.
    """
    if kind.suffixes and file.suffix not in kind.suffixes:
        raise UnreadableError(f"it is {kind.what}, and Keras takes no file that is not called {kind.name}")
    try:
        return NetworkModel(kind.load(file, content))
    except ModuleNotFoundError as error:
        raise UnreadableError(f"it is {kind.what}, and {error.name} is not installed") from error


def kind_of(file: Path) -> NetworkFile | None:
    """What kind of network the file is; None for what is none."""
    with file.open("rb") as stream:
        return kind_in(stream)


def kind_in(stream: IO[bytes]) -> NetworkFile | None:
    """The same, of what can be read."""
    head = stream.read(len(_HDF5))
    if head == _HDF5:
        return _H5 if b"model_config" in stream.read() else None
    if not head.startswith(_ZIP):
        return None
    try:
        with zipfile.ZipFile(stream) as archive:
            return _in_archive(archive)
    except (zipfile.BadZipFile, zlib.error, ValueError, OSError, RuntimeError, EOFError):  # who reads it says so
        return None


def _in_archive(archive: zipfile.ZipFile) -> NetworkFile | None:
    members = {name.partition("/")[2]: name for name in archive.namelist()}  # PyTorch puts a folder around them
    members |= {name: name for name in archive.namelist()}
    if "constants.pkl" in members:
        return _TORCHSCRIPT
    if "archive_format" in members or "serialized_exported_program.json" in members:
        return _EXPORTED
    if "data.pkl" in members:
        found = archive.getinfo(members["data.pkl"])
        return _MODULE if found.file_size <= _LARGEST and _names_a_class(archive.read(found)) else None
    return _KERAS if {"config.json", "model.weights.h5"} <= members.keys() else None


def _names_a_class(pickled: bytes) -> bool:
    """Whether the pickle names more than tensors and what keeps them; nothing of it is run."""
    for operation, argument, _ in pickletools.genops(pickled):
        if operation.name == "GLOBAL":  # as PyTorch writes each name, by protocol 2
            module = str(argument).partition(" ")[0]
            if module.partition(".")[0] not in _OF_WEIGHTS or (module.startswith("torch.") and module not in _OF_TORCH):
                return True
    return False


def model_in(names: Iterable[str]) -> str | None:
    """Which of the names in a package's `data` is the model's file: it alone, or beside what its loader reads."""
    there = list(names)
    if len(there) > 1:
        there = [name for name in there if name not in _COMPANION_FILES]
    return there[0] if len(there) == 1 else None


def packaged_model(folder: Path) -> Path | None:
    """The model's file in an MLflow model at `folder`: what MLmodel names, or what lies in `data`, if one does."""
    named = mlflow_folder.data_of(folder_model.described(folder))
    if named and (folder / named).is_file():
        return folder / named
    name = model_in(sorted(file.name for file in (folder / "data").glob("*") if file.is_file()))
    return folder / "data" / name if name else None


def _torchscript(_: Path, content: bytes) -> Callable[[Any], Any]:
    import torch

    return _asked(torch.jit.load(BytesIO(content), map_location="cpu").eval())


def _module(_: Path, content: bytes) -> Callable[[Any], Any]:
    import torch

    model = torch.load(BytesIO(content), map_location="cpu", weights_only=False)
    if not isinstance(model, torch.nn.Module):
        raise UnreadableError(f"it holds a {type(model).__name__}, not a module of PyTorch")
    return _asked(model.eval())


def _exported(_: Path, content: bytes) -> Callable[[Any], Any]:
    import torch

    return _asked(torch.export.load(BytesIO(content)).module())


def _asked(model: Callable[[Any], Any]) -> Callable[[Any], Any]:
    import torch

    def answer(rows: Any) -> Any:
        with torch.no_grad():
            return model(torch.from_numpy(rows)).numpy()

    return answer


def _keras(file: Path, _: bytes) -> Callable[[Any], Any]:
    import keras

    model = keras.saving.load_model(str(file), compile=False)
    return lambda rows: model.predict(rows, verbose=0)


_PICKLES = {"pickle_module_info.txt": "mlflow.pytorch.pickle_module"}
_OF_H5 = {"keras_module.txt": "keras", "save_format.txt": "h5"}
_COMPANION_FILES = frozenset({*_PICKLES, *_OF_H5})
_TORCH = ("mlflow.pytorch", ("pytorch", {"model_data": "data", "code": None}), ("torch",), "pytorch_version")
_OF_KERAS = ("keras", "tensorflow", "tensorflow-cpu")
_TORCHSCRIPT = NetworkFile("a TorchScript model", *_TORCH, "model.pth", _torchscript, _PICKLES)
_MODULE = NetworkFile("a module of PyTorch, pickled whole", *_TORCH, "model.pth", _module, _PICKLES)
_EXPORTED = NetworkFile("a program of torch.export", *_TORCH, "model.pt2", _exported)
_KERAS = NetworkFile(
    "a Keras model", "mlflow.keras", ("keras", {"data": "data", "save_exported_model": False}),
    _OF_KERAS, "keras_version", "model.keras", _keras, data="", suffixes=(".keras",),
)  # fmt: skip
_H5 = NetworkFile(
    "a Keras model in HDF5", "mlflow.tensorflow",
    ("tensorflow", {"model_type": "keras", "data": "data", "keras_module": "keras", "save_format": "h5", "code": None}),
    _OF_KERAS, "keras_version", "model.h5", _keras, _OF_H5, suffixes=(".h5", ".hdf5"),
)  # fmt: skip
