"""A table of Delta Lake: a folder of Parquet files with a log, whose next version has these rows alone.

The rows are streamed. They are there at once, with the commit that ends it; what is left of a delivery that was killed
no reader sees.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow.parquet import ParquetFile

from stages.common.errors import OutsideError, StageError
from stages.common.params import PARAMS_FILE
from stages.delivery.content import Content

_MISREAD = re.compile(r"[][\\^|%]")  # in a path: deltalake 1.6.6 panics, or means another folder
_NOTE = "delivery"  # the application of whose transactions Delta keeps the last one's number, and a word of a commit
_TRIES = 10  # of who is not the only one to deliver
_BATCH = 65_536  # rows
_HOURS = 7 * 24  # that earlier versions can be read for; Delta's own default
_KEEPING = {"VACUUM START", "VACUUM END", "OPTIMIZE", "SET TBLPROPERTIES", "ADD CONSTRAINT"}  # they change no row
_WIDER = {pa.uint8(): pa.int16(), pa.uint16(): pa.int32(), pa.uint32(): pa.int64(), pa.uint64(): pa.int64()}


def to_delta_table(path: Path, content: Content) -> None:
    """Make these rows the table's next version, unless they are its last one already.

    Raises:
        StageError: deltalake is not installed or misreads the path, or Delta has no type for a column.
        OutsideError: the table cannot be written.
    """
    place = f"{PARAMS_FILE}: {content.place}.delta = {path}"
    if found := _MISREAD.search(str(path.absolute())):
        raise StageError(f"{place}: deltalake misreads {found[0]!r} in {path.absolute()}; name a folder without it")
    try:
        import deltalake
        from deltalake.exceptions import CommitFailedError
    except ModuleNotFoundError as error:
        raise StageError(
            f"{place} needs the package {error.name}, which is not installed: pip install deltalake"
        ) from error
    schema = pa.schema([(field.name, _typed(content, field)) for field in _first(content.file).schema_arrow])
    _refuse_alike(content, schema.names)
    note = int(content.digest[:15], 16)  # Delta has a number there
    other: Exception | None = None
    for _ in range(_TRIES):
        rows = _Rows(content, schema)
        try:
            # Two that make a table at once would both be in it (deltalake 1.6.6); two that replace it are told.
            deltalake.DeltaTable.create(str(path), schema, mode="ignore")
            table = deltalake.DeltaTable(str(path))
            if table.transaction_version(_NOTE) == note and _is_last(table, content.digest):
                return
            deltalake.write_deltalake(
                table,
                pa.RecordBatchReader.from_batches(schema, rows),
                mode="overwrite",
                schema_mode="overwrite",
                commit_properties=deltalake.CommitProperties(
                    custom_metadata={_NOTE: content.digest}, app_transactions=[deltalake.Transaction(_NOTE, note)]
                ),
            )
            _forget(deltalake.DeltaTable(str(path)))
        except CommitFailedError as error:
            other = error
        except Exception as error:  # deltalake's own, or a plain one
            if rows.refused:
                raise rows.refused from error
            raise OutsideError(f"{place}: {' '.join(str(error).split())[:300]}; let it be a writable folder") from error
        else:
            return
    raise OutsideError(f"{place}: others change it all the time ({other}); deliver again when they are done")


def _is_last(table: Any, digest: str) -> bool:
    """Whether nothing has changed the rows since this delivery, as far back as the table's log goes."""
    for commit in table.history():
        if commit.get(_NOTE) == digest:
            return True
        if commit.get("operation") not in _KEEPING:
            return False
    return True


def _forget(table: Any) -> None:
    """Delete files of versions that are older than Delta keeps them."""
    if table.vacuum(_HOURS, dry_run=True, full=True):
        table.vacuum(_HOURS, dry_run=False, full=True)


def _first(file: Path) -> ParquetFile:
    return ParquetFile(min(file.iterdir()) if file.is_dir() else file)


class _Rows:
    """The rows as Delta has them, batch by batch; `refused` says what deltalake reports as an error of its own."""

    def __init__(self, content: Content, schema: pa.Schema) -> None:
        self._content, self._schema = content, schema
        self._left = self._read()
        self.refused: StageError | None = None

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        return self._left

    def _read(self) -> Iterator[pa.RecordBatch]:
        file = self._content.file
        for part in sorted(file.iterdir()) if file.is_dir() else [file]:
            with ParquetFile(part) as opened:
                for batch in opened.iter_batches(_BATCH):
                    yield pa.record_batch([self._cast(batch, field) for field in self._schema], schema=self._schema)

    def _cast(self, batch: pa.RecordBatch, field: pa.Field) -> pa.Array:
        try:
            return batch.column(field.name).cast(field.type)
        except pa.ArrowInvalid as error:
            why = " ".join(str(error).split())
            self.refused = StageError(
                f"{self._content.file}: column {field.name!r}: {why}; cast it in the cleaning script"
            )
            raise self.refused from error


def _refuse_alike(content: Content, names: list[str]) -> None:
    known: dict[str, str] = {}
    for name in names:
        if (other := known.setdefault(name.lower(), name)) != name:
            raise StageError(
                f"{content.file}: the columns {other!r} and {name!r} have one name in Delta Lake; rename one in the "
                "cleaning script"
            )


def _typed(content: Content, field: pa.Field) -> pa.DataType:
    try:
        return _type(field.type)
    except TypeError as error:
        raise StageError(
            f"{content.file}: column {field.name!r} is {field.type}, for which Delta Lake has no type; cast it in the "
            "cleaning script"
        ) from error


def _type(kind: pa.DataType) -> pa.DataType:
    """The type in Delta, where whole numbers have a sign, times microseconds, and there are no categories.

    Raises:
        TypeError: there is none.
    """
    types = pa.types
    if types.is_dictionary(kind):
        kind = kind.value_type
    if types.is_large_string(kind) or types.is_string_view(kind):
        return pa.string()
    if types.is_timestamp(kind):
        return pa.timestamp("us", kind.tz and "UTC")
    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        return pa.list_(_type(kind.value_type))
    if types.is_struct(kind):
        return pa.struct([(field.name, _type(field.type)) for field in kind])
    if types.is_time(kind) or types.is_duration(kind) or types.is_null(kind):
        raise TypeError(str(kind))
    return _WIDER.get(kind, kind)
