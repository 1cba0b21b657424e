"""Serve what an alias names: load the new version beside the old one, swap; keep the old one if that fails."""

import asyncio
import logging
from contextlib import suppress
from typing import Any

from dovetail.errors import DovetailError, OutsideError, StoreError, UnknownReference, UserError, one_line
from dovetail.serving.engine import kept_copies, logged_columns
from dovetail.serving.engine.alias_listener import listen
from dovetail.serving.engine.batching import Batcher
from dovetail.serving.engine.first_copy import first_copy
from dovetail.serving.engine.health import BROKEN, Health
from dovetail.serving.engine.kept_copies import VersionCopy
from dovetail.serving.engine.process_client import ProcessLost
from dovetail.serving.engine.version_loader import ServedVersion, VersionLoader
from dovetail.serving.metrics import Metrics
from dovetail.serving.settings import Settings

_log = logging.getLogger(__name__)
_TICK = 0.1  # seconds between two looks at who has waited too long
_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 30.0  # seconds before something that failed is tried again
_STORE_SECONDS = 600.0  # that a version is waited for at the start, where there is no copy to begin with
_COPY_SECONDS = 10.0  # … and where there is one


class Follower:
    """What is served now, and whether it should be."""

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        """Nothing is started yet."""
        self._settings = settings
        self._metrics = metrics
        self._loader = VersionLoader(settings, metrics)
        self._wanted: VersionCopy | None = None
        self._news = asyncio.Event()
        self._draining: list[Batcher] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._noting = asyncio.Lock()
        self._noted: asyncio.Task[None] | None = None  # or about to be: what answers
        self._first: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._starting = True  # what happens meanwhile is said by whoever started it
        self._failure = ""  # of the last version that could not be loaded, until one is
        self.current: ServedVersion | None = None
        self.health = Health(metrics)

    async def start(self) -> None:
        """Return once a version answers.

        Raises:
            UnknownReference: when the alias names none.
            StoreError: when MLflow does not answer and there is no copy.
            OutsideError: when the version cannot be loaded.
            UserError: when it has not the columns that its log is to leave out.
        """
        try:
            await self._start()
        finally:
            self._starting = False
        if self._noted:  # a server that is killed from now on starts with what answers now
            await asyncio.wait({self._noted})

    async def _start(self) -> None:
        self._loader.start_spare()
        for work in (listen(self._settings, self.health, self._heard), self._load_news(), self._tick()):
            self._begin(work)
        first = await asyncio.to_thread(first_copy, self._settings)
        copy = first.copy
        if first.forged:
            self.health.problems["copy"] = first.problem
        if copy and first.named:
            with suppress(ValueError, ProcessLost):
                await self._begin_with(copy)
                return
        try:
            await asyncio.wait_for(asyncio.shield(self._first), _COPY_SECONDS if copy else _STORE_SECONDS)
        except (StoreError, OutsideError, TimeoutError) as error:
            if copy is None:
                raise self._not_in_time(error, first.problem) from error
            self.health.problems.setdefault("store", "MLflow has not answered yet")
            try:
                await self._begin_with(copy)
            except (ValueError, ProcessLost) as failure:
                raise self._not_in_time(error) from failure

    async def stop(self) -> None:
        """End all processes."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for batcher in self._batchers():
            batcher.end()
        await self._loader.close()

    async def _begin_with(self, copy: VersionCopy) -> None:
        """Serve the last good copy, unless what should be served was faster."""
        loaded = await self._loader.load(copy, self._lost)
        if self.current is None:
            self._check_first(loaded)
            self._swap(loaded)
        else:
            loaded.batcher.close()

    def _not_in_time(self, error: Exception, copy: str = "") -> Exception:
        if isinstance(error, DovetailError):
            return type(error)(f"{error.message}; {copy}", error.next_command) if copy else error
        what = f"{self._settings.what} was not brought from MLflow and loaded in {_STORE_SECONDS:.0f} s"
        return StoreError(what, "mlflow doctor")

    def _begin(self, work: Any) -> "asyncio.Task[None]":
        task: asyncio.Task[None] = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()):  # unforeseen: it no longer follows
            self.health.problems[BROKEN] = f"{type(error).__name__}: {error}"
            _log.error("a task of the server ended", exc_info=error)

    def _heard(self, said: dict[str, Any]) -> None:
        """Act on a message of the process that watches the alias."""
        if "found" in said:
            self.health.store_answers()
            copy = VersionCopy.parse(said["found"])
            if self.current and self.current.copy == copy and not self.health.loading:
                self.health.problems.pop("load", None)
                self.health.trust = copy.trust
            if copy != self._wanted:
                self._wanted = copy
                self._news.set()
            return
        if said["kind"] == "load":
            self._failed(said["error"])
        else:
            self.health.store_is_lost(said["error"], answers=said["kind"] == "unknown")
        kinds = {"unknown": UnknownReference, "store": StoreError, "load": OutsideError}
        self._fail_start(kinds[said["kind"]](said["error"], said["next"]))

    def _fail_start(self, error: Exception) -> None:
        """Say why no version answers yet, to whoever waits for the first."""
        if not self._first.done():
            self._first.set_exception(error)
            self._first.exception()  # where a copy serves, nobody else asks for it

    async def _load_news(self) -> None:
        pause = _FIRST_PAUSE
        while True:
            await self._news.wait()
            self._news.clear()
            copy = self._wanted
            if copy is None:
                continue
            if self.current and self.current.copy == copy:
                self.health.problems.pop("load", None)
                continue
            loading = await self._load_unless_news(copy)
            if loading.cancelled():
                continue
            try:
                if self.current is None:
                    self._check_first(loading.result())
                self._swap(loading.result())
                pause = _FIRST_PAUSE
            except (ValueError, ProcessLost, UserError) as error:
                if isinstance(error, UserError):
                    self._fail_start(error)
                else:
                    self._load_failed(copy, str(error))
                    if await asyncio.to_thread(kept_copies.drop_broken, copy):
                        self._wanted = None  # the next look brings it anew
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._news.wait(), pause)
                self._news.set()
                pause = min(pause * 2, _LONGEST_PAUSE)

    async def _load_unless_news(self, copy: VersionCopy) -> "asyncio.Future[ServedVersion]":
        """Load a version; cancelled when meanwhile another is wanted."""
        loading = asyncio.ensure_future(self._loader.load(copy, self._lost))
        news = asyncio.ensure_future(self._news.wait())
        self.health.loading = copy.version
        try:
            await asyncio.wait({loading, news}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            news.cancel()
            self.health.loading = None
            if not loading.done():
                loading.cancel()
                await asyncio.wait({loading})
        return loading

    def _check_first(self, loaded: ServedVersion) -> None:
        """Refuse a first version of which the log cannot leave out what it is told to; later ones are served anyway.

        Raises:
            UserError: when it cannot.
        """
        try:
            logged_columns.check_left_out(self._settings, loaded.copy.version, loaded.signature)
        except UserError:
            loaded.batcher.close()
            raise

    def _swap(self, loaded: ServedVersion) -> None:
        old, self.current = self.current, loaded
        self._failure = ""
        if not self._starting:
            before = f"{old.copy.version} → " if old else ""
            _log.info("%s: version %s%s", self._settings.what, before, loaded.copy.version)
        columns = logged_columns.problem(self._settings, loaded.copy.version, loaded.signature)
        self.health.is_served(columns)
        if columns:
            _log.warning("the prediction log %s: %s", self._settings.log, columns)
        self.health.trust = loaded.copy.trust
        self._metrics.serving(self._settings.model, loaded.copy.version, loaded.copy.md5)
        self._noted = self._begin(self._remember(loaded.copy))
        for _ in range(self._loader.workers - loaded.batcher.processes):  # ended since it was loaded
            self._lost(loaded.copy, loaded.batcher)
        if old:
            self._draining.append(old.batcher)
            old.batcher.close()
        if not self._first.done():
            self._first.set_result(None)

    async def _remember(self, copy: VersionCopy) -> None:
        """Note what answers, off the event loop: to forget a large copy takes a while."""
        async with self._noting:
            if self.current and self.current.copy == copy:  # else what came after it notes itself
                await asyncio.to_thread(kept_copies.remember, self._settings.keep, copy)

    def _load_failed(self, copy: VersionCopy, why: str) -> None:
        self._failed(f"version {copy.version} cannot be served: {why}")
        what = f"{self._settings.what} is version {copy.version}, which cannot be served: {why}"
        model, alias = self._settings.model, self._settings.alias
        another = f"dovetail rollback {model} --to {alias}" if alias else f"dovetail list {model}"
        self._fail_start(OutsideError(what, another))

    def _failed(self, why: str) -> None:
        """Note that a version could not be loaded, and log it once, however often it is tried again."""
        self.health.load_failed(why)
        if why != self._failure and not self._starting:
            stays = f"stays at version {self.current.copy.version}" if self.current else "is not served"
            _log.warning("%s %s: %s", self._settings.what, stays, one_line(why))
        self._failure = why

    def _lost(self, copy: VersionCopy, batcher: Batcher) -> None:
        self._begin(self._replace_process(copy, batcher))

    async def _replace_process(self, copy: VersionCopy, batcher: Batcher) -> None:
        self._metrics.engine_restarts.inc()
        pause = _FIRST_PAUSE
        while self._needs_process(batcher):
            try:
                await self._loader.replace_process(copy, batcher, self._lost)
            except (ValueError, ProcessLost) as error:
                if not batcher.closed:
                    self.health.problems["engine"] = f"the process of version {copy.version} was lost: {error}"
                await asyncio.to_thread(kept_copies.drop_broken, copy)  # the next look brings it anew
                await asyncio.sleep(pause)
                pause = min(pause * 2, _LONGEST_PAUSE)
                continue
            self.health.problems.pop("engine", None)
            return

    def _needs_process(self, batcher: Batcher) -> bool:
        """Whether it is that of the version that answers, or of one before it that has requests and nobody to ask."""
        if self.current and self.current.batcher is batcher:
            return True
        return batcher in self._draining and not batcher.processes

    def _batchers(self) -> list[Batcher]:
        return [*self._draining, *([self.current.batcher] if self.current else [])]

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(_TICK)
            for batcher in self._batchers():
                batcher.expire()
            self._draining = [batcher for batcher in self._draining if not batcher.idle]
