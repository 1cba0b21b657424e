"""What DVC writes beside the data, dvc.lock and .dvc files, read as values: nothing here asks DVC."""

import hashlib
import json
import posixpath
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import yaml

from dovetail.errors import UserError
from dovetail.values.lineage import PARAMS_FILE, FileRef, StageRecord

_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _Yaml12(_Loader):  # type: ignore[misc]  # its base is chosen while running
    """YAML 1.2, which DVC writes. PyYAML reads 1.1: `yes` and `on` would be true, `12:30` a number, `1e-05` a text."""

    yaml_implicit_resolvers = {  # noqa: RUF012  (the name and the kind are PyYAML's)
        first: [(tag, form) for tag, form in forms if tag.rpartition(":")[2] not in ("bool", "int", "float")]
        for first, forms in _Loader.yaml_implicit_resolvers.items()
    }


# https://yaml.org/spec/1.2.2/#1032-tag-resolution
_FLOAT = (
    r"[-+]?(\.[0-9]+|[0-9]+\.[0-9]*)([eE][-+]?[0-9]+)?|[-+]?[0-9]+[eE][-+]?[0-9]+|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)"
)
for _tag, _form, _first in (
    ("bool", "true|True|TRUE|false|False|FALSE", "tTfF"),
    ("int", "0|[-+]?[1-9][0-9]*|0x[0-9a-fA-F]+", "-+0123456789"),
    ("float", _FLOAT, "-+.0123456789"),
):
    _Yaml12.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(f"^(?:{_form})$"), list(_first))


@dataclass(frozen=True, slots=True)
class Tracked:
    """A file or folder that a .dvc file names, and where it was imported from, if it was."""

    ref: FileRef
    origin: str | None
    file: str  # the .dvc file


def load_yaml(text: str) -> Any:
    """The content of a YAML document as DVC reads it.

    Raises:
        yaml.YAMLError: when it is none.
    """
    return yaml.load(text, Loader=_Yaml12)  # noqa: S506  (a safe loader)


def parse_lock(text: str, folder: str = "", wdirs: Mapping[str, str] | None = None) -> dict[str, StageRecord]:
    """The stages of a dvc.lock, by name; `folder` is where it stands, relative to the repository's root.

    `wdirs` has the working directory of the stages that have another one: dvc.lock's paths start there.

    Raises:
        ValueError: when the text is not a dvc.lock of schema 2.0, conflict markers included.
    """
    try:
        content = load_yaml(text) or {}
        addresses = {address(folder, name): entry for name, entry in content.get("stages", {}).items()}
        return {name: _stage(name, entry, (wdirs or {}).get(name, folder)) for name, entry in addresses.items()}
    except (yaml.YAMLError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(" ".join(str(error).split())) from error


def parse_dvc(text: str, path: str) -> list[Tracked]:
    """What the .dvc file `path` keeps: by `dvc add`, `dvc import` or `dvc import-url`.

    Raises:
        ValueError: when the text is not a .dvc file.
    """
    try:
        content = load_yaml(text) or {}
        folder = join(posixpath.dirname(path), content.get("wdir", "."))
        origin = next(map(_origin, content.get("deps") or ()), None)
        return [Tracked(ref, origin, path) for ref in _refs(folder, content.get("outs"))]
    except (yaml.YAMLError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(" ".join(str(error).split())) from error


def read_locks(locks: Mapping[str, str], wdirs: Mapping[str, str]) -> dict[str, StageRecord]:
    """The stages of several dvc.lock, given as the text of each path; `wdirs` as `parse_lock` takes it.

    Raises:
        UserError: naming the one that cannot be read.
    """
    found: dict[str, StageRecord] = {}
    for path, text in locks.items():
        try:
            found |= parse_lock(text, posixpath.dirname(path), wdirs)
        except ValueError as error:
            raise UserError(
                f"{path} cannot be read: {error}",
                f"resolve the conflict, or: git checkout HEAD -- {path}, then dvc repro",
            ) from error
    return found


def read_dvc_files(files: Mapping[str, str]) -> dict[str, Tracked]:
    """What several .dvc files keep, by path, given as the text of each path.

    Raises:
        UserError: naming the one that cannot be read.
    """
    found: dict[str, Tracked] = {}
    for path, text in files.items():
        try:
            found |= {entry.ref.path: entry for entry in parse_dvc(text, path)}
        except ValueError as error:
            raise UserError(f"{path} cannot be read: {error}", f"git checkout HEAD -- {path}") from error
    return found


def address(folder: str, name: str) -> str:
    """The name of a stage in the whole repository, as DVC writes it: `sub/dvc.yaml:train`."""
    return f"{folder}/dvc.yaml:{name}" if folder else name


def join(folder: str, path: str) -> str:
    """`path`, as written in `folder`, relative to the repository's root."""
    joined = posixpath.normpath(posixpath.join(folder, path))
    return "" if joined == "." else joined


def folder_md5(folder: str, files: Iterable[FileRef]) -> str:
    """The digest that DVC gives a folder with these files: that of the listing that it would keep."""
    listing = [{"md5": ref.md5, "relpath": posixpath.relpath(ref.path, folder)} for ref in files]
    text = json.dumps(sorted(listing, key=lambda entry: entry["relpath"]), sort_keys=True)
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest() + ".dir"


def _origin(dep: Mapping[str, Any]) -> str:
    """`https://…/data.csv`, or for another repository `https://…/repo data.csv@rev`."""
    repo = dep.get("repo")
    path = str(dep["path"])
    return f"{repo['url']} {path}@{repo.get('rev_lock') or repo.get('rev') or 'HEAD'}" if repo else path


def _stage(name: str, entry: Mapping[str, Any], folder: str) -> StageRecord:
    return StageRecord(
        name=name,
        cmd=one_command(entry["cmd"]),
        deps=_refs(folder, entry.get("deps")),
        params={
            param_name(join(folder, file), key): value
            for file, values in (entry.get("params") or {}).items()
            for key, value in values.items()
        },
        outs=_refs(folder, entry.get("outs")),
    )


def one_command(cmd: str | Iterable[str]) -> str:
    """The command of a stage as one text; a list of them has one a line."""
    return cmd if isinstance(cmd, str) else "\n".join(cmd)


def param_name(file: str, key: str) -> str:
    """DVC's own notation: the key alone in the root's params.yaml, `file:key` in any other file."""
    return key if file == PARAMS_FILE else f"{file}:{key}"


def _refs(folder: str, entries: Iterable[Mapping[str, Any]] | None) -> tuple[FileRef, ...]:
    # An uncached file that never had bytes to hash (a missing digest) cannot stand for content.
    return tuple(
        FileRef(join(folder, e["path"]), e["md5"], e.get("size")) for e in entries or () if e.get("md5") is not None
    )


def is_in(path: str, folder: str) -> bool:
    """Whether `path` is `folder` or lies below it."""
    return PurePosixPath(path).is_relative_to(folder)
