"""Outputs that appear whole or not at all."""

import json
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary file or folder beside `path` to write to; move it to `path` only if nothing was raised.

    A kill in between leaves the temporary one behind under a name starting with a dot, never half of `path`; whoever
    makes `path` next removes it.
    """
    temporary = path.parent / f"{_own_prefix(path)}tmp"
    try:
        yield temporary
        if temporary.is_dir() or path.is_dir():
            remove(path)
        temporary.replace(path)
    finally:
        remove(temporary)


@contextmanager
def scratch_folder(path: Path) -> Iterator[Path]:
    """A folder beside `path` that is gone at the end; what a killed process left of one, the next removes."""
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=_own_prefix(path), suffix=".tmp") as folder:
        yield Path(folder)


def _own_prefix(path: Path) -> str:
    """What names beside `path` start with while this process makes them; those of processes that are no more go."""
    path.parent.mkdir(parents=True, exist_ok=True)
    shared = f".{path.name}."
    own = f"{shared}{os.getpid()}.{_mark(os.getpid())}."
    for beside in list(path.parent.iterdir()):
        maker = beside.name.removeprefix(shared).split(".")[0]
        if not (beside.name.startswith(shared) and beside.suffix == ".tmp" and maker.isdigit()):
            continue
        if not _is_alive(int(maker)) or (int(maker) == os.getpid() and not beside.name.startswith(own)):
            with suppress(FileNotFoundError):  # another removes it, too
                remove(beside)
    return own


@cache
def _mark(pid: int) -> str:  # noqa: ARG001  (a forked process has another one)
    """What tells this process from one before it of the same number, as in a container that is started again."""
    return secrets.token_hex(4)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        pass
    return True


def remove(path: Path) -> None:
    """Remove a file or a folder, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write `content` to `path`, readable and with the same bytes for the same content."""
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n")
