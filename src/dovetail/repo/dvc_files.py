"""What DVC writes beside the data, dvc.lock and .dvc files, read as values: nothing here asks DVC."""

import posixpath
import re
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from dovetail.errors import UserError
from dovetail.values.documents import Unreadable, entries, mapping, shared_yaml, shown, text
from dovetail.values.lineage import PARAMS_FILE, FileRef, StageRecord

_MD5 = re.compile(r"[\w.:+-]+")  # etags and the like stand there, too
SCHEMA = "2.0"  # of dvc.lock: the only one that DVC 3 writes
# As git's paths: what names digests in every folder (.dvc itself is no such file), and at the root.
RECORDS = (":(glob)**/dvc.lock", ":(glob)**/*.dvc")
DOCUMENTS = (":(glob)**/dvc.yaml", *RECORDS)
OWN_RECORDS = ("dvc.lock", "*.dvc")


@dataclass(frozen=True, slots=True)
class Tracked:
    """A file or folder that a .dvc file names, and where it was imported from, if it was."""

    ref: FileRef
    origin: str | None
    file: str  # the .dvc file


def parse_lock(
    content: bytes | str, folder: str = "", wdirs: Mapping[str, str] | None = None
) -> dict[str, StageRecord]:
    """The stages of a dvc.lock, by name; `folder` is where it stands, relative to the repository's root.

    `wdirs` has the working directory of the stages that have another one: dvc.lock's paths start there.

    Raises:
        Unreadable: when it is not a dvc.lock of schema 2.0, or of DVC 1, which had none.
    """
    lock = mapping(shared_yaml(content), "the whole")
    lock = {"stages": lock} if is_lock_of_dvc_1(lock) else lock
    if lock.get("schema", SCHEMA) != SCHEMA:
        raise Unreadable(f"schema is {shown(lock['schema'])}, not {SCHEMA!r}")
    found = mapping(lock.get("stages"), "stages")
    addresses = {address(folder, name): (f"stages.{name}", entry) for name, entry in found.items()}
    return {name: _stage(name, *entry, (wdirs or {}).get(name, folder)) for name, entry in addresses.items()}


def is_lock_of_dvc_1(lock: Any) -> bool:
    """Whether a dvc.lock has its stages at the top, as DVC 1 wrote it."""
    if not isinstance(lock, Mapping) or "schema" in lock or not lock:
        return False
    return all(isinstance(stage, Mapping) and "cmd" in stage for stage in lock.values())


def model_names(content: bytes | str) -> list[str]:
    """The models that the text of a dvc.yaml declares itself, by DVC's names; none where it cannot be read."""
    try:
        artifacts = mapping(mapping(shared_yaml(content), "the whole").get("artifacts"), "artifacts")
    except Unreadable:
        return []
    return [name for name, one in artifacts.items() if isinstance(one, dict) and one.get("type") == "model"]


def stage_names(content: bytes | str) -> frozenset[str] | None:
    """The stages that the text of a dvc.yaml declares, templates by their names before `@`; None: it cannot be read."""
    try:
        return frozenset(mapping(mapping(shared_yaml(content), "the whole").get("stages"), "stages"))
    except Unreadable:
        return None


def parse_dvc(content: bytes | str, path: str) -> list[Tracked]:
    """What the .dvc file `path` keeps: by `dvc add`, `dvc import` or `dvc import-url`; nothing, where it is a stage.

    Raises:
        Unreadable: when it is not a .dvc file.
    """
    known = mapping(shared_yaml(content), "the whole")
    if known.get("cmd"):
        return []
    folder = join(posixpath.dirname(path), text(known.get("wdir", "."), "wdir"))
    deps = [_origin(dep, f"deps.{at}") for at, dep in enumerate(entries(known.get("deps"), "deps"))]
    return [Tracked(ref, next(iter(deps), None), path) for ref in _refs(folder, known.get("outs"), "outs")]


def parse_stage_file(content: bytes | str, path: str) -> StageRecord | None:
    """The stage that the .dvc file `path` of DVC 1 describes and records; None where it is none.

    Raises:
        Unreadable: when it is not a .dvc file.
    """
    known = mapping(shared_yaml(content), "the whole")
    folder = join(posixpath.dirname(path), text(known.get("wdir", "."), "wdir"))
    return _stage(path, path, known, folder) if known.get("cmd") else None


