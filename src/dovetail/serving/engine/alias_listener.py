"""The server's side of the process that watches the alias: start it, hear what it says, start it again when it ends."""

import asyncio
import json
import os
import sys
from asyncio.subprocess import PIPE
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from dovetail.serving.engine.health import Health
from dovetail.serving.settings import SECRETS, Settings

_PAUSE = 0.5  # seconds before it is started again
_LONGEST = 1 << 20  # bytes of a message


async def listen(settings: Settings, health: Health, on_message: Callable[[dict[str, Any]], None]) -> None:
    """Hear what `alias_watch` says, for as long as this task lives."""
    asked = {
        "root": str(settings.root), "model": settings.model, "alias": settings.alias, "version": settings.version,
        "poll": settings.options.poll, "keep": str(settings.keep),
        "ledger": str(settings.ledger or ""), "trust": settings.options.trust,
    }  # fmt: skip
    command = [sys.executable, "-P", "-m", "dovetail.serving.engine.alias_watch", json.dumps(asked)]
    while True:
        try:
            await _listen_once(command, health, on_message)
        except (OSError, ValueError) as error:  # out of processes or files, or a line without an end
            health.problems["store"] = f"MLflow cannot be asked: {error}"
        await asyncio.sleep(_PAUSE)


async def _listen_once(command: list[str], health: Health, on_message: Callable[[dict[str, Any]], None]) -> None:
    env = {key: value for key, value in os.environ.items() if key not in SECRETS}
    process = await asyncio.create_subprocess_exec(
        *command, stdin=PIPE, stdout=PIPE, start_new_session=True, env=env, limit=_LONGEST
    )
    try:
        while line := await process.stdout.readline():  # type: ignore[union-attr]  # it is a pipe
            if message := _message(line):
                on_message(message)
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        if await process.wait() > 0:  # 0: the store's file is another; below: somebody killed it
            health.store_is_lost("the process that asks MLflow ended, see what it printed")


def _message(line: bytes) -> dict[str, Any] | None:
    """What the process says; None where a library has printed something else, which may be JSON as well."""
    try:
        said = json.loads(line)
    except ValueError:
        return None
    return said if isinstance(said, dict) and said.keys() & {"found", "kind"} else None
