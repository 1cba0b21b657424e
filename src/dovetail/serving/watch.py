"""The process that asks MLflow which version an alias names, and brings its files. The server imports no MLflow.

It prints a line of JSON for each look: {"found": …}, {"error", "next", "unknown"}. It ends when its input does.
"""

import json
import os
import select
import signal
import sys
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from dovetail.connection import has_store, import_mlflow, open_store, tracking_uri
from dovetail.errors import DovetailError, StoreError, UnknownReference
from dovetail.ledger import PRODUCTION
from dovetail.serving.copies import Target, keep, name_of
from dovetail.store import SQLITE


def main() -> None:
    """Look again and again at what the arguments, one JSON object, name."""
    for number in (signal.SIGINT, signal.SIGTERM):  # the server's to act on
        signal.signal(number, signal.SIG_IGN)
    asked = json.loads(sys.argv[1])
    root = Path(asked["root"])
    import_mlflow()
    store_file = _identity(root)
    checked: set[Path] = set()  # copies that were read through: once, not with each look
    while True:
        if _identity(root) not in (None, store_file):
            sys.exit()  # somebody made the store anew: MLflow goes on reading the file that was deleted
        try:
            _say({"found": asdict(_look(root, asked, checked))})
        except DovetailError as error:
            unknown = isinstance(error, UnknownReference)
            _say({"error": error.message, "next": error.next_command, "unknown": unknown})
        ready, _, _ = select.select([sys.stdin], [], [], asked["poll"])
        if ready and not sys.stdin.read(1):
            sys.exit()


def _look(root: Path, asked: dict[str, Any], checked: set[Path]) -> Target:
    model, alias, number = asked["model"], asked["alias"], asked["version"]
    what = f"{model}@{alias}" if alias else f"{model}/{number}"
    if not has_store(root):
        raise StoreError(f"there is no MLflow store at {tracking_uri(root)}", "dovetail sync")
    place = Path(asked["keep"])
    with open_store(root) as store:
        version = store.version_of_alias(model, alias) if alias else store.version(model, number)
        if version is None:
            promote = f"dovetail promote {model}" + ("" if alias in (None, PRODUCTION) else f" --to {alias}")
            raise UnknownReference(f"{what} names no version", promote if alias else "dovetail status")
        if version.md5 is None:
            raise UnknownReference(
                f"{what} is version {version.number}, which Dovetail did not register",
                f"mlflow models serve -m models:/{what}",
            )
        folder = place / name_of(version.number, version.md5)
        if folder not in checked or not folder.exists():
            keep(folder, version.md5, partial(store.download, version))
            checked.add(folder)
    allow = tuple(filter(None, version.allow.split(",")))
    return Target(version.number, version.md5, version.commit, allow, str(folder))


def _identity(root: Path) -> int | None:
    """Which file the SQLite store is; None for a server, or while there is none."""
    uri = tracking_uri(root)
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
