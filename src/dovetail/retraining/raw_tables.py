"""Where rows can be added: the tables that a model's pipeline begins with, and what keeps them."""

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from dovetail.errors import UserError
from dovetail.repo.revision import Revision
from dovetail.values.lineage import FileRef, Lineage, StageRecord
from dovetail.values.names import unknown
from dovetail.values.partitions import partition
from dovetail.values.table_names import is_sheet, is_table

GIT, DVC, STAGE = "git", "dvc", "stage"


@dataclass(frozen=True, slots=True)
class RawTable:
    """A file of rows, or a folder of such files, that the pipeline begins with.

    Attributes:
        ref: What a stage reads.
        keeper: What has its bytes: git, a .dvc file, or a stage that reads it from outside.
        owner: What git, the .dvc file or the stage names: `ref`, or a folder with it.
        stage: The stage that reads it from outside.
        origin: Where `dvc import` or `dvc import-url` took it from.
    """

    ref: FileRef
    keeper: str
    owner: str
    stage: StageRecord | None = None
    origin: str | None = None

    @property
    def record(self) -> str:
        """The path of the file in git that lists the rows added so far."""
        return f"{self.owner}.added"


def choose_table(tables: Sequence[RawTable], into: str | None, model: str) -> RawTable:
    """The table at `into`, or the only one.

    Raises:
        UserError: naming those that there are, or why no rows can be added to it.
    """
    paths = sorted(table.ref.path for table in tables)
    if not tables:
        raise UserError(f"{model} reads no table that rows can be added to", f"dovetail lineage {model}")
    found = [table for table in tables if into in (None, table.ref.path)]
    if len(found) != 1:
        several = f"{model} reads several raw tables; there are: {', '.join(paths)}"
        what = unknown(model, "raw table", into, paths) if into else several
        raise UserError(what, f"dovetail retrain {model} --with … --into PATH")
    (table,) = found
    if table.origin:
        raise UserError(
            f"{table.ref.path} is imported from {table.origin}: rows added here would be lost with the next update",
            f"add them at the source, then: dvc update {shlex.quote(table.owner)}.dvc",
        )
    if is_sheet(table.ref.path):
        what = f"{table.ref.path} is a workbook, to which no rows can be added without losing its layout"
        raise UserError(what, f"add them in the workbook itself, then: {_kept_anew(table)}")
    return table


def _kept_anew(table: RawTable) -> str:
    return f"dvc add {shlex.quote(table.owner)} && dvc repro" if table.keeper == DVC else "dvc repro"


def raw_tables(tree: Revision, lineage: Lineage) -> list[RawTable]:
    """The tables that no stage of `lineage` makes from other tables.

    Raises:
        UserError: when one is kept by neither git nor DVC.
    """
    beginnings = [s for s in lineage.stages if not any(_is_tabular(d) for d in s.deps if d in lineage.data)]
    found = []
    for ref in filter(_is_tabular, lineage.data):
        maker = next((stage for stage in lineage.stages if stage.makes(ref.path)), None)
        if maker is None:
            found.append(_kept(tree, ref))
        elif maker in beginnings:
            owner = next(out.path for out in maker.outs if out.overlaps(ref.path))
            found.append(RawTable(ref, STAGE, owner, maker))
    return found


def tables_in(tree: Revision, raw: RawTable) -> list[FileRef]:
    """The files of rows that `raw` is or holds, the first of which shows what they look like.

    Raises:
        UserError: when their folders state a part of each row, so that a new file has no place that is right for all.
    """
    if not raw.ref.is_folder:
        return [raw.ref]
    found = sorted((file for file in _inside(tree, raw.ref) if is_table(file.path)), key=lambda file: file.path)
    if found and (keys := partition(found[0].path.removeprefix(f"{raw.ref.path}/"))):
        what = f"{raw.ref.path} is partitioned by {', '.join(keys)}, no rows can be added to it here"
        raise UserError(what, f"put a file into the right one of its folders, then: {_kept_anew(raw)}")
    return found


def _inside(tree: Revision, folder: FileRef) -> Iterator[FileRef]:
    yield from (file for file in tree.listing(folder) if not file.path.endswith((".dvc", ".gitignore")))
    yield from (entry.ref for path, entry in tree.tracked.items() if path.startswith(f"{folder.path}/"))


def _is_tabular(ref: FileRef) -> bool:
    return ref.is_folder or is_table(ref.path) or is_sheet(ref.path)


def _kept(tree: Revision, ref: FileRef) -> RawTable:
    for path, entry in tree.tracked.items():
        if ref.path == path or ref.path.startswith(f"{path}/"):
            return RawTable(ref, DVC, path, origin=entry.origin)
    if any(path.startswith(f"{ref.path}/") for path in tree.tracked):
        return RawTable(ref, DVC, ref.path)
    if tree.keeps(ref.path):
        return RawTable(ref, GIT, ref.path)
    what = f"{ref.path} is kept by neither git nor DVC at {tree.where}"
    raise UserError(what, f"dvc add {shlex.quote(ref.path)} && git add -A && git commit")
