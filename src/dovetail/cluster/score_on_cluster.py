"""The parts of a folder scored by a cluster's workers, each part by one of them, where all see the same folders."""

import secrets
import shlex
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import CancelledError
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from queue import Empty, SimpleQueue
from time import monotonic
from typing import Any

from dovetail.cluster.kept_scorers import KeptScorers
from dovetail.cluster.pool import ALONE_SECONDS, LOOK_SECONDS, no_worker_left, open_client, workers_of
from dovetail.errors import DovetailError, OutsideError, one_line
from dovetail.serving.batch.parts import Part
from dovetail.serving.batch.score_part import FAILED, PartOutcome, ScoreTask, score_part
from dovetail.serving.batch.scored_file import LEFT, cannot_write
from dovetail.serving.batch.scorers import Scorers

_kept = KeptScorers()  # a worker's


def score_on_cluster(
    cluster: str, task: ScoreTask, found: list[Part], tell: Callable[[int], None]
) -> Iterator[PartOutcome]:
    """What becomes of each part, in the order in which they are done; `tell` hears how many rows are done.

    A worker that dies leaves its part to another one; a part that three died of fails.

    Raises:
        UserError, OutsideError: as `open_client`; OutsideError also when a worker does not see the folders, cannot
            write, or none is left, nor the scheduler.
    """
    token = task.out / f"{LEFT}{secrets.token_hex(8)}"
    try:
        token.touch()
    except OSError as error:
        raise cannot_write(error, task.out) from error
    try:
        with open_client(None, cluster) as client:
            futures: dict[Any, Part] = {
                client.submit(_score, task, part, token, key=f"predict-{token.name}-{place}", pure=False): part
                for place, part in enumerate(found)
            }
            try:
                for outcome in _settled(client, futures, cluster):
                    tell(outcome.rows)
                    yield outcome
            finally:
                with suppress(Exception):  # the scheduler is gone: so are they, soon
                    for future in futures:
                        future.cancel()
                    client.run(_end_scorers, token.name)
    finally:
        token.unlink(missing_ok=True)


def _settled(client: Any, futures: Mapping[Any, Part], cluster: str) -> Iterator[PartOutcome]:
    done: SimpleQueue[Any] = SimpleQueue()
    for future in futures:
        future.add_done_callback(done.put)
    left, seen = len(futures), monotonic()
    while left:
        with suppress(Empty):
            future = done.get(timeout=LOOK_SECONDS)
            left -= 1
            seen = monotonic()
            yield _outcome(future, futures[future], cluster)
            continue
        if client.status in {"closing", "closed"}:  # now and then Dask says nothing more of what was not done
            raise _scheduler_lost(cluster)
        if workers_of(client):
            seen = monotonic()
        elif monotonic() - seen > ALONE_SECONDS:
            raise no_worker_left(cluster)


def _scheduler_lost(cluster: str) -> OutsideError:
    what = f"the scheduler of {cluster} is gone; the files of the parts that were scored are complete"
    return OutsideError(what, "run the same command again once it answers")


def _outcome(future: Any, part: Part, cluster: str) -> PartOutcome:
    if future.status == "finished":
        try:
            outcome: PartOutcome = future.result()
        except (OSError, CancelledError) as lost:  # it lies on the worker that made it
            raise _scheduler_lost(cluster) from lost
        return outcome
    if future.status != "error":  # nobody cancels them but Dask, which lost its scheduler
        raise _scheduler_lost(cluster)
    error = future.exception()
    if isinstance(error, DovetailError):  # it concerns the folder or the version, not the part
        raise error
    return PartOutcome(part.name, part.output, FAILED, why=one_line(error))


def _score(task: ScoreTask, part: Part, token: Path) -> PartOutcome:
    """Score a part, on a worker.

    Raises:
        OutsideError: when this machine has other folders, or cannot write.
    """
    from distributed import get_worker

    name = get_worker().address
    for path in (token, Path(task.copy.folder), part.path.parent):
        if not path.exists():
            what = f"the worker {name} does not see {path.parent if path == token else path}"
            raise OutsideError(
                what, f"ls {shlex.quote(str(path.parent))} there, mount it, then run the same command again"
            )
    with _kept.borrowed(token.name, lambda: Scorers(task.copy, 1)) as scorers:  # one thread, one process
        return replace(score_part(task, part, scorers), worker=name)


def _end_scorers(run: str) -> None:
    """End this worker's processes for a run, which needs them no more; those of others work on."""
    _kept.end(run)
