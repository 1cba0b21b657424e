"""The process that asks MLflow which version an alias names, and brings its files. The server imports no MLflow.

It writes a line of JSON to its standard output for each look: {"found": …} or {"error", "next", "kind"}; what libraries
print there is nobody's news. It ends when its input does.
"""

import json
import os
import select
import signal
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import IO, Any

from dovetail.errors import DovetailError, StoreError, UnknownReference, Untrusted
from dovetail.repo.binding import VersionInMlflow
from dovetail.serving.engine.kept_copies import VersionCopy, keep, name_of
from dovetail.serving.trust import Trust, Vouched
from dovetail.system.telemetry import send_nothing
from dovetail.tracking.connection import has_store, import_mlflow, open_store, tracking_uri
from dovetail.tracking.store import SQLITE, Store, Version
from dovetail.values.names import unknown
from dovetail.values.reference import PRODUCTION, STANDARD

_LATER = 5.0  # seconds until a version that could not be brought is tried again
_NICE = 10  # once the first version is there: those who are answered come before another look
_SETTLING = 3.0  # seconds in which the alias may follow its tag: a promotion writes the tag first


def main() -> None:
    """Look again and again at what the arguments, one JSON object, name."""
    for number in (signal.SIGINT, signal.SIGTERM):  # the server's to act on
        signal.signal(number, signal.SIG_IGN)
    messages = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    say = partial(_say, messages)
    send_nothing()
    watch = AliasWatch(json.loads(sys.argv[1]))
    import_mlflow()
    store_file, is_in_background = watch.store_file(), False
    while watch.store_file() in (None, store_file):  # made anew: MLflow would go on reading the file that was deleted
        pause = watch.poll
        try:
            if found := watch.look():
                say({"found": asdict(found)})
                if not is_in_background:
                    os.nice(_NICE)
                    is_in_background = True
        except DovetailError as error:
            kind = "unknown" if isinstance(error, UnknownReference) else "store"
            if not isinstance(error, UnknownReference | StoreError):
                kind, pause = (
                    "load",
                    max(watch.poll, _LATER),
                )  # to bring a version that is broken costs more than a look
            say({"error": error.message, "next": error.next_command, "kind": kind})
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
        self._trust = Trust(*(Path(asked[name]) if asked[name] else None for name in ("ledger", "trust")))
        self._last: VersionCopy | None = None
        self._disagreed: tuple[str, float] | None = None  # how, and since when

    def look(self) -> VersionCopy | None:
        """The version that is named, its files brought; None while the alias may yet follow git's tag.

        Raises:
            UnknownReference: when none is, or one that Dovetail did not register.
            StoreError: when MLflow does not answer.
            OutsideError: when the files are not what was registered.
            Untrusted: when they, or what MLflow says of them, are not what git's tag or the trust file names.
        """
        if not has_store(self._root):
            raise StoreError(f"there is no MLflow store at {tracking_uri(self._root)}", "dovetail sync")
        with open_store(self._root) as store:
            version, md5 = self._version(store)
            vouched = self._vouched(version, md5)
            if vouched is None:
                return None
            folder = self._keep / name_of(version.number, md5)
            allow = vouched.allow if vouched.allow is not None else tuple(filter(None, version.allow.split(",")))
            recorded = ("MLflow's tag of the version", version.package) if version.package else None
            package = vouched.package or recorded
            if not self._is_last(version, md5, allow, package):
                found = keep(folder, md5, version.onnx_md5, package, partial(store.download, version))
                # The version's own is HEAD when it was registered, which may have lacked the last changes.
                commit = vouched.commit or version.commit
                self._last = VersionCopy(version.number, md5, commit, allow, str(folder), version.onnx_md5, found)
        self._last = replace(self._last, trust=vouched.trust) if self._last else None
        return self._last

    def _is_last(self, version: Version, md5: str, allow: tuple[str, ...], package: tuple[str, str] | None) -> bool:
        """Whether this version was brought at the last look, and is still there."""
        last, wanted = self._last, (version.number, md5, allow, version.onnx_md5)
        if last is None or (last.version, last.md5, last.allow, last.onnx) != wanted:
            return False
        return Path(last.folder).exists() and (package is None or package[1] == last.package)

    def _vouched(self, version: Version, md5: str) -> Vouched | None:
        """What is known of the version from elsewhere; None for a moment in which the alias may follow its tag."""
        try:
            vouched = self._trust.check(VersionInMlflow(self._model, self._alias, version.number, md5))
        except Untrusted as error:
            if self._alias is None:
                raise
            if self._disagreed is None or self._disagreed[0] != error.message:
                self._disagreed = error.message, time.monotonic()
            if time.monotonic() - self._disagreed[1] < _SETTLING:
                return None
            raise
        self._disagreed = None
        return vouched

    def _version(self, store: Store) -> tuple[Version, str]:
        if self._alias:
            version = store.version_of_alias(self._model, self._alias)
        else:
            version = store.version(self._model, self._number or 0)
        if version is None:
            raise self._unknown(store)
        if version.md5 is None:
            raise UnknownReference(
                f"{self._what} is version {version.number}, which Dovetail did not register",
                f"mlflow models serve -m models:/{self._what}",
            )
        return version, version.md5

    def _unknown(self, store: Store) -> UnknownReference:
        models = store.models()
        if self._model not in models:
            return UnknownReference(unknown("MLflow", "model", self._model, models), "dovetail list")
        if self._alias is None:
            numbers = [version.number for version in store.versions(self._model)]
            return UnknownReference(unknown(self._model, "version", self._number, numbers), "dovetail list")
        promote = f"dovetail promote {self._model}" + (f" --to {self._alias}" if self._alias != PRODUCTION else "")
        known = store.aliases(self._model)
        return UnknownReference(
            unknown(self._model, "alias", self._alias, known), promote if self._alias in STANDARD else "dovetail list"
        )

    def store_file(self) -> int | None:
        """Which file the SQLite store is; None for a server, or while there is none."""
        uri = tracking_uri(self._root)
        if not uri.startswith(SQLITE):
            return None
        try:
            return Path(uri.removeprefix(SQLITE)).stat().st_ino
        except OSError:
            return None


def _say(messages: IO[str], content: dict[str, Any]) -> None:
    try:
        print(json.dumps(content), file=messages, flush=True)
    except BrokenPipeError:
        os._exit(0)  # the server is gone


if __name__ == "__main__":
    main()
