"""Load a version: a process that reads its model, and the requests' way to it."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from dovetail.serving.engine.batching import Batcher
from dovetail.serving.engine.kept_copies import VersionCopy
from dovetail.serving.engine.model_client import ModelClient
from dovetail.serving.engine.process_client import ProcessLost
from dovetail.serving.metrics import Metrics
from dovetail.serving.protocol.signature import Signature
from dovetail.serving.settings import Settings

_LOAD_SECONDS = 300.0  # for a version to be read and to answer its example


@dataclass(frozen=True, slots=True)
class ServedVersion:
    """A version that answers requests."""

    copy: VersionCopy
    signature: Signature
    about: dict[str, Any]
    batcher: Batcher
    since: float


class VersionLoader:
    """Starts model processes and lets them read versions. The first process starts before its version is known."""

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        self._settings = settings
        self._metrics = metrics
        self._spare: asyncio.Task[ModelClient] | None = None

    def start_spare(self) -> None:
        """Start a process now, for the first version that will be loaded."""
        self._spare = asyncio.create_task(ModelClient.start_empty())

    async def load(self, copy: VersionCopy, on_lost: Callable[[VersionCopy, Batcher], None]) -> ServedVersion:
        """A version that answers; `on_lost` is called when its process ends.

        Raises:
            ValueError: when the model cannot be read, or does not answer its example.
            ProcessLost: when the process ended meanwhile.
        """
        client, about = await self._loaded_process(copy)
        try:
            signature = Signature.of(about, about["methods"])
        except ValueError:
            client.close()
            raise
        batcher = Batcher(
            client,
            seconds=self._settings.options.timeout,
            together=signature.columns is not None,
            on_batch=self._metrics.batch,
        )
        _watch_for_loss(client, copy, batcher, on_lost)
        return ServedVersion(copy, signature, about, batcher, time.time())

    async def replace_process(
        self, copy: VersionCopy, batcher: Batcher, on_lost: Callable[[VersionCopy, Batcher], None]
    ) -> None:
        """Let another process answer for a version whose own ended.

        Raises:
            ValueError: when the model cannot be read any more.
            ProcessLost: when that process ended, too.
        """
        client, _ = await self._loaded_process(copy)
        _watch_for_loss(client, copy, batcher, on_lost)
        batcher.attach(client)

    async def close(self) -> None:
        """End the process that nobody has used."""
        if self._spare and not self._spare.cancelled():
            (await self._spare).close()

    async def _loaded_process(self, copy: VersionCopy) -> tuple[ModelClient, dict[str, Any]]:
        spare, self._spare = self._spare, None
        client = await spare if spare else await ModelClient.start_empty()
        try:
            async with asyncio.timeout(_LOAD_SECONDS):
                about = await client.load(copy)
        except TimeoutError:
            client.close()
            raise ProcessLost(f"it was not loaded in {_LOAD_SECONDS:.0f} s") from None
        except BaseException:
            client.close()
            raise
        return client, about


def _watch_for_loss(
    client: ModelClient, copy: VersionCopy, batcher: Batcher, on_lost: Callable[[VersionCopy, Batcher], None]
) -> None:
    def lost() -> None:
        batcher.detach()
        on_lost(copy, batcher)

    client.on_lost = lost
