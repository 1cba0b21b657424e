"""The process that asks MLflow which version an alias names, and brings its files. The server imports no MLflow.

It prints a line of JSON for each look: {"found": …} or {"error", "next", "kind"}. It ends when its input does.
"""

import json
import os
import select
import signal
import sys
from collections.abc import Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from dovetail.errors import DovetailError, StoreError, UnknownReference
from dovetail.repo.git import Git
from dovetail.repo.ledger import read
from dovetail.serving.engine.kept_copies import VersionCopy, keep, name_of
from dovetail.tracking.connection import has_store, import_mlflow, open_store, tracking_uri
from dovetail.tracking.store import SQLITE, Store, Version
from dovetail.values.reference import PRODUCTION

_LATER = 5.0  # seconds until a version that could not be brought is tried again


def main() -> None:
    """Look again and again at what the arguments, one JSON object, name."""
    for number in (signal.SIGINT, signal.SIGTERM):  # the server's to act on
        signal.signal(number, signal.SIG_IGN)
    watch = AliasWatch(json.loads(sys.argv[1]))
    import_mlflow()
    store_file = watch.store_file()
    while watch.store_file() in (None, store_file):  # made anew: MLflow would go on reading the file that was deleted
        pause = watch.poll
        try:
            _say({"found": asdict(watch.look())})
        except DovetailError as error:
            kind = "unknown" if isinstance(error, UnknownReference) else "store"
            if not isinstance(error, UnknownReference | StoreError):
                kind, pause = (
                    "load",
                    max(watch.poll, _LATER),
                )  # to bring a version that is broken costs more than a look
            _say({"error": error.message, "next": error.next_command, "kind": kind})
        store_file = store_file or watch.store_file()
        ready, _, _ = select.select([sys.stdin], [], [], pause)
        if ready and not sys.stdin.read(1):
            break


class AliasWatch:
    """What to look at, and what was seen of it before."""

    def __init__(self, asked: Mapping[str, Any]) -> None:
        self.poll: float = asked["poll"]
        self._root = Path(asked["root"])
        self._keep = Path(asked["keep"])
        self._model: str = asked["model"]
        self._alias: str | None = asked["alias"]
        self._number: int | None = asked["version"]
        self._what = f"{self._model}@{self._alias}" if self._alias else f"{self._model}/{self._number}"
        self._last: VersionCopy | None = None

    def look(self) -> VersionCopy:
        """The version that is named, its files brought.

        Raises:
            UnknownReference: when none is, or one that Dovetail did not register.
            StoreError: when MLflow does not answer.
            OutsideError: when the files are not what was registered.
        """
        if not has_store(self._root):
            raise StoreError(f"there is no MLflow store at {tracking_uri(self._root)}", "dovetail sync")
        with open_store(self._root) as store:
            version, md5 = self._version(store)
            folder = self._keep / name_of(version.number, md5)
            allow = tuple(filter(None, version.allow.split(",")))
            last = self._last
            same = last and (last.version, last.md5, last.allow, last.onnx) == (
                version.number,
                md5,
                allow,
                version.onnx_md5,
            )
            if last and same and folder.exists():
                return last
            keep(folder, md5, version.onnx_md5, partial(store.download, version))
        self._last = VersionCopy(version.number, md5, self._commit(version), allow, str(folder), version.onnx_md5)
        return self._last

    def _version(self, store: Store) -> tuple[Version, str]:
        if self._alias:
            version = store.version_of_alias(self._model, self._alias)
        else:
            version = store.version(self._model, self._number or 0)
        if version is None:
            promote = f"dovetail promote {self._model}" + (f" --to {self._alias}" if self._alias != PRODUCTION else "")
            raise UnknownReference(f"{self._what} names no version", promote if self._alias else "dovetail status")
        if version.md5 is None:
            raise UnknownReference(
                f"{self._what} is version {version.number}, which Dovetail did not register",
                f"mlflow models serve -m models:/{self._what}",
            )
        return version, version.md5

    def _commit(self, version: Version) -> str | None:
        """The commit that was promoted; else HEAD when it was registered, which may have lacked the last changes."""
        event = read(Git(self._root).tags()).current(self._model, self._alias) if self._alias else None
        promoted = event and event.note and event.note.md5 == version.md5
        return event.tag.commit if event and promoted else version.commit

    def store_file(self) -> int | None:
        """Which file the SQLite store is; None for a server, or while there is none."""
        uri = tracking_uri(self._root)
        if not uri.startswith(SQLITE):
            return None
        try:
            return Path(uri.removeprefix(SQLITE)).stat().st_ino
        except OSError:
            return None


def _say(content: dict[str, Any]) -> None:
    try:
        print(json.dumps(content), flush=True)
    except BrokenPipeError:
        os._exit(0)  # the server is gone


if __name__ == "__main__":
    main()
