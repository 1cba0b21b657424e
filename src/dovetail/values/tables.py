"""Files of rows, read in pieces: Parquet, Arrow, CSV, JSON lines, sheets, each with its own columns and types."""

import gzip
import json
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from io import TextIOWrapper
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.ipc
import pyarrow.parquet

from dovetail.errors import MissingFile
from dovetail.values.number_text import plain_numbers
from dovetail.values.reading import USUAL, Reading, is_utf8
from dovetail.values.sheets import read_sheet
from dovetail.values.table_names import format_of, is_sheet

if TYPE_CHECKING:
    import pandas as pd

_WHOLE = {".parquet": "read_parquet", ".csv": "read_csv", ".tsv": "read_table"}  # pandas' readers
PARQUET = frozenset({".parquet", ".pq"})
_CSV_BLOCK = 8 << 20  # bytes that are parsed at a time, and from the first of which CSV's types are guessed
_JSON_ROWS = 50_000  # parsed at a time
KIND_OF: dict[type, str] = {  # JSON's word for what Python reads
    str: "string", bool: "boolean", int: "integer", float: "number", list: "array", dict: "object"
}  # fmt: skip


_Open = Callable[[], Any]  # an open file of bytes
_Batches = Callable[[Sequence[str]], Iterator[pa.RecordBatch]]


@dataclass(frozen=True, slots=True)
class Table:
    """A file of rows.

    Attributes:
        columns: what each column holds, as it is shown; of CSV guessed from the first rows.
        fields: the types in which `batches` gives them: of CSV bytes as they are written, of JSON lines JSON's text.
        measures: columns that tell how much rather than which: never a row's identity.
        batches: reads the columns that are named, piece by piece.
    """

    columns: dict[str, str]
    fields: dict[str, pa.DataType]
    measures: frozenset[str]
    batches: _Batches

    def count(self) -> int:
        """How many rows there are."""
        return sum(batch.num_rows for batch in self.batches(list(self.columns)[:1]))


def has_frame(name: str) -> bool:
    """Whether `frame` reads a file that is called so."""
    return PurePosixPath(name).suffix in _WHOLE


def frame(file: Path, name: str) -> "pd.DataFrame | None":
    """All of the table in `file`, which is called `name` where it belongs; None where pandas has no reader for it.

    Raises:
        ValueError: when it is not what its name's ending says.
    """
    import pandas as pd

    return getattr(pd, _WHOLE[PurePosixPath(name).suffix])(file) if has_frame(name) else None


