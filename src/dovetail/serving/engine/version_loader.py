"""Load a version: a process that reads its model, and the requests' way to it."""

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from dovetail.serving.engine.batching import Batcher
from dovetail.serving.engine.fork_client import CAN_FORK, ForkClient
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
        self.workers = settings.options.workers
        self._forks = ForkClient() if self.workers > 1 and CAN_FORK else None
        self._spare: list[asyncio.Task[ModelClient]] = []

    def start_spare(self) -> None:
        """Start the processes now, for the first version that will be loaded."""
        self._spare = [asyncio.create_task(ModelClient.start_empty(self._forks)) for _ in range(self.workers)]

    async def load(self, copy: VersionCopy, on_lost: Callable[[VersionCopy, Batcher], None]) -> ServedVersion:
        """A version that answers, in all of its processes or in none; `on_lost` is called when one ends.

        Raises:
            ValueError: when the model cannot be read, or does not answer its example, or differs between processes.
            ProcessLost: when a process ended meanwhile.
        """
        clients, about = await self._loaded_processes(copy)
        try:
            signature = Signature.of(about, about["methods"])
        except ValueError:
            _close(clients)
            raise
        batcher = Batcher(
            clients,
            seconds=self._settings.options.timeout,
            together=signature.columns is not None,
            on_batch=self._metrics.batch,
        )
        for client in clients:
            _watch_for_loss(client, copy, batcher, on_lost)
        if any(client.lost for client in clients):  # while another still loaded; nobody was told
            _close(clients)
            raise ProcessLost("one of its processes ended while another loaded")
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
        if client.lost:
            raise ProcessLost("it ended as soon as it was loaded")
        _watch_for_loss(client, copy, batcher, on_lost)
        batcher.attach(client)

    async def close(self) -> None:
        """End the processes that nobody has used."""
        for spare in self._spare:
            if not spare.cancelled():
                with suppress(ProcessLost):
                    (await spare).close()
        if self._forks:
            self._forks.close()

    async def _loaded_processes(self, copy: VersionCopy) -> tuple[list[ModelClient], dict[str, Any]]:
        """A process for each worker, every one of which says the same of the version."""
        loading = [asyncio.ensure_future(self._loaded_process(copy)) for _ in range(self.workers)]
        try:
            found = await asyncio.gather(*loading)
        except BaseException:
            for one in loading:
                one.cancel()
            done = await asyncio.gather(*loading, return_exceptions=True)
            _close([one[0] for one in done if not isinstance(one, BaseException)])
            raise
        clients, about = [client for client, _ in found], found[0][1]
        if any(said != about for _, said in found):
            _close(clients)
            raise ValueError(f"it is not the same in each of {self.workers} processes")
        return clients, about

    async def _loaded_process(self, copy: VersionCopy) -> tuple[ModelClient, dict[str, Any]]:
        client = await (self._spare.pop() if self._spare else ModelClient.start_empty(self._forks))
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


def _close(clients: Sequence[ModelClient]) -> None:
    for client in clients:
        client.close()


def _watch_for_loss(
    client: ModelClient, copy: VersionCopy, batcher: Batcher, on_lost: Callable[[VersionCopy, Batcher], None]
) -> None:
    def lost() -> None:
        batcher.detach(client)
        on_lost(copy, batcher)

    client.on_lost = lost
