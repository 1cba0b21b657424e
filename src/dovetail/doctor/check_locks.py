"""Locks that a killed process left behind and that stop the next one.

Not every remnant does: DVC itself clears a rwlock entry whose process is dead, and the operating system releases DVC's
default kind of lock and Dovetail's own.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil

from dovetail.repo.rwlock import why_blocks
from dovetail.repo.workspace import Workspace
from dovetail.values.finding import Finding


def stale_locks(workspace: Workspace) -> Iterator[Finding]:
    """Every lock that nobody holds and that blocks."""
    held = Path(workspace.scratch, "rwlock")
    if why := why_blocks(held):
        yield _stale(workspace, held, why, "dvc repro")
    for name in ("lock", "rwlock.lock") if workspace.has_hardlink_lock else ():
        if (file := Path(workspace.scratch, name)).exists() and not _is_running("dvc", workspace.root):
            yield _stale(
                workspace, file, "core.hardlink_lock is set, and no dvc runs here any more", "every dvc command"
            )
    index = Path(workspace.git("rev-parse", "--path-format=absolute", "--git-path", "index.lock"))
    if index.exists() and not _is_running("git", workspace.root):
        yield _stale(workspace, index, "no git runs here any more", "every git add and commit")


def _stale(workspace: Workspace, file: Path, why: str, blocked: str) -> Finding:
    path = workspace.typed(file)
    return Finding("error", f"stale lock {path}: {why}", f"{blocked} fails on it", f"rm {path}")


def _is_running(name: str, root: Path) -> bool:
    """Whether a process called `name` works below `root`."""
    for process in psutil.process_iter(["name", "cmdline", "cwd"]):
        about: dict[str, Any] = process.info
        called = {about["name"], *(Path(word).name for word in (about["cmdline"] or ())[:3])}
        if name in called and about["cwd"] and Path(about["cwd"]).is_relative_to(root):
            return True
    return False