def open_table(file: Path, name: str, how: Reading = USUAL) -> Table:
    """The table in `file`, which is called `name` where it belongs, read as `how` says.

    Raises:
        MissingFile: when it is not what its name's ending says.
    """
    opened = partial(gzip.open if name.lower().endswith(".gz") else open, file, "rb")
    with _readable(name):
        if is_sheet(name):
            rows = read_sheet(file, how)
            table = arrow_table(rows.schema, lambda columns: iter(rows.select(list(columns)).to_batches()))
        else:
            table = READERS[format_of(name)](opened, how)

    def batches(columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        with _readable(name):
            yield from table.batches(columns)

    return replace(table, batches=batches)


def parquet_rows(file: Path, name: str) -> int:
    """The rows of a Parquet file, as its last bytes say.

    Raises:
        MissingFile: when it is none.
    """
    with _readable(name), file.open("rb") as content:
        return int(pa.parquet.ParquetFile(content).metadata.num_rows)


@contextmanager
def _readable(name: str) -> Iterator[None]:
    try:
        yield
    except (pa.ArrowException, OSError, EOFError, ValueError, zlib.error) as error:  # ValueError: of JSON, of encodings
        why = " ".join(str(error).split())
        raise MissingFile(
            f"{name} cannot be read as a table: {why}", "repair what writes it, then: dvc repro"
        ) from error


def is_measure(kind: pa.DataType) -> bool:
    """Whether values of this type tell how much, or are too deep to tell which."""
    return bool(pa.types.is_floating(kind) or pa.types.is_decimal(kind) or pa.types.is_nested(kind))


def _parquet(opened: _Open, _: Reading) -> Table:
    def batches(columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        with opened() as content:
            yield from pa.parquet.ParquetFile(content).iter_batches(columns=list(columns))

    with opened() as content:
        schema = pa.parquet.read_schema(content)
    return arrow_table(schema, batches)


def _arrow(opened: _Open, _: Reading) -> Table:
    def batches(columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        with opened() as content, pa.ipc.open_file(content) as pieces:
            for number in range(pieces.num_record_batches):
                yield pieces.get_batch(number).select(list(columns))

    with opened() as content, pa.ipc.open_file(content) as pieces:
        schema = pieces.schema
    return arrow_table(schema, batches)


def arrow_table(schema: pa.Schema, batches: _Batches) -> Table:
    """The table whose rows come in Arrow's own types."""
    fields = {field.name: _stored(field.type) for field in _once(schema)}
    measures = frozenset(name for name, kind in fields.items() if is_measure(kind))
    return Table({name: str(kind) for name, kind in fields.items()}, fields, measures, batches)


def _csv(opened: _Open, how: Reading, promised: str = ",") -> Table:
    # A line end within quotes is a part of the value.
    parse = pa.csv.ParseOptions(delimiter=how.separator or promised, newlines_in_values=True)
    encoding = "utf8" if is_utf8(how.encoding) else how.encoding
    read = pa.csv.ReadOptions(block_size=_CSV_BLOCK, encoding=encoding)
    words = {} if how.null_values == USUAL.null_values else {"null_values": list(how.null_values)}

    def batches(columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        # CSV knows no types: what is compared is what is written there.
        convert = pa.csv.ConvertOptions(
            column_types=dict.fromkeys(columns, pa.binary()),
            include_columns=columns,
            strings_can_be_null=bool(words),
            **words,
        )
        with opened() as content:
            for piece in pa.csv.open_csv(content, read_options=read, parse_options=parse, convert_options=convert):
                values = [plain_numbers(column, how) for column in piece.columns]
                yield pa.record_batch(values, schema=piece.schema)

    guess = pa.csv.ConvertOptions(decimal_point=how.decimal, strings_can_be_null=bool(words), **words)
    with opened() as content:
        guessed = _once(pa.csv.open_csv(content, read_options=read, parse_options=parse, convert_options=guess).schema)
    return Table(
        columns={field.name: str(field.type) for field in guessed},
        fields={field.name: pa.binary() for field in guessed},
        measures=frozenset(field.name for field in guessed if is_measure(field.type)),
        batches=batches,
    )


def _json_lines(opened: _Open, how: Reading) -> Table:
    def rows() -> Iterator[dict[str, Any]]:
        with opened() as content:
            lines = content if is_utf8(how.encoding) else map(str.encode, TextIOWrapper(content, how.encoding))
            for line in filter(None, map(bytes.strip, lines)):
                yield _row(line)

    def batches(columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        schema = pa.schema([(name, pa.string()) for name in columns])
        remaining = rows()
        while piece := list(islice(remaining, _JSON_ROWS)):
            yield pa.record_batch([[_json_text(row.get(name)) for row in piece] for name in columns], schema=schema)

    kinds: dict[str, set[str]] = {}
    for row in rows():
        for name, value in row.items():
            kinds.setdefault(name, set()).update({KIND_OF[type(value)]} if value is not None else ())
    return Table(
        columns={name: " | ".join(sorted(found)) or "null" for name, found in kinds.items()},
        fields=dict.fromkeys(kinds, pa.string()),
        measures=frozenset(name for name, found in kinds.items() if found & {"number", "array", "object"}),
        batches=batches,
    )


def _row(line: bytes) -> dict[str, Any]:
    """The object that a line holds.

    Raises:
        ValueError: when it holds none.
    """
    row = json.loads(line)
    if isinstance(row, dict):
        return row
    raise ValueError(f"a line holds no object: {line[:40]!r}")


def _json_text(value: Any) -> str | None:
    return None if value is None else json.dumps(value, sort_keys=True, ensure_ascii=False)


def _once(schema: pa.Schema) -> pa.Schema:
    """The schema, in which no name stands twice.

    Raises:
        ValueError: when one does.
    """
    if twice := sorted({name for name in schema.names if schema.names.count(name) > 1}):
        raise ValueError(f"two columns are called {', '.join(twice)}")
    return schema


def _stored(kind: pa.DataType) -> pa.DataType:
    """The type apart from how its values are laid out: writers choose among three layouts of text."""
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return pa.string()
    return pa.binary() if pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind) else kind


READERS: dict[str, Callable[[_Open, Reading], Table]] = {
    ".parquet": _parquet,
    ".pq": _parquet,
    ".arrow": _arrow,
    ".feather": _arrow,
    ".csv": _csv,
    ".tsv": lambda opened, how: _csv(opened, how, "\t"),
    ".jsonl": _json_lines,
    ".ndjson": _json_lines,
}
