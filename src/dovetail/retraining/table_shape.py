"""The columns and types of a raw table, and fitting other rows to them."""

import json
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.ipc
import pyarrow.parquet

from dovetail.errors import MissingFile, UserError
from dovetail.values.number_text import plain_numbers
from dovetail.values.reading import USUAL, Reading, is_utf8
from dovetail.values.sheets import read_sheet
from dovetail.values.table_names import format_of, is_sheet, is_table
from dovetail.values.tables import KIND_OF, open_table

PARQUET, DELIMITERS = (".parquet", ".pq"), {".csv": ",", ".tsv": "\t"}
ARROW = (".arrow", ".feather")
TYPED = (*PARQUET, *ARROW)
_NO_VALUE = pa.array(pyarrow.csv.ConvertOptions().null_values, pa.string())


@dataclass(frozen=True, slots=True)
class Shape:
    """The columns of a raw table.

    Attributes:
        path: The table.
        kinds: What each column holds, as it is shown; in JSON lines JSON's words, joined by ` | `.
        types: The Arrow type of each; of CSV the one that its text can be read as. None in JSON lines.
        required: Columns that take no missing value.
        how: How its data set reads it.
    """

    path: str
    kinds: Mapping[str, str]
    types: Mapping[str, pa.DataType | None]
    required: frozenset[str] = frozenset()
    how: Reading = USUAL

    def reading_for(self, name: str) -> Reading:
        """How a file of new rows is read: as the raw table if its name ends alike or it is a sheet, else as usual."""
        return self.how if is_sheet(name) or format_of(name) == format_of(self.path) else USUAL


def shape_of(file: Path, path: str, how: Reading = USUAL) -> Shape:
    """The shape of the table in `file`, whose path in the repository is `path` and which is read as `how` says.

    Raises:
        MissingFile: when it cannot be read.
    """
    kinds = open_table(file, path, how).columns
    if format_of(path) in TYPED:
        schema = schema_of(file, path)
        required = frozenset(field.name for field in schema if not field.nullable)
        return Shape(path, kinds, {field.name: field.type for field in schema}, required, how)
    if format_of(path) in DELIMITERS:
        return Shape(path, kinds, {name: _readable_as(kind) for name, kind in kinds.items()}, how=how)
    return Shape(path, kinds, dict.fromkeys(kinds), how=how)


def schema_of(file: Path, path: str) -> pa.Schema:
    """The schema that a Parquet or Arrow file declares."""
    if format_of(path) in PARQUET:
        return pa.parquet.read_schema(file)
    with pa.ipc.open_file(file) as content:
        return content.schema


def _readable_as(kind: str) -> pa.DataType:
    """A column of CSV that held whole numbers so far may hold any; one without values, anything."""
    found = pa.type_for_alias(kind)
    return pa.float64() if pa.types.is_integer(found) else pa.string() if pa.types.is_null(found) else found


def check_there(file: Path) -> None:
    """Check that there is such a file.

    Raises:
        MissingFile: when there is none.
    """
    if not file.is_file():
        raise MissingFile(f"{file} is not there", "give the path of a file, or the word feedback")


def read(file: Path, shape: Shape, names: Mapping[str, str]) -> pa.Table:
    """The rows in `file`, columns renamed by `names`, in the types of `shape` where the file has none of its own.

    Raises:
        MissingFile: when it is not there, or not what its name's ending says.
        UserError: when its ending is not that of a table, or a value does not fit.
    """
    if not (is_table(file.name) or is_sheet(file.name)):
        kinds = ".csv, .tsv, .parquet, .arrow, .feather, .jsonl, .ndjson, .xlsx, .xls, .xlsb or .ods"
        raise UserError(f"{file} is not a table by its name", f"give it as {kinds}")
    check_there(file)
    how = shape.reading_for(file.name)
    if format_of(file.name) in DELIMITERS and how.plain_numbers and not shape.how.plain_numbers:
        what = f"{file} may write numbers otherwise than {shape.path}, whose decimal mark is {shape.how.decimal!r}"
        raise UserError(what, f"give the rows written as there, in a {format_of(shape.path)} file, or as .parquet")
    columns = open_table(file, str(file), how).columns
    raw_names = {name: _raw_name(name, columns, shape, names) for name in columns}
    try:
        table = _table(file, {name: shape.types.get(raw) for name, raw in raw_names.items()}, shape, how)
    except (pa.ArrowException, ValueError, EOFError, zlib.error) as error:
        said = " ".join(str(error).split())
        raise UserError(f"{file} does not fit {shape.path}: {said}", f"correct {file}") from error
    return table.rename_columns([raw_names[name] for name in table.column_names])


def _raw_name(name: str, columns: Mapping[str, str], shape: Shape, names: Mapping[str, str]) -> str:
    """The raw table's name of a column; columns that have the raw table's names already keep them."""
    raw = names.get(name, name)
    return raw if name not in shape.types and raw not in columns else name


