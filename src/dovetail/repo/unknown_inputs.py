"""What stages of dvc.yaml read and nobody has: params that no file sets, files that no stage makes."""

import shlex
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from dovetail.repo.dvc_yaml import _address, _relative
from dovetail.values.finding import Finding
from dovetail.values.names import nearest

if TYPE_CHECKING:
    from dvc.dependency import ParamsDependency
    from dvc.repo import Repo
    from dvc.stage import Stage


def unknown_inputs(repo: "Repo") -> Iterator[tuple[str, Finding]]:
    """Each with the address of the stage, in our words: DVC's are those of its own files."""
    from dvc.dependency import ParamsDependency

    read: dict[str, Any] = {}
    outs = {_relative(repo, out.fs_path) for stage in repo.index.stages for out in stage.outs if out.is_in_repo}
    for stage in repo.index.stages:
        for dep in stage.deps if stage.cmd else ():
            if isinstance(dep, ParamsDependency):
                yield from _unset(repo, stage, dep, read)
            elif dep.is_in_repo and not dep.exists and not _made(_relative(repo, dep.fs_path), outs):
                path = _relative(repo, dep.fs_path)
                close = nearest(path, outs)
                next_command = f"name {close} instead" if close else f"git log --all --oneline -- {shlex.quote(path)}"
                what = f"{stage.addressing} reads {path}, which is not there and which no stage makes"
                yield _address(repo, stage), Finding("error", what, "dvc repro cannot run the stage", next_command)


def _made(path: str, outs: set[str]) -> bool:
    return any(path == out or path.startswith(f"{out}/") or out.startswith(f"{path}/") for out in outs)


def _unset(
    repo: "Repo", stage: "Stage", dep: "ParamsDependency", read: dict[str, Any]
) -> Iterator[tuple[str, Finding]]:
    from dvc.utils.serialize import load_path

    file = _relative(repo, dep.fs_path)
    if file not in read:  # many stages read one file
        read[file] = load_path(dep.fs_path, repo.fs) if dep.exists else {}
    content = read[file]
    for name in dep.params:
        place, known = _lacking(content, name.split("."))
        if place is not None:
            close = nearest(place.rpartition(".")[2], known)
            meant = f", which has {', '.join(known)} there" if known else ""
            within = place.rpartition(".")[0]
            next_command = (
                f"rename {within + '.' if within else ''}{close} to {place}" if close else f"add {place} to {file}"
            )
            what = f"{stage.addressing} reads {place}, which is not in {file}{meant}"
            yield _address(repo, stage), Finding("error", what, "dvc repro cannot run the stage", next_command)


def _lacking(content: Any, keys: list[str]) -> tuple[str | None, list[str]]:
    """The place of the first key that is not there, and the keys that are there instead; None: all are there."""
    for number, key in enumerate(keys, 1):
        if isinstance(content, list) and key.isdigit() and int(key) < len(content):
            content = content[int(key)]
        elif isinstance(content, Mapping) and key in content:
            content = content[key]
        else:
            return ".".join(keys[:number]), list(map(str, content)) if isinstance(content, Mapping) else []
    return None, []
