"""A file that is there whole or not at all, whatever is killed or unplugged meanwhile."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def whole_file(path: Path, hidden: Path | None = None) -> Iterator[Any]:
    """A file, open for bytes, that gets its name once all of it is on the disk.

    Args:
        path: Where it is to be; its folder is made.
        hidden: Where it is until then; by default beside it, with a dot before the name.

    Raises:
        OSError: when the disk is full, or the folder cannot be written; nothing is left of it then.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    hidden = hidden or path.with_name(f".{path.name}")
    try:
        with hidden.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        hidden.replace(path)
    except BaseException:
        hidden.unlink(missing_ok=True)
        raise
    if os.name == "posix":
        handle = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
