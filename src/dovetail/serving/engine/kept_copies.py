"""Copies of served versions on this machine: what a server starts with when MLflow is away."""

import errno
import hashlib
import hmac
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

from dovetail.compiling import compiled_model
from dovetail.errors import OutsideError, Untrusted
from dovetail.models import folder_model
from dovetail.models.folder_md5 import SUFFIX
from dovetail.models.mlflow_folder import MLMODEL
from dovetail.models.network_file import packaged_model
from dovetail.serving.key_file import key, user_key_file
from dovetail.serving.trust import NONE
from dovetail.tracking.client import raised_by
from dovetail.tracking.package_digest import package_digest

_LAST, _SIGNATURE = "last.json", "signature"
_LEFT_SECONDS = 86_400
_KEPT = 2  # the one that is served and the one before


@dataclass(frozen=True, slots=True)
class VersionCopy:
    """A version that is to be served, and its copy.

    Attributes:
        md5: What the registry says that its model's bytes are.
        commit: HEAD when it was registered, where that is known.
        allow: Packages that its pickle may name besides the usual.
        folder: The MLflow model.
        onnx: What the registry says that its compiled model's bytes are; None where it is not to be used.
        package: The digest of all its files, as they were brought.
        trust: Who vouches for it besides MLflow.
    """

    version: int
    md5: str
    commit: str | None
    allow: tuple[str, ...]
    folder: str
    onnx: str | None = None
    package: str = ""
    trust: str = field(default=NONE, compare=False)  # the same version, whoever vouches for it

    @classmethod
    def parse(cls, said: dict[str, object]) -> "VersionCopy":
        """From its fields as JSON has them."""
        return cls(**{**said, "allow": tuple(said["allow"])})  # type: ignore[arg-type]  # the fields of `asdict`


def name_of(version: int, md5: str) -> str:
    """The name of a version's copy."""
    return f"{version}-{md5}"


def keep(
    folder: Path, md5: str, onnx: str | None, package: tuple[str, str] | None, fetch: Callable[[Path], None]
) -> str:
    """Let `folder` be the copy of a version: fetched if it is not there or not what was registered.

    `package` is the digest that the whole has to have, and who says so. A compiled model that is not what was
    registered is fetched again, but needed it is not. Returns the digest of the whole.

    Raises:
        OutsideError: when what is fetched is not what was registered, or the copy cannot be written.
        Untrusted: when it is not what `package` says.
        RequestException: of requests, as `fetch` raises it.
    """
    if found := _kept(folder, md5, onnx, package):
        return found
    try:
        with _alone(folder):  # who else brings it meanwhile may read it already
            return _kept(folder, md5, onnx, package) or _bring(folder, md5, package, fetch)
    except OSError as error:
        if isinstance(error, raised_by("requests.exceptions", "RequestException")):
            raise  # what MLflow's server answered is nothing that this disk did
        look = "ls -ld" if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR) else "df -h"
        raise OutsideError(f"{folder} cannot be written: {error}", f"{look} {folder.parent}") from error


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Keep others from bringing the same version meanwhile, on this machine."""
    from filelock import FileLock

    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_name(f".{folder.name}.lock")) as lock:
        yield
        Path(lock.lock_file).unlink(missing_ok=True)  # who waits for the file that it was looks again


def _kept(folder: Path, md5: str, onnx: str | None, package: tuple[str, str] | None) -> str | None:
    """The digest of the copy, where it is what was registered."""
    try:
        if is_whole(folder, md5) and (onnx is None or _md5(folder / compiled_model.FILE) == onnx):
            found = package_digest(folder)
            if package is None or package[1] == found:
                return found
    except OSError as error:
        raise OutsideError(f"{folder} cannot be read: {error}", f"ls -l {folder}") from error
    return None


def _bring(folder: Path, md5: str, package: tuple[str, str] | None, fetch: Callable[[Path], None]) -> str:
    """Fetch the copy, and let it take the place of what is there; returns its digest."""
    number = folder.name.partition("-")[0]
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    try:
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir()
        fetch(temporary)
        if not is_whole(temporary, md5):
            raise OutsideError(
                f"what the registry gives for version {number} is not what was registered (md5 {md5})",
                "dovetail sync --repair",
            )
        found = _expected_package(temporary, number, package)
        shutil.rmtree(folder, ignore_errors=True)
        temporary.rename(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return found


def _expected_package(folder: Path, number: str, package: tuple[str, str] | None) -> str:
    """The digest of all files in the folder.

    Raises:
        Untrusted: when it is not what `package` says.
    """
    found = package_digest(folder)
    if package and package[1] != found and (folder / compiled_model.FILE).exists():
        shutil.rmtree((folder / compiled_model.FILE).parent)  # compiled later: nobody vouched for it, and none needs it
        found = package_digest(folder)
    if package and package[1] != found:
        raise Untrusted(
            f"the package of version {number} (sha256 {found}) is not what {package[0]} names (sha256 {package[1]})",
            "dovetail sync --repair",
        )
    return found


def is_whole(folder: Path, md5: str) -> bool:
    """Whether the copy's model, a file or all of the folder, has the digest."""
    if md5.endswith(SUFFIX):
        return folder.is_dir() and folder_model.digest(folder) == md5
    file = packaged_model(folder)
    return (folder / MLMODEL).is_file() and file is not None and _md5(file) == md5


