"""How long the stage took that made a model: known where it ran, and kept there in DVC's temporary folder.

DVC records no times, and a file that it keeps must not have any. But its cache keeps when a file of a stage was
written, and DVC runs one stage after the other: a stage began once the one before it had ended, or `dvc repro` itself
began. Another clone has the bytes at other times, and does not know.
"""

import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from dovetail.registration.value_cache import ValueCache
from dovetail.repo.running_stage import dvc_began
from dovetail.repo.workspace import Workspace
from dovetail.values.lineage import FileRef, Lineage, StageRecord
from dovetail.values.span import Span

_KEPT = "stage-times"


def known(root: Path, lineage: Lineage) -> Span | None:
    """When the stage ran that made the model, as it was kept in the repository at `root`; None where nobody saw it."""
    return Span.from_json(ValueCache(root, _KEPT).all().get(_key(lineage.maker))) if lineage.maker else None


def keep(root: Path, stage: StageRecord | None, span: Span | None) -> None:
    """Keep when the stage ran, for whoever asks later or shows it anew."""
    if stage and span and ValueCache(root, _KEPT).all().get(_key(stage)) != span.as_json():
        ValueCache(root, _KEPT).add(_key(stage), span.as_json())


def seen(workspace: Workspace, lineage: Lineage) -> Span | None:
    """When the stage ran that made the model: in the `dvc repro` that runs this process, else as it was kept."""
    began = dvc_began() if lineage.maker else None
    before = known(workspace.store_root, lineage)
    if began is None or lineage.maker is None:
        return before
    others = (record for record in workspace.tree.records.values() if record.name != lineage.maker.name)
    span = of_outs(workspace, lineage.maker.outs, round(began * 1000), others)
    if span is None or (before and before.ended >= span.ended):
        return before
    keep(workspace.store_root, lineage.maker, span)
    return span


def of_outs(
    workspace: Workspace, outs: Iterable[FileRef], began: int, others: Iterable[StageRecord] = ()
) -> Span | None:
    """When a stage with these outs ran, if that was since `began`, one at a time with `others`.

    None where DVC had one of its files before, as it has those that the run-cache brings back.
    """
    now = round(time.time() * 1000)
    try:
        written = [_time(file) for out in outs if (file := workspace.storage.cached(out.md5))]
        made = [one for one in written if began <= one <= now]
        if not made or len(made) < len(written):
            return None
        before = [one for record in others for one in _ends(workspace, record) if began <= one <= min(made)]
    except OSError:  # one that is gone while it is looked at
        return None
    return Span(max(before, default=began), max(made))


def _ends(workspace: Workspace, record: StageRecord) -> Iterator[int]:
    """When the files of a stage were written or brought back: it had ended by then, or has none of its own."""
    for out in record.outs:
        files = (workspace.storage.cached(out.md5), workspace.root / out.path)
        yield from (_time(file) for file in files if file and file.exists())


def _time(file: Path) -> int:
    return round(file.stat().st_mtime * 1000)


def _key(stage: StageRecord) -> str:
    """The stage with its inputs and what it made of them."""
    return " ".join([stage.inputs, *(out.md5 for out in stage.outs)])
