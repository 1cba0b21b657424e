"""Which stages of a pipeline that DVC runs are done, by what it writes to dvc.lock after each of them."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from dovetail.repo.dvc_files import parse_lock
from dovetail.values.documents import Unreadable
from dovetail.values.lineage import StageRecord

_SECONDS = 0.3  # between two looks


@contextmanager
def tell_finished_stages(lock: Path, tell: Callable[[str], None]) -> Iterator[None]:
    """Tell of each stage that changes in the dvc.lock while the block runs; one that DVC skips changes nothing."""
    done = threading.Event()
    known = _stages(lock)

    def watch() -> None:
        seen, ended = lock.stat().st_mtime_ns if lock.exists() else 0, False
        while not ended:
            ended = done.wait(_SECONDS)
            changed = lock.stat().st_mtime_ns if lock.exists() else 0
            if changed != seen:
                seen = changed
                for name, record in _stages(lock).items():
                    if known.get(name) != record:
                        known[name] = record
                        tell(f"{name} is done")

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        done.set()
        watcher.join()


def _stages(lock: Path) -> dict[str, StageRecord]:
    try:
        return dict(parse_lock(lock.read_bytes()))
    except (OSError, Unreadable):  # DVC writes it at this moment; the next look finds it whole
        return {}
