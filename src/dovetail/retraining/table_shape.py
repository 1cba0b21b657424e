"""The columns and types of a raw table, and fitting other rows to them."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet

from dovetail.errors import MissingFile, UserError
from dovetail.values.tables import KIND_OF, format_of, is_table, open_table

PARQUET, DELIMITERS, JSON_LINES = (".parquet", ".pq"), {".csv": ",", ".tsv": "\t"}, (".jsonl", ".ndjson")
_NO_VALUE = pa.array(pyarrow.csv.ConvertOptions().null_values, pa.string())


@dataclass(frozen=True, slots=True)
class Shape:
    """The columns of a raw table.

    Attributes:
        path: The table.
        kinds: What each column holds, as it is shown; in JSON lines JSON's words, joined by ` | `.
        types: The Arrow type of each; of CSV the one that its text can be read as. None in JSON lines.
        required: Columns that take no missing value.
    """

    path: str
    kinds: Mapping[str, str]
    types: Mapping[str, pa.DataType | None]
    required: frozenset[str] = frozenset()


def shape_of(file: Path, path: str) -> Shape:
    """The shape of the table in `file`, whose path in the repository is `path`.

    Raises:
        MissingFile: when it cannot be read.
    """
    kinds = open_table(file, path).columns
    if format_of(path) in PARQUET:
        schema = pa.parquet.read_schema(file)
        required = frozenset(field.name for field in schema if not field.nullable)
        return Shape(path, kinds, {field.name: field.type for field in schema}, required)
    if format_of(path) in DELIMITERS:
        return Shape(path, kinds, {name: _readable_as(kind) for name, kind in kinds.items()})
    return Shape(path, kinds, dict.fromkeys(kinds))


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
    if not is_table(file.name):
        raise UserError(f"{file} is no table by its name", "give it as .csv, .tsv, .parquet, .jsonl or .ndjson")
    check_there(file)
    columns = open_table(file, str(file)).columns
    raw_names = {name: _raw_name(name, columns, shape, names) for name in columns}
    try:
        table = _table(file, {name: shape.types.get(raw) for name, raw in raw_names.items()}, shape)
    except (pa.ArrowException, ValueError) as error:
        said = " ".join(str(error).split())
        raise UserError(f"{file} does not fit {shape.path}: {said}", f"correct {file}") from error
    return table.rename_columns([raw_names[name] for name in table.column_names])


def _raw_name(name: str, columns: Mapping[str, str], shape: Shape, names: Mapping[str, str]) -> str:
    """The raw table's name of a column; columns that have the raw table's names already keep them."""
    raw = names.get(name, name)
    return raw if name not in shape.types and raw not in columns else name


def _table(file: Path, types: Mapping[str, pa.DataType | None], shape: Shape) -> pa.Table:
    if format_of(file.name) in PARQUET:
        return pa.parquet.read_table(file)
    if format_of(file.name) in DELIMITERS:
        if format_of(shape.path) in DELIMITERS:  # what is written there goes over as it is written
            types = dict.fromkeys(types, pa.string())
        return pa.csv.read_csv(
            file,
            parse_options=pa.csv.ParseOptions(delimiter=DELIMITERS[format_of(file.name)], newlines_in_values=True),
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
    if label is not None and (place := _first_missing(table[label])) is not None:
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


def _first_missing(column: pa.ChunkedArray) -> int | None:
    values = enumerate(column.to_pylist())
    return next((n for n, value in values if value in (None, "") or value != value), None)  # noqa: PLR0124  (NaN)


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
            pc.cast(pc.if_else(pc.is_in(text, _NO_VALUE), pa.scalar(None, pa.string()), text), kind)
        return text
    if pa.types.is_dictionary(kind):
        return pc.cast(pc.cast(column, kind.value_type).dictionary_encode(), kind)
    return pc.cast(column, kind)


def _kinds(values: list[Any]) -> set[str]:
    return {KIND_OF[type(value)] for value in values if value is not None}


def _allowed(shown: str) -> set[str]:
    found = set(shown.split(" | "))
    return {*KIND_OF.values()} if found == {"null"} else found | ({"integer"} if "number" in found else set())


def plain_rows(table: pa.Table) -> Iterator[dict[str, Any]]:
    """Each row as Python's own values, a few thousand at a time."""
    for batch in table.to_batches(max_chunksize=10_000):
        yield from batch.to_pylist()
