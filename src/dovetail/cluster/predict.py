"""`dovetail predict`: a folder of rows scored part by part by one version, on this machine or on a Dask cluster.

What is done is in the folder itself: a part's file is there whole or not at all, and says which version answered which
bytes. So a run that was killed is started again and goes on, and two versions never share a folder.
"""

import os
import shlex
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from dovetail.cluster.score_on_cluster import score_on_cluster
from dovetail.errors import Busy, Interrupted, UserError
from dovetail.serving.batch.parts import Part, parts
from dovetail.serving.batch.score_part import FAILED, PartOutcome, ScoreTask, score_part
from dovetail.serving.batch.scored_file import LEFT, ScoredFile, cannot_write, files_of, remove_unfinished, scored_by
from dovetail.serving.batch.scorers import Scorers
from dovetail.serving.batch.version_copy import version_copy
from dovetail.serving.engine.kept_copies import VersionCopy
from dovetail.serving.serve import settings
from dovetail.serving.settings import ServeOptions
from dovetail.system.processes import interruptible
from dovetail.values.answer import Answer
from dovetail.values.computing import cores

_LOCK = f"{LEFT}predict.lock"


@dataclass(frozen=True, slots=True)
class PredictRequest:
    """What is scored by which version.

    Attributes:
        ref: A model's alias or version, as `dovetail serve` takes it: `iris` is its production.
        data: A folder of parts (Parquet, CSV), or one file.
        out: The folder that gets a Parquet file for each part, of its name.
        columns: Those of the input that are kept beside the predictions; none: all.
        proba: Whether the probabilities of the classes are added.
        workers: How many processes answer side by side on this machine; by default one a core.
        cluster: In place of that: a Dask scheduler's address, or a job queue.
        trust: A file that vouches for the version, as `dovetail serve --trust` takes it.
    """

    ref: str
    data: Path
    out: Path
    columns: tuple[str, ...] = ()
    proba: bool = False
    workers: int | None = None
    cluster: str | None = None
    trust: str = ""


@dataclass(frozen=True, slots=True, repr=False)
class PredictAnswer(Answer):
    """What became of each part.

    Attributes:
        left_over: Files in the folder whose part is no longer there.
        ignored: Files beside the parts that are none.
    """

    model: str
    copy: VersionCopy
    data: str
    out: str
    parts: tuple[PartOutcome, ...]
    left_over: tuple[str, ...]
    ignored: tuple[str, ...]

    def __repr__(self) -> str:
        return f"<PredictAnswer {self.model}/{self.copy.version}: {self.rows} rows, {len(self.failed)} parts failed>"

    @property
    def failed(self) -> list[PartOutcome]:
        """The parts that were not scored."""
        return [part for part in self.parts if part.how == FAILED]

    @property
    def rows(self) -> int:
        """That are in the folder."""
        return sum(part.rows for part in self.parts)

    def as_json(self) -> dict[str, Any]:
        """The answer as `--json` gives it."""
        return {
            "model": self.model, "version": self.copy.version, "md5": self.copy.md5, "package": self.copy.package,
            "commit": self.copy.commit, "trust": self.copy.trust, "data": self.data, "out": self.out, "rows": self.rows,
            "parts": [part.as_json() for part in self.parts], "failed": [part.part for part in self.failed],
            "left_over": list(self.left_over), "ignored": list(self.ignored),
        }  # fmt: skip


def predict(
    request: PredictRequest,
    *,
    root: Path | None = None,
    tell: Callable[[int, int], None] = lambda _done, _of: None,
) -> PredictAnswer:
    """Score each part that is not scored yet; `tell` hears how many rows of how many are done.

    The version is that of the repository in `root`, by default the current folder; a machine without one has a tracking
    server to ask. A part that cannot be scored is an outcome, and the others are scored; the answer says which and why.

    Raises:
        UserError: when a folder is not what it has to be, or `out` holds what another version said.
        OutsideError: when the version is not available, `out` cannot be written, or no worker answers.
        Busy: when another `dovetail predict` is at work in `out`.
        Interrupted: after Ctrl-C or a signal; what was scored is there.
    """
    data, out = request.data.absolute(), request.out.absolute()
    found, ignored = parts(request.data)
    found = [Part(part.name, part.path.absolute()) for part in found]
    _check_no_overlap(request, found)
    chosen = settings(request.ref, ServeOptions(trust=request.trust, no_log=True), "predict", root)
    try:
        with ExitStack() as stack:
            stack.enter_context(interruptible())
            copy = version_copy(chosen)
            task = ScoreTask(chosen.model, copy, out, request.columns, request.proba)
            outputs = {out / part.output for part in found}
            stack.enter_context(_alone(out, outputs))
            there = _there(out, outputs)
            _check_unmixed(request, task, found, there)
            places = {part.name: place for place, part in enumerate(found)}
            outcomes = sorted(_scored(stack, request, task, found, tell), key=lambda one: places[one.part])
    except KeyboardInterrupt as error:
        raise Interrupted(
            f"{request.data} was scored only in part; the files in {request.out} are complete",
            "run the same command again",
        ) from error
    left_over = sorted(file.path.relative_to(out).as_posix() for file in there if file.path not in outputs)
    return PredictAnswer(chosen.model, copy, str(data), str(out), tuple(outcomes), tuple(left_over), tuple(ignored))


