"""Small tables of results as MLflow's pages show them: out of metrics by slice, CSV, TSV and lists of records.

What is no such table, or more than a page shows, is none.
"""

import csv
import io
import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dovetail.values.documents import Unreadable, decoded, load_document

SUFFIXES = frozenset({".csv", ".tsv", ".json", ".yaml", ".yml"})
LARGEST = 1 << 20  # bytes of a file
_MOST_ROWS, _MOST_COLUMNS = 1000, 100


@dataclass(frozen=True, slots=True)
class SmallTable:
    """Rows of texts, numbers and nothing, below the names of their columns."""

    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]

    @property
    def text(self) -> str:
        """The JSON that MLflow's `log_table` writes, in the order of the rows."""
        return json.dumps({"columns": self.columns, "data": self.rows}, ensure_ascii=False) + "\n"


def slices(document: Any, name: str = "") -> Iterator[tuple[str, SmallTable]]:
    """The metrics by slice in a document: each mapping of mappings of numbers, with the dotted key where it stands."""
    if not isinstance(document, Mapping) or not document:
        return
    inner = list(document.values())
    if name and all(isinstance(one, Mapping) and one and all(map(_is_number, one.values())) for one in inner):
        columns = list(dict.fromkeys(str(key) for one in inner for key in one))
        rows = [(str(key), *(_cell(one.get(column)) for column in columns)) for key, one in document.items()]
        if table := _table([name.rpartition(".")[2], *columns], rows):
            yield name, table
        return
    for key, value in document.items():
        yield from slices(value, f"{name}.{key}" if name else str(key))


def read(content: bytes, suffix: str) -> SmallTable | None:
    """The table in a file, whose form the ending of its name tells."""
    found = _found(content, suffix)
    return _table(*found) if found else None


def confusion(content: bytes, suffix: str, down: str, across: str) -> SmallTable | None:
    """How often each value of the column `down` comes with each of `across`, in a file of one record a prediction."""
    columns, rows = _found(content, suffix) or ((), ())
    if not {down, across} <= set(columns):
        return None
    pairs = Counter((row[columns.index(down)], row[columns.index(across)]) for row in rows)
    values = sorted(
        {value for pair in pairs for value in pair},
        key=lambda value: (value is not None, isinstance(value, str), value),
    )
    counts = [(value, *(pairs[value, other] for other in values)) for value in values]
    return _table([f"{down} ↓ {across} →", *values], counts)


def _found(content: bytes, suffix: str) -> tuple[Sequence[Any], Sequence[Sequence[Any]]] | None:
    """The names of the columns and the rows of a file, as many as there are."""
    try:
        if suffix in (".csv", ".tsv"):
            return _separated(decoded(content), "\t" if suffix == ".tsv" else ",")
        return _records(load_document(content, suffix))
    except (Unreadable, csv.Error):
        return None


def _separated(text: str, separator: str) -> tuple[Sequence[Any], Sequence[Sequence[Any]]] | None:
    lines = [line for line in csv.reader(io.StringIO(text, newline=""), delimiter=separator) if line]
    if len(lines) < 2 or {len(line) for line in lines} != {len(lines[0])}:  # noqa: PLR2004  (names and a row)
        return None
    return lines[0], [[_parsed(cell) for cell in line] for line in lines[1:]]


def _records(document: Any) -> tuple[Sequence[Any], Sequence[Sequence[Any]]] | None:
    """A list of flat records; of a mapping with one such list, as plots have it, that one."""
    if isinstance(document, Mapping):
        lists = [value for value in document.values() if isinstance(value, list)]
        return _records(lists[0]) if len(lists) == 1 else None
    if not isinstance(document, list) or not all(isinstance(one, Mapping) for one in document):
        return None
    columns = list(dict.fromkeys(key for one in document for key in one))
    if not all(isinstance(value, str | int | float | None) for one in document for value in one.values()):
        return None
    return columns, [[_cell(one.get(column)) for column in columns] for one in document]


def _table(columns: Sequence[Any], rows: Sequence[Sequence[Any]]) -> SmallTable | None:
    names = tuple(map(str, columns))
    fits = 0 < len(rows) <= _MOST_ROWS and 0 < len(names) <= _MOST_COLUMNS and len(set(names)) == len(names)
    return SmallTable(names, tuple(map(tuple, rows))) if fits else None


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _cell(value: Any) -> Any:
    """JSON has no NaN and no infinity, and a script counts no integer beyond 2⁵³."""
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else str(value)
    return str(value) if isinstance(value, int) and abs(value) >> 53 else value


def _parsed(cell: str) -> Any:
    """A number where the cell is how one is written; `007` and `1_000` are texts."""
    for kind in (int, float):
        try:
            value = kind(cell)
        except ValueError:
            continue
        is_text = "_" in cell or (kind is int and str(value) != cell.removeprefix("+"))
        return cell if is_text else _cell(value)
    return cell or None
