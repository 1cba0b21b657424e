"""A trained model and its file: joblib's format or, where the name ends in `.skops`, one that is no pickle."""

import io
import json
import re
import zipfile
from pathlib import Path
from typing import Any

import joblib
from joblib.numpy_pickle import NumpyUnpickler
from sklearn.base import is_classifier, is_regressor

from stages.common.errors import StageError

SKOPS = ".skops"
_DATE = (1980, 1, 1, 0, 0, 0)  # the first that a zip archive can hold


def write(model: Any, path: Path, name: Path) -> None:
    """Write a model to `path`, in the format that `name` asks for; the same model gives the same bytes.

    Raises:
        StageError: the format cannot hold it.
    """
    if name.suffix != SKOPS:
        joblib.dump(model, path)
        return
    import skops.io

    try:
        path.write_bytes(_canonical(skops.io.dumps(model)))
    except Exception as error:  # of a type that skops does not know
        what = f"{type(error).__name__}: {' '.join(str(error).split())}"
        raise StageError(f"{name}: a .skops file cannot hold this model ({what}); set model_format: joblib") from error


def read(path: Path, made_by: str) -> tuple[Any, set[str]]:
    """Read a model's file: the model, and the names of the modules that the file refers to.

    Raises:
        StageError: no file, one that cannot be read here, or not a classifier or regressor.
    """
    try:
        model, modules = _read_skops(path) if path.suffix == SKOPS else _read_joblib(path)
    except FileNotFoundError as error:
        raise StageError(f"{path} is missing; make it: dvc repro {made_by}") from error
    except Exception as error:  # a damaged file can raise anything
        what = f"{type(error).__name__}: {' '.join(str(error).split())}"
        raise StageError(f"{path} does not load ({what}); make it again: dvc repro -f {made_by}") from error
    if not hasattr(model, "__sklearn_tags__") or not (is_classifier(model) or is_regressor(model)):
        kind = type(model).__name__
        raise StageError(f"{path} holds a {kind}, not a classifier or regressor; make it again: dvc repro -f {made_by}")
    return model, modules


def _read_joblib(path: Path) -> tuple[Any, set[str]]:
    with path.open("rb") as file:
        unpickler = _Unpickler(str(path), file, ensure_native_byte_order=True)
        return unpickler.load(), unpickler.modules


class _Unpickler(NumpyUnpickler):  # type: ignore[misc]  # joblib ships no types
    """joblib's own, which also notes the modules that the file names."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.modules: set[str] = set()

    def find_class(self, module: str, name: str) -> Any:
        self.modules.add(module)
        return super().find_class(module, name)


def _read_skops(path: Path) -> tuple[Any, set[str]]:
    import skops.io

    with zipfile.ZipFile(path) as packed:
        schema = packed.read("schema.json").decode()
    # The stage before wrote this file, so its types are trusted as a joblib file's are.
    model = skops.io.load(path, trusted=skops.io.get_untrusted_types(file=path))
    return model, {"skops", *re.findall(r'"__module__": "([^"]+)"', schema)}


def _canonical(content: bytes) -> bytes:
    """A .skops file without what differs each time: addresses in memory as names, the time of day."""
    with zipfile.ZipFile(io.BytesIO(content)) as packed:
        files = {file: packed.read(file) for file in packed.namelist()}
    schema = json.loads(files.pop("schema.json"))
    numbers: dict[str, str] = {}
    _renumber(schema, numbers)
    named = {numbers.setdefault(_stem(file), str(len(numbers))) + Path(file).suffix: files[file] for file in files}
    named["schema.json"] = json.dumps(schema, indent=2).encode()
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w") as packed:
        for file in sorted(named):
            packed.writestr(zipfile.ZipInfo(file, _DATE), named[file])
    return written.getvalue()


def _renumber(part: Any, numbers: dict[str, str]) -> None:
    """Count the objects of a schema in the order in which it names them."""
    if isinstance(part, dict):
        if "__id__" in part:
            part["__id__"] = int(numbers.setdefault(str(part["__id__"]), str(len(numbers))))
        if isinstance(part.get("file"), str) and "__loader__" in part:
            part["file"] = numbers.setdefault(_stem(part["file"]), str(len(numbers))) + Path(part["file"]).suffix
        for inner in part.values():
            _renumber(inner, numbers)
    elif isinstance(part, list):
        for inner in part:
            _renumber(inner, numbers)


def _stem(file: str) -> str:
    return Path(file).stem
