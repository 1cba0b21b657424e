"""A remote of DVC, opened and asked: what it cannot answer is told as such, and never taken for an absent object."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Thread
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from dovetail.errors import DataUnavailable, DovetailError, UserError, one_line
from dovetail.repo.dvc_repo import DvcRepo

if TYPE_CHECKING:
    from dvc_data.hashfile.db import HashFileDB

DVC_3, DVC_2 = "md5", "md5-dos2unix"  # what they call how they digest; each keeps its objects in a place of its own
_SECONDS = 10.0
_TIMEOUTS = ("read_timeout", "connect_timeout", "connection_timeout", "timeout")  # as DVC's remotes have them
_NOBODYS = "0" * 32  # a digest that no object has
_UNAUTHORIZED, _SERVER_ERROR = 401, 500  # HTTP


def open_remote(dvc: DvcRepo, name: str | None = None, *, by_dvc_2: bool = False) -> "HashFileDB | None":
    """The object database of the remote; None where none is named and none is set.

    `by_dvc_2` is for the one of objects that DVC 2 put there.

    Raises:
        UserError: when there is no remote of that name, or it keeps files by their own names.
        DataUnavailable: when its plugin is missing, or it does not answer.
    """
    from dvc.config import ConfigError, NoRemoteError

    shown = name or dvc.default_remote
    try:
        remote = dvc.opened.cloud.get_remote_odb(name, hash_name=DVC_2 if by_dvc_2 else DVC_3)
    except NoRemoteError:
        return None
    except ConfigError as error:
        raise UserError(f"remote {shown}: {one_line(error)}", "dvc remote list") from error
    except ImportError as error:
        raise _without_plugin(dvc, shown, error) from error
    if shown not in dvc.asked_remotes:
        dvc.asked_remotes[shown] = _silence(dvc, shown, remote)
    if silence := dvc.asked_remotes[shown]:
        raise silence
    return remote


def _silence(dvc: DvcRepo, name: str | None, remote: "HashFileDB") -> DataUnavailable | None:
    """Why the remote gives no answer; None where it gives one."""
    try:
        with answering(f"remote {name}"):
            _within(_patience(dvc, name), lambda: _check(remote))
    except DataUnavailable as error:
        return error
    return None


def missing_plugin(dvc: DvcRepo, name: str) -> DataUnavailable | None:
    """The error of a remote whose plugin is not installed; what else may be wrong with it is told when it is asked."""
    try:
        dvc.opened.cloud.get_remote_odb(name)
    except ImportError as error:
        return _without_plugin(dvc, name, error)
    except Exception:  # noqa: BLE001  (plugins raise anything)
        return None
    return None


def _without_plugin(dvc: DvcRepo, name: str | None, error: ImportError) -> DataUnavailable:
    next_command = f"python -m pip install {_plugin(dvc, name)}, then run the same command again"
    return DataUnavailable(f"remote {name}: {one_line(error)}", next_command)


@contextmanager
def answering(name: str) -> Iterator[None]:
    """Translate what a remote or the cache raises in the block, which does nothing but ask it: plugins raise anything.

    Raises:
        DataUnavailable: with `name` in it.
    """
    try:
        yield
    except DovetailError:
        raise
    except Exception as error:
        raise DataUnavailable(f"{name} does not answer: {one_line(error)}", "dvc remote list, dvc doctor") from error


def _patience(dvc: DvcRepo, name: str | None) -> float:
    """For how many seconds the remote is asked: ten, or what its configuration says."""
    settings = dvc.opened.config["remote"].get(name, {})
    return max((float(settings[key]) for key in _TIMEOUTS if settings.get(key)), default=_SECONDS)


def _within(seconds: float, ask: Callable[[], None]) -> None:
    """Ask, and go on without an answer after a time: plugins wait for minutes and try again.

    Raises:
        TimeoutError: when there was none.
    """
    raised: list[Exception] = []

    def asking() -> None:
        try:
            ask()
        except Exception as error:  # noqa: BLE001  (plugins raise anything; it is raised again)
            raised.append(error)

    thread = Thread(target=asking, daemon=True, name="dovetail-remote")
    thread.start()
    thread.join(seconds)
    if thread.is_alive():
        raise TimeoutError(f"nothing within {seconds:g} seconds")
    for error in raised:
        raise error


def _check(remote: "HashFileDB") -> None:
    """Ask once for what nobody has. DVC takes each object of an HTTP server that gives no answer for absent."""
    if remote.fs.protocol == "local":
        return
    if remote.fs.protocol not in ("http", "https"):
        remote.fs.exists(remote.oid_to_path(_NOBODYS))
        return
    try:
        remote.fs.cat_file(remote.oid_to_path(_NOBODYS))
    except FileNotFoundError:
        pass
    except Exception as error:
        status = getattr(error, "status", None)  # of an answer; some servers refuse what they do not have
        if status is None or status == _UNAUTHORIZED or status >= _SERVER_ERROR:
            raise


def _plugin(dvc: DvcRepo, name: str | None) -> str:
    """The package that DVC needs for the remote's kind of address."""
    from dvc_objects.fs import known_implementations

    scheme = urlsplit(dvc.opened.config["remote"].get(name, {}).get("url", "")).scheme
    module = known_implementations.get(scheme, {}).get("class", f"dvc_{scheme}.").partition(".")[0]
    return str(module.replace("_", "-"))