def read_locks(
    locks: Mapping[str, bytes], wdirs: Mapping[str, str], commit: str | None = None
) -> dict[str, StageRecord]:
    """The stages of several dvc.lock, given as the content of each path; `wdirs` as `parse_lock` takes it.

    `commit` is the sha of the one that they are of; None: they are the working tree's.

    Raises:
        UserError: naming the one that cannot be read.
    """
    found: dict[str, StageRecord] = {}
    for path, content in locks.items():
        try:
            found |= parse_lock(content, posixpath.dirname(path), wdirs)
        except Unreadable as error:
            if commit:
                raise unreadable(path, commit, error) from error
            raise UserError(
                f"{path} cannot be read: {error}",
                f"resolve the conflict, or: git checkout HEAD -- {shlex.quote(path)}, then dvc repro",
            ) from error
    return found


def unreadable(path: str, commit: str, why: Unreadable) -> UserError:
    """The error for a file of a commit that cannot be read."""
    sha = commit[:8]
    return UserError(f"{path} of commit {sha} cannot be read: {why}", f"git show {sha}:{shlex.quote(path)}")


def read_dvc_files(files: Mapping[str, bytes], commit: str | None = None) -> dict[str, Tracked]:
    """What several .dvc files keep, by path, given as the content of each path; `commit` as for `read_locks`.

    Raises:
        UserError: naming the one that cannot be read.
    """
    found: dict[str, Tracked] = {}
    for path, content in files.items():
        try:
            found |= {entry.ref.path: entry for entry in parse_dvc(content, path)}
        except Unreadable as error:
            if commit:
                raise unreadable(path, commit, error) from error
            raise UserError(f"{path} cannot be read: {error}", f"git checkout HEAD -- {shlex.quote(path)}") from error
    return found


def address(folder: str, name: str) -> str:
    """The name of a stage in the whole repository, as DVC writes it: `sub/dvc.yaml:train`."""
    return f"{folder}/dvc.yaml:{name}" if folder else name


def join(folder: str, path: str) -> str:
    """`path`, as written in `folder`, relative to the repository's root."""
    joined = posixpath.normpath(posixpath.join(folder, path))
    return "" if joined == "." else joined


def _origin(value: Any, place: str) -> str:
    """`https://…/data.csv`, or for another repository `https://…/repo data.csv@rev`."""
    dep = mapping(value, place)
    path, repo = text(dep.get("path"), f"{place}.path"), mapping(dep.get("repo"), f"{place}.repo")
    if not repo:
        return path
    return f"{text(repo.get('url'), f'{place}.repo.url')} {path}@{repo.get('rev_lock') or repo.get('rev') or 'HEAD'}"


def _stage(name: str, place: str, value: Any, folder: str) -> StageRecord:
    entry = mapping(value, place)
    cmd = entry.get("cmd")
    lines = entries(cmd, f"{place}.cmd") if isinstance(cmd, list) else [cmd]
    return StageRecord(
        name=name,
        cmd=one_command([text(line, f"{place}.cmd") for line in lines]),
        deps=_refs(folder, entry.get("deps"), f"{place}.deps"),
        params={
            param_name(join(folder, file), key): value
            for file, values in mapping(entry.get("params"), f"{place}.params").items()
            for key, value in mapping(values, f"{place}.params.{file}").items()
        },
        outs=_refs(folder, entry.get("outs"), f"{place}.outs"),
    )


def one_command(cmd: str | Iterable[str]) -> str:
    """The command of a stage as one text; a list of them has one a line."""
    return cmd if isinstance(cmd, str) else "\n".join(cmd)


def param_name(file: str, key: str) -> str:
    """DVC's own notation: the key alone in the root's params.yaml, `file:key` in any other file."""
    return key if file == PARAMS_FILE else f"{file}:{key}"


def _refs(folder: str, value: Any, place: str) -> tuple[FileRef, ...]:
    return tuple(filter(None, (_ref(folder, e, f"{place}.{at}") for at, e in enumerate(entries(value, place)))))


def _ref(folder: str, value: Any, place: str) -> FileRef | None:
    """The file; None for an uncached one that never had bytes to hash: it cannot stand for content."""
    entry = mapping(value, place)
    path, md5, size = text(entry.get("path"), f"{place}.path"), entry.get("md5"), entry.get("size")
    if md5 is None:
        return None
    if not isinstance(size, int | None):
        raise Unreadable(f"{place}.size is {shown(size)}, not a number")
    if not _MD5.fullmatch(text(md5, f"{place}.md5")):
        raise Unreadable(f"{place}.md5 is {shown(md5)}, not a digest")
    return FileRef(join(folder, path), md5, size, by_dvc_2="hash" not in entry)


def is_in(path: str, folder: str) -> bool:
    """Whether `path` is `folder` or lies below it."""
    return PurePosixPath(path).is_relative_to(folder)