def _md5(file: Path) -> str | None:
    try:
        return hashlib.md5(file.read_bytes(), usedforsecurity=False).hexdigest()
    except FileNotFoundError:
        return None


def drop_broken(copy: VersionCopy) -> bool:
    """Remove the copy if its bytes are not those of the version; whether that was so."""
    try:
        if is_whole(Path(copy.folder), copy.md5):
            return False
    except OSError:  # not now; it may be whole
        return False
    shutil.rmtree(copy.folder, ignore_errors=True)
    return True


def remember(place: Path, copy: VersionCopy) -> None:
    """Note that `copy` answers, and forget copies from longer ago. A full disk costs the note, nothing else."""
    with suppress(OSError, RuntimeError):  # RuntimeError: no home to keep a key in
        temporary = place / f".{_LAST}.{os.getpid()}.tmp"
        temporary.write_text(json.dumps({**asdict(copy), _SIGNATURE: _signature(copy)}), encoding="utf-8")
        temporary.replace(place / _LAST)
        for left in place.glob(".*.tmp"):  # by a process that was killed while it brought or noted a version
            if time.time() - left.stat().st_mtime > _LEFT_SECONDS:
                shutil.rmtree(left, ignore_errors=True) if left.is_dir() else left.unlink(missing_ok=True)
        copies = sorted(
            (entry for entry in place.iterdir() if entry.is_dir() and not entry.name.startswith(".")),
            key=lambda entry: entry.stat().st_mtime,
        )
        for folder in copies[:-_KEPT]:
            if str(folder) != copy.folder:
                shutil.rmtree(folder, ignore_errors=True)


def last(place: Path) -> tuple[VersionCopy, bool] | None:
    """The version that answered last, if its copy is still there, and whether a server of this user wrote that."""
    try:
        said = json.loads((place / _LAST).read_text(encoding="utf-8"))
        signature = str(said.pop(_SIGNATURE, ""))
        copy = VersionCopy.parse(said)
        if copy.folder != str(place / name_of(copy.version, copy.md5)) or not Path(copy.folder).is_dir():
            return None
        return copy, hmac.compare_digest(signature.encode(), _signature(copy).encode())
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError):
        return None


def _signature(copy: VersionCopy) -> str:
    """The HMAC-SHA256 of all that is noted, with a key that is kept outside of the repository."""
    said = json.dumps(asdict(copy), sort_keys=True, separators=(",", ":"))
    return hmac.new(key(user_key_file()), said.encode(), hashlib.sha256).hexdigest()
