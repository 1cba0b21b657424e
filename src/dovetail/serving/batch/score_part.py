"""One part scored: its bytes read once, its rows answered in order, its file there whole or not at all."""

import errno
import gzip
import hashlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import IO, TYPE_CHECKING, Any

from dovetail.errors import UserError
from dovetail.serving.batch.bad_part import BadPart
from dovetail.serving.batch.part_reader import PartReader, bad_part, read_csv_part, read_parquet
from dovetail.serving.batch.parts import Part
from dovetail.serving.batch.scored_file import cannot_write, scored_by, unfinished
from dovetail.serving.batch.scorers import Scorers
from dovetail.serving.batch.write_rows import PREDICT, PREDICT_PROBA, ScoredSchema, added_columns, write
from dovetail.serving.engine.kept_copies import VersionCopy
from dovetail.system.whole_file import whole_file
from dovetail.values.scored import Scored

if TYPE_CHECKING:
    import pyarrow as pa

SCORED, KEPT, FAILED = "scored", "kept", "failed"
_BLOCK = 1 << 20


@dataclass(frozen=True, slots=True)
class ScoreTask:
    """How parts are scored: by which version of which model, into which folder.

    Attributes:
        columns: Those that are kept; none: all.
        proba: Whether the probabilities are asked for, too.
    """

    model: str
    copy: VersionCopy
    out: Path
    columns: tuple[str, ...] = ()
    proba: bool = False

    @property
    def methods(self) -> tuple[str, ...]:
        """What the model is asked."""
        return (PREDICT, PREDICT_PROBA) if self.proba else (PREDICT,)

    def of(self, part: Part, md5: str) -> Scored:
        """What the part's file says of itself."""
        copy = self.copy
        return Scored(
            self.model, copy.version, copy.md5, copy.package, copy.commit, part.name, md5, self.columns, self.proba
        )


@dataclass(frozen=True, slots=True)
class PartOutcome:
    """What became of a part.

    Attributes:
        how: scored, kept (its file is there from an earlier run), or failed.
        rows: That its file has; 0 where it failed.
        worker: Where it was scored; empty on this machine.
    """

    part: str
    out: str
    how: str
    rows: int = 0
    why: str = ""
    worker: str = ""
    seconds: float = field(default=0.0, compare=False)

    def as_json(self) -> dict[str, Any]:
        """The outcome as `--json` gives it."""
        return {
            "part": self.part, "out": self.out, "how": self.how, "rows": self.rows, "why": self.why or None,
            "worker": self.worker or None, "seconds": round(self.seconds, 3),
        }  # fmt: skip


def score_part(
    task: ScoreTask, part: Part, scorers: Callable[[], Scorers], tell: Callable[[int], None] = lambda _rows: None
) -> PartOutcome:
    """Score a part, unless its file is there already; `tell` hears how many rows are done.

    `scorers` is called where there is something to score: to start them takes seconds.

    Raises:
        OutsideError: when the file cannot be written: the other parts' could not, either.
    """
    began = monotonic()
    try:
        with _opened(part) as opened:
            wanted = task.of(part, opened.md5)
            _check_name(task.out / part.output)
            if (known := scored_by(task.out / part.output)) and known.scored.says_the_same(wanted):
                tell(known.rows)
                return PartOutcome(part.name, part.output, KEPT, known.rows, seconds=monotonic() - began)
            rows = _score(task, part, opened, scorers(), tell)
    except BadPart as error:
        return PartOutcome(part.name, part.output, FAILED, why=str(error), seconds=monotonic() - began)
    return PartOutcome(part.name, part.output, SCORED, rows, seconds=monotonic() - began)


def _check_name(path: Path) -> None:
    """Refuse what cannot be a file's name there: `.parquet` is longer than what some parts end in.

    Raises:
        BadPart: when it cannot.
    """
    try:
        path.lstat()
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            raise BadPart("its answers cannot be written: their file's name would be too long") from error


@contextmanager
def _opened(part: Part) -> Iterator["_Opened"]:
    """The part, open at its beginning, its digest taken.

    Raises:
        BadPart: when it is gone, or cannot be read.
    """
    try:
        file = part.path.open("rb")
    except FileNotFoundError:
        raise BadPart("it is gone; it was there when the run began") from None
    except OSError as error:
        raise BadPart(f"it cannot be read: {error.strerror}") from error
    with file:
        stamp = _stamp(file)
        with bad_part():
            md5 = hashlib.md5(usedforsecurity=False)
            while block := file.read(_BLOCK):
                md5.update(block)
            file.seek(0)
        yield _Opened(file, md5.hexdigest(), stamp)


@dataclass(frozen=True, slots=True)
class _Opened:
    """A part that is read, and what its bytes were when that began."""

    file: IO[bytes]
    md5: str
    stamp: tuple[int, int]

    def check(self) -> None:
        """Refuse a part that was changed.

        Raises:
            BadPart: when it was changed.
        """
        if _stamp(self.file) != self.stamp:
            raise BadPart("it was changed while it was read")


def _stamp(file: IO[bytes]) -> tuple[int, int]:
    found = os.fstat(file.fileno())
    return found.st_size, found.st_mtime_ns


def _score(task: ScoreTask, part: Part, opened: _Opened, scorers: Scorers, tell: Callable[[int], None]) -> int:
    """Write the part's file; returns its rows.

    Raises:
        BadPart: when the part cannot be scored.
        OutsideError: when the file cannot be written.
    """
    reader = _reader(part, opened.file, scorers, task.columns)
    wanted = ScoredSchema(reader.schema, _added(task, scorers), task.of(part, opened.md5).metadata())
    wanted.check()
    path = task.out / part.output
    answered = scorers.answers(reader.batches, task.methods)
    try:
        with whole_file(path, unfinished(path)) as target:
            rows = write(target, wanted, answered, tell)
            opened.check()
    except OSError as error:
        raise cannot_write(error, path) from error
    finally:
        answered.close()  # type: ignore[attr-defined]  # a generator
    return rows


def _reader(part: Part, file: IO[bytes], scorers: Scorers, columns: Sequence[str]) -> PartReader:
    if not part.is_csv:
        return read_parquet(file, scorers.signature, columns)
    opened: Any = gzip.GzipFile(fileobj=file) if part.name.lower().endswith(".gz") else file
    return read_csv_part(opened, scorers.signature, columns)


def _added(task: ScoreTask, scorers: Scorers) -> Mapping[str, "pa.DataType | None"]:
    """The columns that the answers become.

    Raises:
        UserError: when the model does not give what is asked for.
    """
    if task.proba and PREDICT_PROBA not in scorers.signature.methods:
        what = f"{task.model}/{task.copy.version} gives no probabilities"
        raise UserError(what, f"dovetail predict {task.model}/{task.copy.version}, without --proba")
    return added_columns(scorers.signature, scorers.classes, proba=task.proba)
