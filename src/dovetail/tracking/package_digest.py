"""One digest of all that an MLflow model consists of: model, loader, MLmodel, requirements, compiled file.

It is the same wherever the package is restored: what MLflow writes anew each time (ids, times, addresses, its own
version and Python's) is left out, everything that says what is loaded, how and with which packages is in it.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from dovetail.models.mlflow_folder import MLMODEL, REGISTERED_META

# What an MLmodel says of one place and moment; the rest decides what is loaded and how.
_OF_THE_PLACE = frozenset(
    {"artifact_path", "model_uuid", "model_id", "run_id", "utc_time_created", "mlflow_version", "model_size_bytes",
     "env_vars", "is_signature_from_type_hint", "prompts", "type_hint_from_example"}
)  # fmt: skip


_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def package_digest(folder: Path, *, without: str = "") -> str:
    """The sha256 of the canonical JSON of every file's digest, by its path in the MLflow model at `folder`.

    Links and whatever else is no plain file count by what they are, so that none can stand in for a file unseen. Not
    counted are the file `without`, and what Python keeps beside a source that it imported.
    """
    files = {
        path: _digest(file)
        for file in folder.rglob("*")
        if (file.is_symlink() or not file.is_dir())
        and (path := file.relative_to(folder).as_posix()) not in {REGISTERED_META, without}
        and not _is_bytecode(folder, path)
    }
    return hashlib.sha256(json.dumps(files, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _is_bytecode(folder: Path, path: str) -> bool:
    """Whether the file is what Python wrote for the source beside it, which MLflow imports where it lies.

    One that Python would run without a look at the source (https://peps.python.org/pep-0552/) it never writes itself.
    """
    file, name = folder / path, PurePosixPath(path)
    if name.parent.name != "__pycache__" or name.suffix != ".pyc" or file.is_symlink() or not file.is_file():
        return False
    with file.open("rb") as content:
        checked = content.read(8)[4:] == bytes(4)
    return checked and (folder / name.parent.parent / f"{name.name.partition('.')[0]}.py").is_file()


def _digest(file: Path) -> str:
    if file.is_symlink() or not file.is_file():
        return "no plain file"
    if (reduced := _REDUCED.get(file.name)) and file.stat().st_size <= _LARGEST_TEXT:
        try:
            said = json.dumps(reduced(_plain_yaml(file.read_bytes())), sort_keys=True, default=str)
        except (yaml.YAMLError, KeyError, AttributeError, TypeError, ValueError, RecursionError):
            pass  # not what MLflow writes: it counts as it is
        else:
            return hashlib.sha256(said.encode()).hexdigest()
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def _plain_yaml(content: bytes) -> Any:
    """The document, without anchors: a few of them can stand for gigabytes."""
    if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(content, Loader=_Loader)):
        raise ValueError("MLflow writes no anchors")
    return yaml.load(content, Loader=_Loader)  # noqa: S506  (a safe one)


def _mlmodel(said: Mapping[str, Any]) -> dict[str, Any]:
    flavors = {
        name: {key: value for key, value in flavor.items() if key != "python_version"}
        for name, flavor in said["flavors"].items()
    }
    return {**{key: value for key, value in said.items() if key not in _OF_THE_PLACE}, "flavors": flavors}


def _python_env(said: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in said.items() if key not in ("python", "build_dependencies")}


def _conda(said: Mapping[str, Any]) -> dict[str, Any]:
    packages = [entry for entry in said["dependencies"] if not str(entry).startswith(("python=", "pip"))]
    return {**said, "dependencies": packages}


_LARGEST_TEXT = 1 << 20  # bytes; a larger one MLflow did not write
_REDUCED: Mapping[str, Callable[[Any], dict[str, Any]]] = {
    MLMODEL: _mlmodel,
    "python_env.yaml": _python_env,
    "conda.yaml": _conda,
}
