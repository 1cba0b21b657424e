"""Which clone writes, so that what one has begun in a store that many share is not taken for the litter of another."""

import hashlib
import socket
import uuid
from contextlib import suppress
from pathlib import Path


def clone_id(root: Path) -> str:
    """16 hexadecimal digits: another one on each machine, in each folder, and for each clone in one folder.

    It is made under the lock of whoever writes. Where it cannot be kept, each process is a clone of its own.
    """
    file = root / ".dvc" / "tmp" / "dovetail.clone"
    try:
        own = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        own = uuid.uuid4().hex
        with suppress(OSError):
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(own, encoding="utf-8")
    return hashlib.sha256(f"{socket.gethostname()}\0{root.resolve()}\0{own}".encode()).hexdigest()[:16]
