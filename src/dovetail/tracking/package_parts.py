"""Which kinds of file in a package are not as Dovetail writes them, so that a finding can name them."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from dovetail.models import folder_model, network_file
from dovetail.models.folder_md5 import SUFFIX
from dovetail.models.mlflow_folder import MLMODEL, REQUIREMENTS
from dovetail.models.network_file import packaged_model
from dovetail.models.reader import loader_of
from dovetail.tracking.client import md5
from dovetail.values.tag_keys import COMPILED_FILE

_LARGEST_TEXT = 1 << 20  # bytes


def differing(folder: Path, model_md5: str | None, onnx_md5: str | None, expected: Sequence[str]) -> list[str]:
    """The kinds, of loader, MLmodel, requirements, compiled file and model, that can be told to differ.

    Only by what is known without the package that was registered: of a change that keeps its form nothing is said.
    """
    return list(_differing(folder, model_md5, onnx_md5, expected))


def _differing(folder: Path, model_md5: str | None, onnx_md5: str | None, expected: Sequence[str]) -> Iterator[str]:
    if model_md5 and model_md5.endswith(SUFFIX):
        if folder_model.digest(folder) != model_md5:
            yield "model"
        return
    models = [file for file in (folder / "data").glob("*") if file.is_file()]
    model = packaged_model(folder)
    network = network_file.kind_of(model) if model else None
    loader = loader_of(model)
    named = network.loader if network else loader.__name__.rpartition(".")[2]
    ours = {} if network else {file.name: file.read_bytes() for file in loader.FILES}
    there = {file.name: _read(file) for file in (folder / "code").glob("*") if file.name != "__pycache__"}
    companions = {name: text.encode() for name, text in network.companion_files.items()} if network else {}
    if there != ours or {file.name: _read(file) for file in models if file != model} != companions:
        yield "loader"
    if _loader_module(folder / MLMODEL) != named:
        yield "MLmodel"
    if expected and pins(folder) != list(expected):
        yield "requirements"
    compiled = folder / COMPILED_FILE
    if (onnx_md5 or compiled.exists()) and not (compiled.is_file() and md5(str(compiled)) == onnx_md5):
        yield "compiled file"
    if model is None or md5(str(model)) != model_md5:
        yield "model"


def pins(folder: Path) -> list[str]:
    """The `name==version` lines of the package's requirements."""
    return re.findall(r"^[^\s#=]+==\S+$", (_read(folder / REQUIREMENTS) or b"").decode(errors="replace"), re.MULTILINE)


def _loader_module(file: Path) -> Any:
    try:
        return yaml.safe_load(_read(file) or b"")["flavors"]["python_function"]["loader_module"]
    except (yaml.YAMLError, KeyError, TypeError, RecursionError):
        return None


def _read(file: Path) -> bytes | None:
    """A text of the package; None for what is no plain file, or too large to be one of Dovetail's."""
    plain = file.is_file() and not file.is_symlink() and file.stat().st_size <= _LARGEST_TEXT
    return file.read_bytes() if plain else None
