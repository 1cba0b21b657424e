"""The lock to write of a model, where several clones write to one store.

MLflow has no lock, but makes a registered model of one name once. Whoever makes the one that stands for the lock has
it, and deletes it afterwards. The holder changes a tag of it every few seconds; one that stays the same was left
behind by a process that was killed, and is taken over.

To take over is to delete one and make another, and all that waited may be about to: who deletes one that was left
behind has first made a registered model that stands for that very one, and then looked that it is still there. So
nobody deletes what another made meanwhile. A holder that slept for long, on a laptop that was closed, no longer has
it: before it makes a version it looks whether it does, and it deletes and keeps alive its own alone.
"""

import hashlib
import json
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dovetail.errors import Busy, TurnLost
from dovetail.values.tag_keys import TURN_BEAT, TURN_HOLDER, TURN_OWNER

if TYPE_CHECKING:
    from mlflow import MlflowClient

PREFIX = "dovetail.turn."
_PAUSE, _BEATS_EVERY, _LEFT_BEHIND, _MOST = 0.2, 5, 30, 600  # seconds


@dataclass(frozen=True, slots=True)
class StoreLock:
    """A lock that this process took: `holder` is another text each time that somebody takes one."""

    client: "MlflowClient"
    name: str
    holder: str

    def is_mine(self) -> bool:
        """Whether nobody took it over meanwhile."""
        tags = _tags(self.client, self.name)
        return tags is not None and tags.get(TURN_HOLDER) == self.holder

    def check(self) -> None:
        """Raise if somebody took it over.

        Raises:
            TurnLost: when somebody took it over.
        """
        if not self.is_mine():
            model = self.name.removeprefix(PREFIX)
            what = f"another clone writes model {model}: this process did not run for {_LEFT_BEHIND} seconds or more"
            raise TurnLost(what, "run the same command again")


@contextmanager
def held(client: "MlflowClient", model: str, owner: str) -> Iterator[StoreLock]:
    """Hold the lock for the block; `owner` is this clone, which holds its own lock on this machine.

    Raises:
        Busy: when another clone has it for ten minutes.
    """
    lock = StoreLock(client, f"{PREFIX}{model}", uuid.uuid4().hex)
    _take(lock, owner)
    ended = threading.Event()
    beating = threading.Thread(target=_beat, args=(lock, ended), daemon=True)
    beating.start()
    try:
        yield lock
    finally:
        ended.set()
        beating.join()
        with suppress(Exception):  # it is taken over then
            if lock.is_mine():
                client.delete_registered_model(lock.name)


def _take(lock: StoreLock, owner: str) -> None:
    began = since = time.monotonic()
    seen: dict[str, str] | None = None
    while not _made(lock.client, lock.name, {TURN_OWNER: owner, TURN_HOLDER: lock.holder}):
        tags = _tags(lock.client, lock.name)
        if tags is None:
            continue  # it was given back just now
        if tags.get(TURN_HOLDER) == lock.holder:
            return  # made, but the answer was lost and MLflow's client asked again
        now = time.monotonic()
        if tags != seen:
            seen, since = tags, now
        is_own = tags.get(TURN_OWNER) == owner  # left behind by a process of this clone
        if (is_own or now - since > _LEFT_BEHIND) and _removed(
            lock, tags, owner, is_late=now - since > 2 * _LEFT_BEHIND
        ):
            continue
        if now - began > _MOST:
            model = lock.name.removeprefix(PREFIX)
            raise Busy(
                f"another clone has been writing model {model} for {_MOST} seconds", "run the same command again"
            )
        time.sleep(_PAUSE)


def _removed(lock: StoreLock, tags: dict[str, str], owner: str, *, is_late: bool) -> bool:
    """Remove the lock that was left behind with these tags, unless somebody else is about to; whether that was done.

    Where that somebody was killed, too, the next one is let through once it `is_late`.
    """
    which = hashlib.sha256(json.dumps(tags, sort_keys=True).encode()).hexdigest()[:16]
    claim = f"{lock.name}.{which}"
    if not _made(lock.client, claim, {TURN_OWNER: owner, TURN_HOLDER: lock.holder}):
        found = _tags(lock.client, claim) or {}
        if found.get(TURN_HOLDER) != lock.holder:  # else it is mine, and the answer that said so was lost
            if is_late:
                _delete(lock.client, claim)
            return False
    try:
        if _tags(lock.client, lock.name) == tags:
            _delete(lock.client, lock.name)
    finally:
        _delete(lock.client, claim)
    return True


def _delete(client: "MlflowClient", name: str) -> None:
    with suppress(Exception):  # gone already; or it is tried again, by whoever waits
        client.delete_registered_model(name)


def _made(client: "MlflowClient", name: str, tags: dict[str, str]) -> bool:
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(name, {**tags, TURN_BEAT: uuid.uuid4().hex}, "somebody registers a version")
    except MlflowException as error:
        # MLflow looks for the one that is in the way before it says so; given back by then, it "does not exist"
        if error.error_code not in ("RESOURCE_ALREADY_EXISTS", "RESOURCE_DOES_NOT_EXIST"):
            raise
        return False
    return True


def _tags(client: "MlflowClient", name: str) -> dict[str, str] | None:
    from mlflow.exceptions import MlflowException

    try:
        found: Any = client.get_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return None
    return dict(found.tags)


def _beat(lock: StoreLock, ended: threading.Event) -> None:
    while not ended.wait(_BEATS_EVERY):
        with suppress(Exception):  # the next one may get through
            if not lock.is_mine():
                return
            lock.client.set_registered_model_tag(lock.name, TURN_BEAT, uuid.uuid4().hex)