def _there(out: Path, outputs: set[Path]) -> list[ScoredFile]:
    """Scored files below `out`; files of other tools that do not conflict are ignored.

    Raises:
        UserError: when one that is to be written is no Parquet file.
    """
    found = []
    for path in files_of(out):
        with suppress(*(() if path in outputs else (UserError,))):
            found.append(scored_by(path))
    return [file for file in found if file]


def _scored(
    stack: ExitStack, request: PredictRequest, task: ScoreTask, found: list[Part], tell: Callable[[int, int], None]
) -> Iterator[PartOutcome]:
    total = _rows(found)
    done = 0

    def count(rows: int) -> None:
        nonlocal done
        done += rows
        tell(done, total)

    if request.cluster:
        yield from score_on_cluster(request.cluster, task, found, count)
        return

    @cache
    def scorers() -> Scorers:
        return stack.enter_context(Scorers(task.copy, request.workers or cores()))

    for part in found:
        yield score_part(task, part, scorers, count)


def _rows(found: list[Part]) -> int:
    """How many rows there seem to be: of CSV, and of what cannot be read, none."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    total = 0
    for part in found:
        if not part.is_csv:
            try:
                total += pq.read_metadata(part.path).num_rows
            except (pa.ArrowException, OSError):
                continue
    return total


def _check_no_overlap(request: PredictRequest, found: list[Part]) -> None:
    """Refuse an `out` whose files would be parts of `data`, or in the place of one.

    Raises:
        UserError: then.
    """
    data, out = request.data.resolve(), request.out.resolve()
    if request.data.is_dir() and (out == data or data in out.parents):
        raise UserError(
            f"--out {request.out} lies within --data {request.data}: its files would be scored again",
            f"--out {shlex.quote(str(request.data) + '-scored')}",
        )
    inputs = {part.path.resolve(): part for part in found}
    for part in found:
        if (hit := inputs.get((out / part.output).resolve())) is not None:
            raise UserError(
                f"the answers to {part.name} would replace the part {hit.path}",
                f"--out {shlex.quote(str(request.out / 'scored'))}",
            )


def _check_unmixed(request: PredictRequest, task: ScoreTask, found: list[Part], there: list[ScoredFile]) -> None:
    """Refuse a folder that holds what another version said, or the same with other columns, or somebody's own files.

    Raises:
        UserError: naming the file.
    """
    mine = task.of(found[0], "")
    again = f"dovetail predict {request.ref} --data {shlex.quote(str(request.data))} --out FOLDER"
    for file in there:
        said = file.scored
        if said.said_by != mine.said_by:
            what, theirs, ours = "md5", said.md5, mine.md5
            if theirs == ours:
                what, theirs, ours = "the same model in a package of sha256", said.package, mine.package
            by = f"{file.path} was scored by {said.model}/{said.version} ({what} {theirs})"
            raise UserError(f"{by}, not by {mine.model}/{mine.version} ({ours})", f"{again}, another folder")
        if (said.columns, said.proba) != (mine.columns, mine.proba):
            kept = " ".join(f"--columns {shlex.quote(name)}" for name in said.columns)
            asked = " ".join(filter(None, (kept, "--proba" if said.proba else ""))) or "neither --columns nor --proba"
            raise UserError(f"{file.path} was scored with {asked}", f"the same as then, or {again}, another folder")
    known = {file.path for file in there}
    for part in found:
        path = task.out / part.output
        if path not in known and os.path.lexists(path):
            what = f"{path} exists and was not written by dovetail predict"
            raise UserError(what, f"{again}, another folder")


@contextmanager
def _alone(out: Path, outputs: set[Path]) -> Iterator[None]:
    """The folder, made if it is not there, for this run alone; what killed ones left of `outputs` is removed.

    Raises:
        Busy: when another run is at work in it.
        OutsideError: when it cannot be written.
    """
    from filelock import FileLock, Timeout

    lock = FileLock(out / _LOCK, timeout=0)
    try:
        out.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout as error:
        raise Busy(f"another dovetail predict is at work in {out}", "run the same command again later") from error
    except (FileExistsError, NotADirectoryError) as error:
        raise UserError(f"--out {out} is not a folder", f"--out {shlex.quote(str(out) + '-scored')}") from error
    except OSError as error:
        raise cannot_write(error, out) from error
    try:
        try:
            remove_unfinished(outputs)
        except OSError as error:
            raise cannot_write(error, out) from error
        yield
    finally:
        with suppress(OSError):  # of a worker that was killed
            remove_unfinished(outputs)
        (out / _LOCK).unlink(missing_ok=True)  # who waits for the file that it was looks again: filelock checks that
        lock.release()
