"""Files of scored rows: who scored them, which of a folder are left over or unfinished."""

import errno
import hashlib
import os
import secrets
import shlex
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from dovetail.errors import DovetailError, OutsideError, UserError, one_line
from dovetail.values.scored import Scored, scored

LEFT = ".dovetail-"  # how the name of an unfinished file begins


@dataclass(frozen=True, slots=True)
class ScoredFile:
    """A file that `dovetail predict` wrote."""

    path: Path
    scored: Scored
    rows: int


def scored_by(path: Path) -> ScoredFile | None:
    """What a file says of itself; None where there is none, or another program wrote it.

    Raises:
        UserError: when it is no Parquet file.
    """
    import pyarrow as pa

    try:
        found = scored(path)
    except FileNotFoundError:
        return None
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{path} cannot be read: {one_line(error)}", f"rm {shlex.quote(str(path))}") from error
    return ScoredFile(path, *found) if found else None


def files_of(folder: Path) -> Iterator[Path]:
    """Every Parquet file below a folder, in order; none where there is no folder."""
    for place, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(names):
            if name.endswith(".parquet") and not name.startswith("."):
                yield Path(place) / name


def unfinished(path: Path) -> Path:
    """Where the file at `path` is written until it is whole: a name that is short, however long its own is."""
    return path.with_name(f"{_beginning(path)}{secrets.token_hex(4)}")


def remove_unfinished(paths: Iterable[Path]) -> None:
    """Remove what killed runs left of the files at `paths`; nobody else may be at work on these.

    Raises:
        OSError: when one cannot be removed.
    """
    beginnings: dict[Path, set[str]] = {}
    for path in paths:
        beginnings.setdefault(path.parent, set()).add(_beginning(path))
    for folder, begin in beginnings.items():
        for entry in os.scandir(folder) if folder.is_dir() else ():
            if entry.name.rpartition(".")[0] + "." in begin:
                Path(entry.path).unlink(missing_ok=True)


def _beginning(path: Path) -> str:
    return f"{LEFT}{hashlib.sha256(os.fsencode(path.name)).hexdigest()[:8]}."


def cannot_write(error: OSError, path: Path) -> DovetailError:
    """The error for a file that cannot be written."""
    look = "df -h" if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO) else "ls -ld"
    said = error.strerror or one_line(error)
    return OutsideError(
        f"{path} cannot be written: {said}", f"{look} {shlex.quote(str(path.parent))}, then run the same command again"
    )
