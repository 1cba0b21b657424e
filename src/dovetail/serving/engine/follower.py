"""Serve what an alias names: load the new version beside the old one, warm it, swap; keep the old one if that fails."""

import asyncio
import json
import logging
import os
import sys
import time
from asyncio.subprocess import PIPE
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from dovetail.errors import OutsideError, StoreError, UnknownReference
from dovetail.serving.engine import kept_copies
from dovetail.serving.engine.kept_copies import Target
from dovetail.serving.engine.predictor import Engine, EngineLost, Predictor
from dovetail.serving.metrics import Metrics
from dovetail.serving.protocol.signature import Signature
from dovetail.serving.settings import ENV_TOKENS, Settings

_log = logging.getLogger(__name__)
_TICK = 0.1  # seconds between two looks at who has waited too long
_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 30.0  # seconds before something that failed is tried again
_STORE_SECONDS = 600.0  # that a version is waited for at the start, where there is no copy to begin with
_LOAD_SECONDS = 300.0  # for a version to be read and to answer its example
_COPY_SECONDS = 10.0  # … and where there is one


@dataclass(frozen=True, slots=True)
class Loaded:
    """A version that answers."""

    target: Target
    signature: Signature
    about: dict[str, Any]
    predictor: Predictor
    since: float


class Follower:
    """What is served now, and what is known about whether it should be."""

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        """Nothing is started yet."""
        self._settings = settings
        self._metrics = metrics
        self._wanted: Target | None = None
        self._news = asyncio.Event()
        self._draining: list[Predictor] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._first: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._spare: asyncio.Task[Engine] | None = None
        self.current: Loaded | None = None
        self.loading: int | None = None  # the version that is loaded beside the one that answers
        self.problems: dict[str, str] = {}  # by what they concern: store, load, engine

    async def start(self) -> None:
        """Return once a version answers.

        Raises:
            UnknownReference: when the alias names none.
            StoreError: when MLflow does not answer and there is no copy.
            OutsideError: when the version cannot be loaded.
        """
        self._spare = asyncio.create_task(Engine.start())
        for work in (self._watch(), self._load(), self._tick()):
            self._begin(work)
        copy = kept_copies.last(self._settings.keep)
        if copy and (copy.version == self._settings.version or copy.md5 == self._settings.promoted):
            with suppress(ValueError, EngineLost):
                await self._begin_with(copy)
                return
        try:
            await asyncio.wait_for(asyncio.shield(self._first), _COPY_SECONDS if copy else _STORE_SECONDS)
        except (StoreError, OutsideError, TimeoutError) as error:
            if copy is None:
                raise self._late(error) from error
            self.problems.setdefault("store", "MLflow has not answered yet")
            try:
                await self._begin_with(copy)
            except (ValueError, EngineLost) as failure:
                raise self._late(error) from failure

    async def _begin_with(self, copy: Target) -> None:
        """Serve the last good copy, unless what should be served was faster."""
        loaded = await self._loaded(copy)
        if self.current is None:
            self._swap(loaded)
        else:
            loaded.predictor.close()

    def _late(self, error: Exception) -> Exception:
        if not isinstance(error, TimeoutError):
            return error
        what = f"{self._settings.what} was not brought from MLflow and loaded in {_STORE_SECONDS:.0f} s"
        return StoreError(what, "mlflow doctor")

    async def stop(self) -> None:
        """End all processes."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._spare and not self._spare.cancelled():
            (await self._spare).close()
        for predictor in [*self._draining, *([self.current.predictor] if self.current else [])]:
            if predictor.engine:
                predictor.engine.close()

    def _begin(self, work: Any) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (
            error := task.exception()
        ):  # nobody thought of it: no longer following is worth knowing
            self.problems["server"] = f"{type(error).__name__}: {error}"
            _log.error("a task of the server ended", exc_info=error)

    async def _watch(self) -> None:
        """Hear what the process says that asks MLflow; start it again when it ends."""
        settings = self._settings
        asked = {
            "root": str(settings.root), "model": settings.model, "alias": settings.alias, "version": settings.version,
            "poll": settings.poll, "keep": str(settings.keep),
        }  # fmt: skip
        command = [sys.executable, "-P", "-m", "dovetail.serving.engine.alias_watch", json.dumps(asked)]
        while True:
            try:
                await self._listen(command)
            except OSError as error:  # out of processes or files
                self.problems["store"] = f"MLflow cannot be asked: {error}"
            await asyncio.sleep(_FIRST_PAUSE)

    async def _listen(self, command: list[str]) -> None:
        env = {key: value for key, value in os.environ.items() if key != ENV_TOKENS}
        process = await asyncio.create_subprocess_exec(
            *command, stdin=PIPE, stdout=PIPE, start_new_session=True, env=env
        )
        try:
            while line := await process.stdout.readline():  # type: ignore[union-attr]  # it is a pipe
                with suppress(json.JSONDecodeError):  # something else that a library has printed
                    self._heard(json.loads(line))
        finally:
            with suppress(ProcessLookupError):
                process.kill()
            if await process.wait() > 0:  # 0: the store's file is another; below: somebody killed it
                self.problems["store"] = "the process that asks MLflow ended, see what it printed"
                self._metrics.store(answers=False)

    def _heard(self, said: dict[str, Any]) -> None:
        if "found" in said:
            self.problems.pop("store", None)
            self._metrics.store(answers=True)
            target = Target.parse(said["found"])
            if self.current and self.current.target == target and not self.loading:
                self.problems.pop("load", None)
            if target != self._wanted:
                self._wanted = target
                self._news.set()
            return
        if said["kind"] == "load":
            self._metrics.load_failures.inc()
            self.problems["load"] = said["error"]
        else:
            self._metrics.store(answers=said["kind"] == "unknown")
            self.problems["store"] = said["error"]
        if not self._first.done():
            kinds = {"unknown": UnknownReference, "store": StoreError, "load": OutsideError}
            self._first.set_exception(kinds[said["kind"]](said["error"], said["next"]))
            self._first.exception()  # where a copy serves, nobody else asks for it

    async def _load(self) -> None:
        pause = _FIRST_PAUSE
        while True:
            await self._news.wait()
            self._news.clear()
            target = self._wanted
            if target is None:
                continue
            if self.current and self.current.target == target:
                self.problems.pop("load", None)
                continue
            loading, news = asyncio.ensure_future(self._loaded(target)), asyncio.ensure_future(self._news.wait())
            self.loading = target.version
            try:
                await asyncio.wait({loading, news}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                news.cancel()
                self.loading = None
                if not loading.done():  # something else is wanted by now
                    loading.cancel()
                    await asyncio.wait({loading})
            if loading.cancelled():
                continue
            try:
                self._swap(loading.result())
                pause = _FIRST_PAUSE
            except (ValueError, EngineLost) as error:
                self._failed(target, str(error))
                if await asyncio.to_thread(kept_copies.drop_broken, target):
                    self._wanted = None  # the next look brings it anew
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._news.wait(), pause)
                self._news.set()
                pause = min(pause * 2, _LONGEST_PAUSE)

    async def _loaded(self, target: Target) -> Loaded:
        engine, about = await self._engine(target)
        try:
            signature = Signature.of(about, about["methods"])
        except ValueError:
            engine.close()
            raise
        predictor = Predictor(
            engine,
            seconds=self._settings.limits.seconds,
            together=signature.columns is not None,
            on_batch=self._metrics.batch,
        )
        self._stand_by(engine, target, predictor)
        return Loaded(target, signature, about, predictor, time.time())

    def _stand_by(self, engine: Engine, target: Target, predictor: Predictor) -> None:
        """Let another process take over should this one be lost."""

        def lost() -> None:
            predictor.detach()
            self._begin(self._revive(target, predictor))

        engine.on_lost = lost

    async def _engine(self, target: Target) -> tuple[Engine, dict[str, Any]]:
        spare, self._spare = self._spare, None
        engine = await spare if spare else await Engine.start()
        try:
            async with asyncio.timeout(_LOAD_SECONDS):
                about = await engine.load(target)
        except TimeoutError:
            engine.close()
            raise EngineLost(f"it was not loaded in {_LOAD_SECONDS:.0f} s") from None
        except BaseException:
            engine.close()
            raise
        return engine, about

    def _swap(self, loaded: Loaded) -> None:
        old, self.current = self.current, loaded
        for solved in ("load", "engine"):
            self.problems.pop(solved, None)
        self._metrics.serving(self._settings.model, loaded.target)
        kept_copies.remember(self._settings.keep, loaded.target)
        if old:
            self._draining.append(old.predictor)
            old.predictor.close()
        if not self._first.done():
            self._first.set_result(None)

    def _failed(self, target: Target, why: str) -> None:
        self._metrics.load_failures.inc()
        self.problems["load"] = f"version {target.version} cannot be served: {why}"
        if not self._first.done():
            self._first.set_exception(
                OutsideError(f"{self._settings.what} is version {target.version}, which cannot be served: {why}",
                             f"dovetail rollback {self._settings.model}")
            )  # fmt: skip
            self._first.exception()

    async def _revive(self, target: Target, predictor: Predictor) -> None:
        """Another process for a version whose own was lost."""
        self._metrics.engine_restarts.inc()
        pause = _FIRST_PAUSE
        while self.current and self.current.predictor is predictor:
            try:
                engine, _ = await self._engine(target)
            except (ValueError, EngineLost) as error:
                self.problems["engine"] = f"the process of version {target.version} was lost: {error}"
                await asyncio.to_thread(kept_copies.drop_broken, target)  # the next look brings it anew
                await asyncio.sleep(pause)
                pause = min(pause * 2, _LONGEST_PAUSE)
                continue
            self.problems.pop("engine", None)
            self._stand_by(engine, target, predictor)
            predictor.attach(engine)
            return

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(_TICK)
            for predictor in [*self._draining, *([self.current.predictor] if self.current else [])]:
                predictor.expire()
            self._draining = [predictor for predictor in self._draining if not predictor.idle]
