"""Whose turn it is to write of a model, where several clones write to one store.

MLflow has no lock, but makes a registered model of one name once. Whoever makes the one that stands for the turn has
it, and deletes it afterwards. The holder changes a tag of it every few seconds; one that stays the same was left
behind by a process that was killed, and is taken over.
"""

import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from dovetail.errors import Busy
from dovetail.values.tag_keys import TURN_BEAT, TURN_OWNER

if TYPE_CHECKING:
    from mlflow import MlflowClient

PREFIX = "dovetail.turn."
_PAUSE, _BEATS_EVERY, _LEFT_BEHIND, _MOST = 0.2, 5, 30, 600  # seconds


@contextmanager
def held(client: "MlflowClient", model: str, owner: str) -> Iterator[None]:
    """Hold the turn for the block; `owner` is this clone, which holds its own lock.

    Raises:
        Busy: when another clone has it for ten minutes.
    """
    name = f"{PREFIX}{model}"
    _take(client, name, owner)
    ended = threading.Event()
    beating = threading.Thread(target=_beat, args=(client, name, ended), daemon=True)
    beating.start()
    try:
        yield
    finally:
        ended.set()
        beating.join()
        with suppress(Exception):  # it is taken over then
            client.delete_registered_model(name)


def _take(client: "MlflowClient", name: str, owner: str) -> None:
    end = time.monotonic() + _MOST
    seen: dict[str, str] | None = None
    since = time.monotonic()
    while not _made(client, name, owner):
        tags = _tags(client, name)
        if tags is None:
            continue  # it was given back just now
        if tags.get(TURN_OWNER) == owner:
            return  # left behind by a process of this clone
        if tags != seen:
            seen, since = tags, time.monotonic()
        elif time.monotonic() - since > _LEFT_BEHIND:
            with suppress(Exception):  # another one that waits did so
                client.delete_registered_model(name)
            continue
        if time.monotonic() > end:
            model = name.removeprefix(PREFIX)
            raise Busy(
                f"another clone has been writing model {model} for {_MOST} seconds", "run the same command again"
            )
        time.sleep(_PAUSE)


def _made(client: "MlflowClient", name: str, owner: str) -> bool:
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(
            name, {TURN_OWNER: owner, TURN_BEAT: uuid.uuid4().hex}, "somebody registers a version"
        )
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


def _beat(client: "MlflowClient", name: str, ended: threading.Event) -> None:
    while not ended.wait(_BEATS_EVERY):
        with suppress(Exception):  # the next one may get through
            client.set_registered_model_tag(name, TURN_BEAT, uuid.uuid4().hex)
