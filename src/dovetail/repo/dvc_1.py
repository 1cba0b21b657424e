"""What DVC 1 and older wrote and DVC 3 refuses: a dvc.lock without a schema, stages in .dvc files, keys of outs.

Commits that have them are read here. In a working tree DVC reads nothing more, so there they are named.
"""

import posixpath
import shlex
from collections.abc import Iterator, Mapping
from typing import Any

from dovetail.repo.dvc_files import address, is_lock_of_dvc_1, join, parse_stage_file
from dovetail.repo.dvc_values import Declared
from dovetail.values.documents import Unreadable, entries, mapping, shared_yaml, text
from dovetail.values.lineage import StageRecord

_LOCK, _PIPELINE, _STAGE_FILE = "dvc.lock", "dvc.yaml", "Dvcfile"  # the last: of a stage without outs, before DVC 1
_TO_DVC_2 = "{{ printf \"schema: '2.0'\\nstages:\\n\"; sed 's/^/  /' {path}; }} > {path}.new && mv {path}.new {path}"


def is_stage_file(path: str) -> bool:
    """Whether a file of this name described a stage before DVC 1, or keeps data."""
    name = posixpath.basename(path)
    return name == _STAGE_FILE or (name.endswith(".dvc") and name != ".dvc")


def stage_files(files: Mapping[str, bytes]) -> dict[str, StageRecord]:
    """The stages that .dvc files describe, by name.

    Raises:
        Unreadable: when one is not what DVC writes.
    """
    found = {path: parse_stage_file(content, path) for path, content in files.items() if is_stage_file(path)}
    return {stage.name: stage for stage in found.values() if stage}


def declared(files: Mapping[str, bytes]) -> Declared:
    """What dvc.yaml and .dvc files declare, given as the content of each path. DVC 1 had no params in them, nor models.

    Raises:
        Unreadable: when one is not what DVC writes.
    """
    metrics, plots = set[str](), set[str]()
    outs, wdirs = dict[str, str](), dict[str, str]()
    for path, content in files.items():
        here = posixpath.dirname(path)
        if posixpath.basename(path) == _PIPELINE:
            for name, stage in mapping(mapping(shared_yaml(content), "the whole").get("stages"), "stages").items():
                found = mapping(stage, f"stages.{name}")
                folder = join(here, text(found.get("wdir", "."), "wdir"))
                wdirs |= {address(here, name): folder} if folder != here else {}
                for key, into in (("outs", set[str]()), ("metrics", metrics), ("plots", plots)):
                    paths = [join(folder, entry) for entry in _paths(found.get(key), f"stages.{name}.{key}")]
                    into.update(paths)
                    outs |= dict.fromkeys(paths, address(here, name))
        elif is_stage_file(path) and (stage_file := mapping(shared_yaml(content), "the whole")).get("cmd"):
            folder = join(here, text(stage_file.get("wdir", "."), "wdir"))
            for out in map(_mapping, entries(stage_file.get("outs"), "outs")):
                where = join(folder, text(out.get("path"), "outs.path"))
                outs[where] = path
                metrics |= {where} if out.get("metric") else set()
                plots |= {where} if out.get("plot") else set()
    return Declared({}, frozenset(metrics), frozenset(plots), outs=outs, stages=frozenset(outs.values()), wdirs=wdirs)


def named(files: Mapping[str, bytes]) -> tuple[str, str] | None:
    """What DVC 1 wrote of the files, given as the content of each path, and the command that lets DVC 3 read it."""
    locks = [path for path, content in files.items() if _is_lock(path, content)]
    found = [(f"{path} (it has no `schema`)", _TO_DVC_2.format(path=shlex.quote(path))) for path in locks]
    if old := list(_with_old_keys(files)):  # before the stages, for with them there DVC 3 adds none
        found.append((f"{', '.join(old)} (`metric:` of data)", f"sed -i '/^[- ]*metric: /d' {shlex.join(old)}"))
    stages = {path: content for path, content in files.items() if is_stage_file(path) and _has_cmd(path, content)}
    if stages:
        commands = [
            f"git rm -qf {shlex.join(stages)}",
            *(_stage_add(path, content) for path, content in stages.items()),
        ]
        found.append((f"{', '.join(stages)} (stages, with a `cmd`)", " && ".join(commands)))
    if not found:
        return None
    what = f"DVC 3 does not read what DVC 1 or older wrote: {', '.join(what for what, _ in found)}"
    return what, " && ".join(command for _, command in found)


def _with_old_keys(files: Mapping[str, bytes]) -> Iterator[str]:
    """The .dvc files of data whose outs say whether they are metrics."""
    for path, content in files.items():
        if is_stage_file(path) and b"metric:" in content and not _has_cmd(path, content):
            yield path


def _stage_add(path: str, content: bytes) -> str:
    """The command that adds the stage of a .dvc file to dvc.yaml."""
    stage = mapping(shared_yaml(content), "the whole")
    name = posixpath.basename(path).removesuffix(".dvc")
    words = ["-n", name]
    folder = posixpath.join(posixpath.dirname(path), str(stage.get("wdir") or "."))
    words += ["-w", folder] if posixpath.normpath(folder) != "." else []
    for dep in map(_mapping, entries(stage.get("deps"), "deps")):
        words += ["-d", str(dep.get("path"))]
    for out in map(_mapping, entries(stage.get("outs"), "outs")):
        option = "m" if out.get("metric") else "o"
        words += [f"-{option if out.get('cache', True) else option.upper()}", str(out.get("path"))]
    return f"dvc stage add -q {shlex.join([*words, str(stage.get('cmd'))])}"


def _paths(value: Any, place: str) -> Iterator[str]:
    """The paths of outs as dvc.yaml has them: each a text, or a mapping of it to its settings."""
    for entry in entries(value, place):
        yield from entry if isinstance(entry, Mapping) else [text(entry, place)]


def _mapping(value: Any) -> Mapping[str, Any]:
    return mapping(value, "an entry")


def _is_lock(path: str, content: bytes) -> bool:
    try:
        return posixpath.basename(path) == _LOCK and is_lock_of_dvc_1(shared_yaml(content))
    except Unreadable:
        return False


def _has_cmd(path: str, content: bytes) -> bool:
    try:
        return parse_stage_file(content, path) is not None
    except Unreadable:
        return False