def _table(file: Path, types: Mapping[str, pa.DataType | None], shape: Shape, how: Reading) -> pa.Table:
    if is_sheet(file.name):
        return read_sheet(file, how)
    if format_of(file.name) in PARQUET:
        return pa.parquet.read_table(file)
    if format_of(file.name) in ARROW:
        with pa.ipc.open_file(file) as content:
            return content.read_all()
    if format_of(file.name) in DELIMITERS:
        if format_of(shape.path) in DELIMITERS:  # what is written there goes over as it is written
            types = dict.fromkeys(types, pa.string())
        return pa.csv.read_csv(
            file,
            read_options=pa.csv.ReadOptions(encoding="utf8" if is_utf8(how.encoding) else how.encoding),
            parse_options=pa.csv.ParseOptions(
                delimiter=how.separator or DELIMITERS[format_of(file.name)], newlines_in_values=True
            ),
            convert_options=pa.csv.ConvertOptions(
                column_types={name: _plain(kind) for name, kind in types.items() if kind is not None},
                strings_can_be_null=format_of(shape.path) not in DELIMITERS,
            ),
        )
    import gzip

    content = gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()
    rows = [json.loads(line) for line in content.splitlines() if line.strip()]
    names = list(types)
    return pa.table({name: pa.array([row.get(name) for row in rows]) for name in names})


def _plain(kind: pa.DataType) -> pa.DataType:
    return kind.value_type if pa.types.is_dictionary(kind) else kind


def fit(table: pa.Table, shape: Shape, name: str, label: str | None) -> pa.Table:
    """The rows of `table` with the columns of `shape`, in its order and its types.

    Raises:
        UserError: when there are no rows, a column is missing, unknown or of another type, or a label is missing.
    """
    correct = f"correct {name}"
    if not table.num_rows:
        raise UserError(f"{name} holds no rows", "give at least one")
    for what, found in (
        ("lacks columns", [column for column in shape.types if column not in table.column_names]),
        ("has columns that are unknown there", [column for column in table.column_names if column not in shape.types]),
    ):
        if found:
            raise UserError(f"{name} {what}: {', '.join(found)}; {shape.path} has {', '.join(shape.types)}", correct)
    if label is not None and (place := _first_missing(table[label], shape.how)) is not None:
        raise UserError(f"{name}: row {place + 1} has no {label}, which is the label", correct)
    columns = {}
    for column, kind in shape.types.items():
        try:
            columns[column] = _fitted(table[column], kind, shape, column)
        except (pa.ArrowException, ValueError) as error:
            said = " ".join(str(error).split())
            what = f"{name}: column {column} does not fit {shape.path}, which holds {shape.kinds[column]} there: {said}"
            raise UserError(what, correct) from error
        if column in shape.required and columns[column].null_count:
            raise UserError(f"{name}: column {column} has missing values, {shape.path} takes none there", correct)
    return pa.table(columns)


def _first_missing(column: pa.ChunkedArray, how: Reading) -> int | None:
    values = enumerate(column.to_pylist())
    return next((n for n, value in values if value in (None, "", *how.null_values) or value != value), None)  # noqa: PLR0124  (NaN)


def _fitted(column: pa.ChunkedArray, kind: pa.DataType | None, shape: Shape, name: str) -> pa.ChunkedArray:
    if kind is None:
        if unknown := sorted(_kinds(column.to_pylist()) - _allowed(shape.kinds[name])):
            raise ValueError(f"it has {' and '.join(unknown)}")
        return column
    if format_of(shape.path) in DELIMITERS:
        if pa.types.is_floating(column.type):
            column = pc.if_else(pc.is_nan(column), pa.scalar(None, column.type), column)
        text = column if pa.types.is_string(column.type) else pc.cast(column, pa.string())
        if not pa.types.is_string(kind):
            words = pa.array(shape.how.null_values, pa.string())
            missing = pc.or_(pc.is_in(text, _NO_VALUE), pc.is_in(text, words))
            numbers = text if text is not column else _plain_text(text, shape.how)
            pc.cast(pc.if_else(missing, pa.scalar(None, pa.string()), numbers), kind)
        return text if pa.types.is_string(column.type) or shape.how.plain_numbers else _as_written(column, text, shape)
    if pa.types.is_dictionary(kind):
        return pc.cast(pc.cast(column, kind.value_type).dictionary_encode(), kind)
    return pc.cast(column, kind)


def _plain_text(text: pa.ChunkedArray, how: Reading) -> pa.ChunkedArray:
    return pa.chunked_array([plain_numbers(piece, how) for piece in text.chunks], text.type)


def _as_written(column: pa.ChunkedArray, text: pa.ChunkedArray, shape: Shape) -> pa.ChunkedArray:
    """Numbers that were typed, as the raw table writes them."""
    is_number = pa.types.is_floating(column.type) or pa.types.is_decimal(column.type)
    return pc.replace_substring(text, ".", shape.how.decimal) if is_number else text


def _kinds(values: list[Any]) -> set[str]:
    return {KIND_OF.get(type(value), type(value).__name__) for value in values if value is not None}


def _allowed(shown: str) -> set[str]:
    found = set(shown.split(" | "))
    return {*KIND_OF.values()} if found == {"null"} else found | ({"integer"} if "number" in found else set())


def plain_rows(table: pa.Table) -> Iterator[dict[str, Any]]:
    """Each row as Python's own values, a few thousand at a time."""
    for batch in table.to_batches(max_chunksize=10_000):
        yield from batch.to_pylist()
