"""DVC's list of the paths that are being read and written, and what killed processes leave in it.

DVC takes no notice of an entry whose process is dead. It takes one for alive that has ended and that nobody has waited
for, as it stays in a container without an init process, and any other process that has got the same id since.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dvc.repo import Repo


def clear_rwlock(repo: "Repo", below: str = "") -> None:
    """Drop from the list the processes that have ended, and all of it where a killed process left it half written.

    `below` is the folder of the temporary one for another list, that of experiments.
    """
    from dvc.lock import make_lock
    from dvc.rwlock import RWLOCK_FILE, RWLOCK_LOCK

    folder = Path(str(repo.tmp_dir)) / below
    file, guard = folder / RWLOCK_FILE, str(folder / RWLOCK_LOCK)
    if not file.is_file():
        return
    with make_lock(guard, tmp_dir=str(folder), hardlink_lock=repo.config["core"].get("hardlink_lock", False)):
        try:
            entries = json.loads(file.read_text(encoding="utf-8"))
            if any(map(_has_ended, _holders(entries))):
                file.write_text(json.dumps(_at_work(entries)), encoding="utf-8")
        except (ValueError, AttributeError):  # an empty one is none, either
            file.unlink()


def why_blocks(file: Path) -> str | None:
    """Why DVC would stop at the list although nobody holds it; None where it would not."""
    try:
        holders = list(_holders(json.loads(file.read_text(encoding="utf-8"))))
    except FileNotFoundError:
        return None
    except (ValueError, AttributeError):
        return "it was cut off while it was written"
    for holder in holders:
        if _has_ended(holder):
            return f"process {holder['pid']} has ended, and nobody has waited for it"
        if _is_reused(holder):
            return f"process {holder['pid']} is not the {holder['cmd']!r} that took it"
    return None


def _has_ended(holder: dict[str, Any]) -> bool:
    import psutil

    try:
        return bool(psutil.Process(int(holder["pid"])).status() == psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return False


def _is_reused(holder: dict[str, Any]) -> bool:
    """Whether the process id is another process's by now: one that does not have the words of the holder's command."""
    import psutil

    try:
        words = psutil.Process(int(holder["pid"])).cmdline()
    except psutil.Error:
        return False
    _, *arguments = holder["cmd"].split()
    return not set(arguments) <= set(" ".join(words).split())


def _holders(entries: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield from entries.get("write", {}).values()
    for many in entries.get("read", {}).values():
        yield from many


def _at_work(entries: dict[str, Any]) -> dict[str, Any]:
    """The entries whose processes have not ended."""
    write = {path: one for path, one in entries.get("write", {}).items() if not _has_ended(one)}
    read = {path: [one for one in many if not _has_ended(one)] for path, many in entries.get("read", {}).items()}
    return {"write": write, "read": {path: many for path, many in read.items() if many}}
