"""DVC's object databases, the cache and a remote: what lies there, how large it is, what a folder holds; deleting."""

import json
import os
import re
from collections.abc import Collection, Iterator
from contextlib import suppress
from pathlib import Path
from stat import S_ISREG
from typing import TYPE_CHECKING

from dovetail.repo.open_remote import answering

if TYPE_CHECKING:
    from dvc_data.hashfile.db import HashFileDB

_OBJECT = re.compile(r"[0-9a-f]{32}(\.dir)?")
_LEFTOVER = ".*.tmp"  # as DVC calls what it is about to rename
_BATCH = 1000  # objects that one request deletes


class Objects:
    """One object database of DVC, in the layout of DVC 3; `name` is the cache's or the remote's."""

    def __init__(self, name: str, odb: "HashFileDB") -> None:
        self.name = name
        self._odb = odb

    def sizes(self) -> dict[str, int]:
        """The size in bytes of every object.

        Raises:
            DataUnavailable: when the database does not answer.
        """
        with answering(self.name):
            found = self._local() if self._odb.fs.protocol == "local" else self._listed()
            return {oid: size for oid, size in found if _OBJECT.fullmatch(oid)}

    def _local(self) -> Iterator[tuple[str, int]]:
        root = Path(self._odb.path)
        for folder in os.scandir(root) if root.is_dir() else ():
            for entry in os.scandir(folder) if folder.is_dir() else ():
                with suppress(FileNotFoundError):  # DVC has just renamed or removed it
                    yield folder.name + entry.name, entry.stat().st_size

    def leftovers(self, before: float) -> dict[str, int]:
        """What killed processes were still writing into a folder of this machine: the size of each file, by its path.

        DVC writes beside an object, and renames; it tries links with a file of its own. `before` is when such a file
        was written last, at the latest, in seconds since the epoch.

        Raises:
            DataUnavailable: when the database does not answer.
        """
        if self._odb.fs.protocol != "local":
            return {}
        with answering(self.name):
            found: dict[str, int] = {}
            for form in (_LEFTOVER, f"[0-9a-f][0-9a-f]/{_LEFTOVER}"):
                for path in Path(self._odb.path).glob(form):
                    with suppress(FileNotFoundError):  # it was renamed just now
                        about = path.lstat()
                        if S_ISREG(about.st_mode) and about.st_mtime < before:
                            found[str(path)] = about.st_size
            return found

    def _listed(self) -> Iterator[tuple[str, int]]:
        if not self._odb.fs.exists(self._odb.path):
            return
        for path, about in self._odb.fs.fs.find(self._odb.path, detail=True).items():
            yield "".join(path.rsplit("/", 2)[1:]), int(about.get("size") or 0)

    def holds(self, digests: Collection[str]) -> set[str]:
        """Those of `digests` that are there.

        Raises:
            DataUnavailable: when the database does not answer.
        """
        with answering(self.name):
            return set(self._odb.oids_exist(list(digests))) if digests else set()

    def listing(self, md5: str) -> dict[str, str] | None:
        """What a folder's listing names, by path in the folder; None where it is not there or cannot be read.

        Raises:
            DataUnavailable: when the database does not answer.
        """
        with answering(self.name):
            try:
                content = json.loads(self._odb.fs.cat_file(self._odb.oid_to_path(md5)))
                return {entry["relpath"]: entry["md5"] for entry in content}
            except (FileNotFoundError, ValueError, KeyError, TypeError):
                return None

    def delete(self, digests: Collection[str]) -> None:
        """Delete objects, the listings of folders before their files, so that no listing names what is gone.

        Raises:
            DataUnavailable: when the database refuses; what is deleted by then is gone.
        """
        from dvc_data.hashfile.db import get_index

        with answering(self.name):
            get_index(self._odb).clear()  # else the next `dvc push` takes them for pushed
            ordered = sorted(digests, key=lambda md5: (not md5.endswith(".dir"), md5))
            for start in range(0, len(ordered), _BATCH):
                self._odb.fs.remove([self._odb.oid_to_path(md5) for md5 in ordered[start : start + _BATCH]])

    def delete_leftovers(self, paths: Collection[str]) -> None:
        """Delete what `leftovers` found.

        Raises:
            DataUnavailable: when the database refuses; what is deleted by then is gone.
        """
        with answering(self.name):
            for path in paths:
                Path(path).unlink(missing_ok=True)
