"""A part read in batches: the columns that are kept, beside those that the model takes."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from typing import IO, TYPE_CHECKING, Any

from dovetail.errors import one_line
from dovetail.serving.batch.bad_part import BadPart
from dovetail.serving.batch.model_columns import check_schema, model_columns
from dovetail.serving.protocol.body_limits import check_names
from dovetail.serving.protocol.csv_body import read_csv
from dovetail.serving.protocol.refused import Refused
from dovetail.serving.protocol.signature import Signature

if TYPE_CHECKING:
    import pyarrow as pa

_ROWS, _BYTES = 65_536, 64 << 20  # of a batch, at most
_CSV_VALUES, _CSV_BLOCK = 200_000, 8 << 20
ARROW_TYPES = {"double": "float64", "float": "float32", "long": "int64", "integer": "int32", "string": "string",
          "boolean": "bool"}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Batch:
    """Some rows: those columns that are kept, and those that the model is asked with."""

    kept: "pa.RecordBatch"
    asked: Mapping[str, Any]

    @property
    def rows(self) -> int:
        """How many."""
        return int(self.kept.num_rows)


@dataclass(frozen=True, slots=True)
class PartReader:
    """A part that can be scored: the schema of what is kept of it, and its rows."""

    schema: "pa.Schema"
    batches: Iterator[Batch]


@contextmanager
def bad_part() -> Iterator[None]:
    """Let whatever is wrong with a part be that, in one line.

    Raises:
        BadPart: with the reason.
    """
    import csv
    import zlib

    import pyarrow as pa

    try:
        yield
    except Refused as error:
        raise BadPart(error.message) from error
    except (pa.ArrowException, OSError, EOFError, ValueError, OverflowError, zlib.error, csv.Error) as error:
        raise BadPart(f"it cannot be read: {one_line(error)}") from error


def read_parquet(file: IO[bytes], signature: Signature, columns: Sequence[str]) -> PartReader:
    """The rows of a Parquet file; `columns` are kept, by default all.

    Raises:
        BadPart: when it is none, or not what the model takes; also while its batches are read.
    """
    import pyarrow.parquet as pq

    with bad_part():
        opened = pq.ParquetFile(file, pre_buffer=False)
        schema = opened.schema_arrow
        check_names(schema.names, None)
        check_schema(schema, signature)
    kept = _kept(schema.names, columns)
    wanted = set(schema.names if signature.columns is None else (column.name for column in signature.columns))
    names = [name for name in schema.names if name in wanted or name in kept]

    def batches() -> Iterator[Batch]:
        first = 0
        with bad_part():
            for batch in opened.iter_batches(batch_size=_rows_of(opened.metadata), columns=names, use_threads=False):
                asked = batch if signature.columns is None else batch.select([n for n in names if n in wanted])
                yield Batch(batch.select(kept), model_columns(asked, signature, first))
                first += batch.num_rows

    fields = [schema.field(name) for name in kept]
    metadata = {key: value for key, value in (schema.metadata or {}).items() if key != b"pandas"}
    return PartReader(_schema(fields, metadata), batches())


def read_csv_part(file: IO[bytes], signature: Signature, columns: Sequence[str]) -> PartReader:
    """The rows of a CSV file, those that the model takes in its types, as a request's body is read; others as text.

    Text is kept as it is written, also where the model takes it for missing, as it does `NA`.

    Raises:
        BadPart: when it is none, or not what the model takes; also while its batches are read.
    """
    import pyarrow as pa
    import pyarrow.csv as pacsv

    with bad_part():
        header = _header(file)
        check_names(header, None)
        signature.check_names(header)
    kept = _kept(header, columns)
    typed = {column.name: ARROW_TYPES.get(column.type) for column in signature.columns or () if column.name in header}
    fields = [pa.field(n, _csv_type(n, typed)) for n in kept]
    asked = [name for name in header if signature.columns is None or name in typed]

    def batches() -> Iterator[Batch]:
        first, most = 0, max(1, _CSV_VALUES // max(len(asked), 1))
        with bad_part():
            for piece in pacsv.open_csv(
                file,
                read_options=pacsv.ReadOptions(block_size=_CSV_BLOCK, use_threads=False),
                # Of one column, a blank line is a row whose value is missing; of several it is none.
                parse_options=pacsv.ParseOptions(newlines_in_values=True, ignore_empty_lines=len(header) > 1),
                convert_options=pacsv.ConvertOptions(
                    column_types=dict.fromkeys(header, pa.string()), strings_can_be_null=False
                ),
            ):
                for start in range(0, piece.num_rows, most):
                    rows = piece.slice(start, most)
                    yield _csv_batch(rows, signature, asked, fields, first)
                    first += rows.num_rows

    return PartReader(_schema(fields, {}), batches())


def _csv_batch(
    rows: "pa.RecordBatch", signature: Signature, asked: Sequence[str], fields: Sequence["pa.Field"], first: int
) -> Batch:
    import pyarrow as pa
    import pyarrow.csv as pacsv

    body = BytesIO()
    pacsv.write_csv(rows.select(asked), body)
    read = read_csv(body.getvalue(), signature, rows.num_rows)
    given = {name: values for name, values in read.items() if signature.columns is None or name in asked}
    known = {column.name: column for column in signature.columns or ()}
    checked = {n: known[n].check(values, first) if n in known else values for n, values in given.items()}
    ordered = {name: checked[name] for name in known if name in checked} or checked
    arrays = [
        rows.column(field.name) if field.name not in known
        else _written(rows.column(field.name)) if pa.types.is_string(field.type)
        else pa.array(ordered[field.name], field.type, from_pandas=True)
        for field in fields
    ]  # fmt: skip
    return Batch(pa.record_batch(arrays, schema=_schema(fields, {})), ordered)


def _written(texts: "pa.Array") -> "pa.Array":
    """What the file says in a column of text that the model takes: nothing where a cell is empty."""
    import pyarrow as pa
    import pyarrow.compute as pc

    return pc.if_else(pc.equal(texts, ""), pa.scalar(None, pa.string()), texts)


def _header(file: IO[bytes]) -> list[str]:
    """The names in the first row.

    Raises:
        ValueError: when there is none.
    """
    import csv

    texts = (line.decode("utf-8") for line in file)
    # A mark of the byte order is no part of the first name, which may be quoted.
    lines = (text if place else text.removeprefix("\ufeff") for place, text in enumerate(texts))
    first = next(csv.reader(lines), None)
    file.seek(0)
    if not first:
        raise ValueError("it has no header")
    return first


def _csv_type(name: str, typed: Mapping[str, str | None]) -> "pa.DataType":
    import pyarrow as pa

    if name not in typed:
        return pa.string()
    said = typed[name]
    return pa.type_for_alias(said) if said else pa.timestamp("us")


def _kept(names: Sequence[str], columns: Sequence[str]) -> list[str]:
    """The columns that are kept, in their own order.

    Raises:
        BadPart: when one is not there.
    """
    if missing := [name for name in columns if name not in names]:
        raise BadPart(f"it has no column {missing[0]!r}, which --columns names; it has {', '.join(names)[:200]}")
    return [name for name in names if not columns or name in columns]


def _schema(fields: Sequence["pa.Field"], metadata: Mapping[bytes, bytes]) -> "pa.Schema":
    import pyarrow as pa

    return pa.schema(list(fields), metadata=dict(metadata))


def _rows_of(metadata: Any) -> int:
    """Rows of a batch: the same for the same file, whoever reads it."""
    size = sum(metadata.row_group(number).total_byte_size for number in range(metadata.num_row_groups))
    return int(max(1, min(_ROWS, metadata.num_rows * _BYTES // max(size, 1))))
