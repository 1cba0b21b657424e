"""DVC's own view of a repository, opened when it is asked for the first time."""

import os
import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import cached_property
from pathlib import Path
from time import monotonic
from traceback import walk_tb
from typing import TYPE_CHECKING

from dovetail.errors import Busy, DataUnavailable, OutsideError, UserError, one_line
from dovetail.repo import dvc_1
from dovetail.repo.dvc_files import parse_dvc, parse_lock
from dovetail.repo.run_cache import ignore_empty_entries
from dovetail.system.disk import is_of_disk
from dovetail.values.documents import Unreadable, mapping, shared_yaml

if TYPE_CHECKING:
    from dvc.repo import Repo

_US = __name__.partition(".")[0]
_DVC = ("dvc", "dvc_data", "dvc_objects", "dvc_render", "dvc_task", "scmrepo")
_LOCK_SECONDS = 60
_DOCUMENTS = ("dvc.yaml", "params.yaml", "dvc.lock")


class DvcRepo:
    """The DVC repository at `root`, shared by all that asks DVC."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.asked_remotes: dict[str | None, DataUnavailable | None] = {}  # by name, why one gives no answer
        self._closing = ExitStack()

    @cached_property
    def opened(self) -> "Repo":
        """The repository as DVC opens it; the import of DVC takes half a second.

        Raises:
            UserError: when DVC refuses: a configuration that cannot be read, no git repository around it.
        """
        from dvc.config import ConfigError
        from dvc.repo import Repo

        try:
            with self.asked():
                repo = self._closing.enter_context(Repo(str(self.root)))
        except UserError as error:
            if isinstance(error.__cause__, ConfigError):
                raise _of_config(self.root, error.__cause__) from error.__cause__
            raise
        cache = Path(repo.cache.local_cache_dir)
        if cache.exists() and not cache.is_dir():
            raise UserError(f"{cache}, where DVC keeps its cache, is not a folder", f"ls -ld {shlex.quote(str(cache))}")
        ignore_empty_entries(repo)
        return repo

    @property
    def default_remote(self) -> str | None:
        """The name of the remote that DVC's commands use where none is named."""
        name: str | None = self.opened.config["core"].get("remote")
        return name

    @contextmanager
    def asked(self, next_command: str = "correct the file named, then: dvc status") -> Iterator[None]:
        """Translate all that DVC's own code raises in the block; what our code raises there stays what it is.

        DVC checks little of what it reads: a date that is none ends in a ValueError that names no file. So the files
        that it read are read again, strictly, to say which one it is.

        Raises:
            UserError: that names the file and the place in it; `next_command` is what to type then.
        """
        try:
            yield
        except Exception as error:
            if not of_dvc(error):
                raise
            if is_of_disk(error):
                raise OutsideError(f"DVC cannot go on: {one_line(error)}", f"df -h {self.root}") from error
            if old := of_dvc_1(self.root):
                raise UserError(*old) from error
            what = next(broken_files(self.root), None) or f"DVC refuses {self.root}: {one_line(error)}"
            raise UserError(what, next_command) from error

    @contextmanager
    def locked(self, should_give_up: Callable[[], bool]) -> Iterator[None]:
        """Hold DVC's lock, which commands that run a stage release meanwhile.

        Raises:
            UserError: in place of DVC's own errors.
            Busy: when another command holds DVC's lock for a minute, and `should_give_up` says so.
        """
        from dvc.lock import LockError

        lock, end = self.opened.lock, monotonic() + _LOCK_SECONDS
        while True:
            try:
                lock.lock()
                break
            except LockError as error:
                if monotonic() > end and should_give_up():
                    what = f"another dvc command has held {self.root}/.dvc/tmp/lock for {_LOCK_SECONDS} s"
                    raise Busy(what, "run the same command again when it has ended") from error
        try:
            with self.asked():
                yield
        finally:
            lock.unlock()

    def close(self) -> None:
        """Close it, if it was opened."""
        self._closing.close()


@contextmanager
def dvc_errors() -> Iterator[None]:
    """Translate what DVC says of a file that it cannot read.

    Raises:
        UserError: in place of DVC's own errors.
    """
    try:
        yield
    except Exception as error:
        dvc = sys.modules.get("dvc.exceptions")  # where it was never imported nothing can be its error
        if dvc and isinstance(error, dvc.DvcException):
            raise UserError(one_line(error), "correct the file named, then: dvc status") from error
        raise


def _of_config(root: Path, error: Exception) -> UserError:
    """The error for a configuration that DVC refuses, with the name of the file where one is no configuration file."""
    from configobj import ConfigObj, ConfigObjError

    for path in (".dvc/config", ".dvc/config.local"):
        try:
            ConfigObj(str(root / path), encoding="utf-8")
        except (ConfigObjError, OSError, UnicodeDecodeError) as found:
            return UserError(f"{path} cannot be read: {one_line(found)}", f"correct {path}, then: dvc config --list")
    what = f".dvc/config, or a file that is read with it, is not valid: {one_line(error)}"
    return UserError(what, "dvc config --list --show-origin")


def of_dvc(error: BaseException) -> bool:
    """Whether DVC's code raised the error, or called what raised it; not our code that asked DVC, nor one it calls."""
    rooms = (frame.f_globals.get("__name__", "").partition(".")[0] for frame, _ in walk_tb(error.__traceback__))
    ours = [room for room in rooms if room in _DVC or room == _US]
    return bool(ours) and ours[-1] != _US


def broken_files(root: Path) -> Iterator[str]:
    """What is wrong with each file below `root` that DVC reads and that is not what DVC writes, in a sentence."""
    for file in read_by_dvc(root):
        path = file.relative_to(root).as_posix()
        try:
            check(file.read_bytes(), path)
        except (OSError, Unreadable) as error:
            yield f"{path} cannot be read: {error.strerror if isinstance(error, OSError) else error}"


def of_dvc_1(root: Path) -> tuple[str, str] | None:
    """What is wrong with files of DVC 1 below `root`, and the command after which DVC 3 reads them."""
    files = {file.relative_to(root).as_posix(): file for file in read_by_dvc(root) if file.is_file()}
    return dvc_1.named({path: file.read_bytes() for path, file in files.items()})


def check(content: bytes, path: str) -> None:
    """Read a document that DVC reads by its name, strictly.

    Raises:
        Unreadable: when it is none, or not of the form that its name promises.
    """
    if path.endswith(".dvc"):
        parse_dvc(content, path)
    elif path.rpartition("/")[2] == "dvc.lock":
        parse_lock(content)
    else:
        mapping(shared_yaml(content), "the whole")


def is_document(path: str) -> bool:
    """Whether DVC reads the file by its name."""
    return path.rpartition("/")[2] in _DOCUMENTS or path.endswith(".dvc")


def read_by_dvc(root: Path) -> Iterator[Path]:
    """The documents below `root` that DVC reads by their names; hidden folders hold none."""
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name != "mlruns")
        here = Path(folder)
        named = [name for name in _DOCUMENTS if (here / name).exists() or (here / name).is_symlink()]
        yield from (here / name for name in named)
        yield from (here / name for name in sorted({*names, *folders}) if name.endswith(".dvc"))
