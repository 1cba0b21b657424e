"""Whether the working tree declares what a commit declares: DVC, which has read the one, need not be asked again."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from functools import cached_property
from pathlib import PurePosixPath
from typing import Any

from dovetail.repo.git import Git
from dovetail.values.documents import Unreadable, shared_yaml
from dovetail.values.lineage import PARAMS_FILE

# What DVC may read of a pipeline: dvc.yaml and .dvc files, params in any of its formats but Python's.
_READ = tuple(f":(glob)**/*{ending}" for ending in (".dvc", ".yaml", ".yml", ".json", ".toml", ".dvcignore"))
_DIGESTS = frozenset({"md5", "size", "nfiles", "hash", "etag", "checksum", "version_id", "files", "rev_lock"})


class CheckedOut:
    """The working tree, as git saw it when it was first asked: a history is compared with it commit by commit."""

    def __init__(self, git: Git) -> None:
        self.git = git

    @cached_property
    def changed(self) -> list[str]:
        """The files that DVC may read and that differ from HEAD's."""
        here = self.git.ask("status", "--porcelain", "-z", "--no-renames", "--untracked-files=all", "--", *_READ)
        inside = f"{self.git.prefix}/" if here else ""  # git tells these from its own root on
        return [one[3:].removeprefix(inside) for one in here.split("\0") if one]


def declares_the_same(
    here: CheckedOut,
    sha: str,
    pipelines: Mapping[str, bytes],
    made: Collection[str],
    content: Callable[[str], bytes | None],
) -> bool:
    """Whether nothing that DVC reads of the commit's pipeline differs in the working tree, and there is no more of it.

    Args:
        here: The working tree of the same repository.
        sha: The commit.
        pipelines: The content of each of its dvc.yaml.
        made: The paths that its stages make: other metrics are another result, and declare nothing else.
        content: Gives the content of a file of the commit; None where it has none.
    """
    git = here.git
    try:
        documents = [shared_yaml(one) for one in pipelines.values()]
    except Unreadable:
        return False
    if any(".py" in name for document in documents for name in _named(document)):
        return False
    if not all((git.root / path).is_file() for path in pipelines):  # left out by a sparse checkout
        return False
    files = {name.partition(":")[0] for document in documents for name in _files(document)}
    if any("${" in name for name in files):
        made = ()
    read = {"dvc.yaml", PARAMS_FILE, *(PurePosixPath(name).name for name in files)}

    def counts(path: str) -> bool:
        if path.endswith(".dvc"):
            return not _is_same_but_for_digests(content(path), git, path)
        return path not in made or PurePosixPath(path).name in read

    committed = _committed(git, sha)
    return committed is not None and not any(map(counts, committed)) and not any(map(counts, here.changed))


def params_files(pipelines: Iterable[bytes]) -> frozenset[str] | None:
    """What the files are called, in any folder, that these dvc.yaml take params and variables from; None: DVC knows."""
    try:
        documents = [shared_yaml(one) for one in pipelines]
    except Unreadable:
        return None
    named = [name for document in documents for name in _named(document)]
    files = {name.partition(":")[0] for document in documents for name in _files(document)}
    if any(".py" in name for name in named) or any("${" in name for name in files):
        return None
    return frozenset({PARAMS_FILE, *(PurePosixPath(name).name for name in files)})


def _committed(git: Git, sha: str) -> list[str] | None:
    """The files that DVC may read and that differ between the commit and HEAD; None where there is no HEAD."""
    # By way of HEAD, where there is one: `git diff` of a commit and the working tree writes git's index.
    committed = git.find("diff", "--name-only", "-z", "--relative", "--no-renames", sha, "HEAD", "--", *_READ, no=128)
    return None if committed is None else [path for path in committed.split("\0") if path]


def _is_same_but_for_digests(before: bytes | None, git: Git, path: str) -> bool:
    """Whether a .dvc file keeps other data under the same name, and says nothing else."""
    file = git.root / path
    if before is None or not file.is_file():
        return False
    try:
        return bool(_without_digests(shared_yaml(before)) == _without_digests(shared_yaml(file.read_bytes())))
    except (OSError, Unreadable):
        return False


def _without_digests(document: Any) -> Any:
    if isinstance(document, list):
        return [_without_digests(one) for one in document]
    if not isinstance(document, Mapping):
        return document
    return {key: _without_digests(value) for key, value in document.items() if key not in _DIGESTS}


def _lists(document: Any, *keys: str) -> Iterator[tuple[str, list[Any]]]:
    """Each list below one of the keys, wherever it stands in a dvc.yaml."""
    if isinstance(document, list):
        for one in document:
            yield from _lists(one, *keys)
    elif isinstance(document, Mapping):
        for key, value in document.items():
            if key in keys and isinstance(value, list):
                yield key, value
            yield from _lists(value, *keys)


def _named(document: Any) -> Iterator[str]:
    """What params and variables in a dvc.yaml are called, files and keys alike."""
    for _, entries in _lists(document, "params", "vars"):
        for one in entries:
            yield from map(str, one if isinstance(one, Mapping) else [one])


def _files(document: Any) -> Iterator[str]:
    """The files besides params.yaml that a dvc.yaml takes params and variables from, as they are written there."""
    for key, entries in _lists(document, "params", "vars"):
        for one in entries:
            if isinstance(one, Mapping) and key == "params":
                yield from map(str, one)
            elif isinstance(one, str) and key == "vars":
                yield one
