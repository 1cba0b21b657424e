"""A copy of the version that scores, brought and checked as a server's is: nothing of it is read before."""

import os
import shutil
import time
from contextlib import suppress
from pathlib import Path

from dovetail.serving.engine.alias_watch import AliasWatch
from dovetail.serving.engine.kept_copies import VersionCopy
from dovetail.serving.settings import Settings
from dovetail.tracking.connection import import_mlflow

_PAUSE = 0.2  # seconds, where the alias may yet follow git's tag
_KEPT_SECONDS = 7 * 86_400  # that a copy nobody used is kept


def version_copy(settings: Settings) -> VersionCopy:
    """The version that the reference names, its files on this machine, their digests those that vouch for it.

    Raises:
        UnknownReference: when it names none, or one that Dovetail did not register.
        StoreError: when MLflow does not answer.
        OutsideError: when the files are not what was registered; Untrusted where git's tag or the trust file say so.
    """
    place = settings.root / "mlruns" / "predict" / settings.model
    import_mlflow()
    watch = AliasWatch(
        {
            "poll": _PAUSE, "root": str(settings.root), "keep": str(place), "model": settings.model,
            "alias": settings.alias, "version": settings.version,
            "ledger": str(settings.ledger) if settings.ledger else None, "trust": settings.options.trust or None,
        }
    )  # fmt: skip
    while (found := watch.look()) is None:
        time.sleep(_PAUSE)
    _forget_old(place, Path(found.folder))
    return found


def _forget_old(place: Path, used: Path) -> None:
    """Remove copies that nobody used for a week; a full or read-only disk costs that, nothing else."""
    with suppress(OSError):
        os.utime(used)
        for entry in place.iterdir():
            if entry != used and time.time() - entry.stat().st_mtime > _KEPT_SECONDS:
                shutil.rmtree(entry, ignore_errors=True)
