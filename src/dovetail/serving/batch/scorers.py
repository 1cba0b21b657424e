"""The asking side of the processes that hold a model for batch scoring: some of them, asked side by side."""

import json
import socket
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from queue import LifoQueue
from typing import TYPE_CHECKING, Any, Self

from dovetail.errors import OutsideError, one_line
from dovetail.serving.batch.bad_part import BadPart
from dovetail.serving.batch.part_reader import Batch
from dovetail.serving.engine import frames
from dovetail.serving.engine.kept_copies import VersionCopy
from dovetail.serving.engine.process_client import spawn
from dovetail.serving.protocol.signature import Signature
from dovetail.tracking.package_digest import package_digest

if TYPE_CHECKING:
    import pyarrow as pa

_MODULE = "dovetail.serving.batch.scorer_process"


class Scorer:
    """A process behind the walls of `sandbox` that holds the model."""

    def __init__(self) -> None:
        """Started at once; it reads no model yet.

        Raises:
            OutsideError: when the machine has no room for another process.
        """
        try:
            self._ours, theirs = socket.socketpair()
            with theirs:
                self._process = spawn(theirs, _MODULE)
        except OSError as error:
            what = f"no process can be started to hold the model: {one_line(error)}"
            raise OutsideError(what, "run the same command again") from error

    def load(self, copy: VersionCopy) -> dict[str, Any]:
        """Let it read the model; what that takes and gives.

        Raises:
            BadPart: when it cannot, or died of it.
        """
        well, content = self.ask(("load", copy.folder, copy.md5, copy.allow, copy.onnx))
        said: dict[str, Any] = json.loads(content)
        if not well:
            raise BadPart(str(said["message"]))
        return said

    def ask(self, asked: tuple[Any, ...]) -> frames.Part:
        """What it answers.

        Raises:
            BadPart: when it died.
        """
        try:
            self._ours.sendall(frames.request(asked))
            payload = frames.received(self._ours)
            (part,) = frames.parts(payload or b"")
        except (OSError, ValueError) as error:
            self.close()
            raise BadPart(f"the process that holds the model died ({self._process.returncode})") from error
        return part

    @property
    def is_alive(self) -> bool:
        """Whether it can be asked."""
        return self._process.poll() is None

    def close(self) -> None:
        """End it."""
        self._ours.close()
        self._process.kill()
        self._process.wait()


class Scorers:
    """Up to `count` processes with the same model, each started when it is needed.

    Attributes:
        signature: What the model takes and gives.
        classes: Of its probabilities; None where it does not say.
    """

    def __init__(self, copy: VersionCopy, count: int) -> None:
        """Let the first one read the model.

        Raises:
            OutsideError: when the copy is not what was brought, does not load, or no process can be started.
        """
        self._copy = copy
        self._count = count
        self._free: LifoQueue[Scorer | None] = LifoQueue()
        for _ in range(count - 1):
            self._free.put(None)
        self._threads = ThreadPoolExecutor(count, "scorer")
        self._all: list[Scorer] = []
        try:
            _check_package(copy)
            first, about = self._loaded()
            self._free.put(first)
            self.signature = Signature.of(about, about["methods"])
        except (BadPart, ValueError) as error:
            self.close()
            raise OutsideError(f"version {copy.version} cannot be used: {error}", "dovetail doctor") from error
        except OSError as error:
            self.close()
            raise OutsideError(f"{copy.folder} cannot be read: {error}", f"ls -l {copy.folder}") from error
        except OutsideError:
            self.close()
            raise
        self.classes: list[str] | None = about["classes"]

    def answers(self, batches: Iterable[Batch], methods: Sequence[str]) -> Iterator[tuple[Batch, "pa.Table"]]:
        """Each batch with a column of answers for each method, in order; a few of them are under way at a time.

        Raises:
            BadPart: when a batch cannot be read, or the model does not answer it.
            OutsideError: when another process is needed and cannot be started.
        """
        waiting: deque[tuple[Batch, Future[pa.Table]]] = deque()
        try:
            for batch in batches:
                waiting.append((batch, self._threads.submit(self._ask, batch, methods)))
                if len(waiting) > self._count:
                    yield waiting[0][0], waiting[0][1].result()
                    waiting.popleft()
            while waiting:
                yield waiting[0][0], waiting[0][1].result()
                waiting.popleft()
        finally:
            for _, under_way in waiting:
                under_way.cancel()

    def close(self) -> None:
        """End all processes."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        for scorer in self._all:
            scorer.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _loaded(self) -> tuple[Scorer, dict[str, Any]]:
        scorer = Scorer()
        self._all.append(scorer)
        try:
            return scorer, scorer.load(self._copy)
        except BadPart:
            scorer.close()
            raise

    def _ask(self, batch: Batch, methods: Sequence[str]) -> "pa.Table":
        scorer = self._free.get()
        try:
            if scorer is None or not scorer.is_alive:
                scorer = None
                scorer, _ = self._loaded()
            well, content = scorer.ask(("score", tuple(methods), batch.rows, dict(batch.asked)))
        finally:
            self._free.put(scorer)
        if not well:
            raise BadPart(f"the model does not answer it: {content.decode(errors='replace')}")
        return _table(content, batch.rows)


def _check_package(copy: VersionCopy) -> None:
    """Refuse a copy that is not what was brought.

    Raises:
        BadPart: when it is not.
        OSError: when it cannot be read.
    """
    actual = package_digest(Path(copy.folder))
    if actual != copy.package:
        raise BadPart(f"{copy.folder} (sha256 {actual}) is not what was brought ({copy.package})")


def _table(content: bytes, rows: int) -> "pa.Table":
    """The answers in a process's bytes: read as data, and checked to be what they say."""
    import pyarrow as pa

    try:
        table = pa.ipc.open_stream(content).read_all()
        table.validate(full=True)
    except pa.ArrowException as error:
        raise BadPart(f"the process that holds the model gave an invalid answer: {error}") from error
    if len(table) != rows:
        raise BadPart(f"{len(table)} answers to {rows} rows")
    return table
