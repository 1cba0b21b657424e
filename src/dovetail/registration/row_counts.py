"""How many rows a table has, counted once and remembered: by what it holds, so that every clone counts the same.

Parquet says it in its last bytes. Anything else is read whole, so a large file is not counted. Nothing is fetched.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from dovetail.errors import DovetailError
from dovetail.registration.value_cache import ValueCache
from dovetail.repo.workspace import Workspace
from dovetail.values.lineage import FileRef, Lineage
from dovetail.values.reading import USUAL, reading_of
from dovetail.values.table_names import format_of, is_sheet, is_table

_LARGEST, _LARGEST_SHEET = 16 << 20, 1 << 20  # bytes: a few hundredths of a second
_MOST_PARTS = 500


@dataclass(frozen=True, slots=True)
class Counted:
    """What was counted of one lineage's data, without the repository: it can be sent to another process."""

    rows: Mapping[FileRef, int | None]

    def of(self, ref: FileRef, _lineage: Lineage) -> int | None:
        """The rows of a data file; None where they were not counted."""
        return self.rows.get(ref)


@dataclass(frozen=True)
class RowCounts:
    """The counts of one repository."""

    workspace: Workspace

    def of(self, ref: FileRef, lineage: Lineage) -> int | None:
        """The rows of a data file as the stages of `lineage` read it.

        None where it is no table, is not here, or is too large to be read for this.
        """
        how = reading_of(ref.path, lineage.stages)
        key = f"{ref.md5}{Path(ref.path).suffix}{'' if how == USUAL else repr(how)}"
        if key not in self._known:
            self._known[key] = self._count(ref, lineage)
            if self._known[key] is not None:
                self._kept.add(key, self._known[key])
        return self._known[key]

    def counted(self, lineage: Lineage) -> Counted:
        """The counts of all data of `lineage`."""
        return Counted({ref: self.of(ref, lineage) for ref in lineage.data})

    def _count(self, ref: FileRef, lineage: Lineage) -> int | None:
        try:
            return self._folder(ref) if ref.is_folder else self._file(ref, lineage)
        except DovetailError:  # no table after all: who reads it says so
            return None

    @cached_property
    def _known(self) -> dict[str, int | None]:
        return {key: rows for key, rows in self._kept.all().items() if isinstance(rows, int)}

    @cached_property
    def _kept(self) -> ValueCache:
        return ValueCache(self.workspace.store_root, "row-counts")

    def _folder(self, ref: FileRef) -> int | None:
        """Those of all parts; a part alone says nothing of the folder."""
        from dovetail.values.partitions import is_partitioned
        from dovetail.values.tables import parquet_rows

        parts = self.workspace.storage.cached_files(ref)
        if not 0 < len(parts) <= _MOST_PARTS or not is_partitioned([part.path for part in parts]):
            return None
        files = [self.workspace.storage.cached(part.md5) for part in parts]
        return None if None in files else sum(parquet_rows(file, ref.path) for file in files if file)

    def _file(self, ref: FileRef, lineage: Lineage) -> int | None:
        if not (is_table(ref.path) or is_sheet(ref.path)) or (file := self.workspace.storage.here(ref)) is None:
            return None
        from dovetail.values.tables import PARQUET, open_table, parquet_rows

        if format_of(ref.path) in PARQUET:
            return parquet_rows(file, ref.path)
        if file.stat().st_size > (_LARGEST_SHEET if is_sheet(ref.path) else _LARGEST):
            return None
        return open_table(file, ref.path, reading_of(ref.path, lineage.stages)).count()
