"""A text file of rows that nobody described: its encoding, separator, numbers and words for what is missing."""

import csv
import gzip
import io
import re
import sys
from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dovetail.values.reading import Reading
from dovetail.values.table_names import format_of

if TYPE_CHECKING:
    import pandas as pd

PROMISED = {".csv": ",", ".tsv": "\t"}  # the separator that an ending promises
NULLS = frozenset({"", "NA", "N/A", "n/a", "#N/A", "<NA>", "NaN", "nan", "null", "NULL", "None", "?"})
_IN_NUMBERS = frozenset({"-", "--", ".", "na", "n.a.", "nil", "none", "missing", "k.a.", "k. a.", "#na"})  # and spaces
INFINITE = re.compile(r"[+-]?inf(?:inity)?", re.IGNORECASE)
NUMBER = r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?"
_GROUPED = r"[+-]?(?:[1-9]\d{0,2}(?:\.\d{3})+|\d+)"  # `1.234` where another column says that the dot is no point
_SEPARATORS = ",;\t|"
_STYLES = ((".", ","), (",", "."), (",", ""), (",", " "), (".", " "), (".", "'"), (",", "'"))
FEW_ODD = 0.01  # of a column of numbers: the share of rows with something else, which are rejected
_GUESSED_FROM = 1 << 16  # bytes
_LONGEST_CELL = min(sys.maxsize, (1 << 31) - 1)  # what the csv module takes on each system
_ENCODINGS = ["cp1252", "cp1250", "cp1251", "cp1253", "cp1254", "cp932", "gb18030", "big5", "euc_kr", "mac_roman"]


@dataclass(frozen=True, slots=True)
class TextFile:
    """What a text file holds.

    Attributes:
        cells: All as text, missing ones None.
        reading: How it is written.
        infinite: By column, how many cells were infinite, which are missing now.
        missing: By column, the words in it that are read as missing, told.
    """

    cells: "pd.DataFrame"
    reading: Reading
    infinite: dict[str, int]
    missing: dict[str, str]


def read_text(file: Path) -> TextFile:
    """All of the file.

    Raises:
        OSError, ValueError: it is no such file, or has lines that are no rows.
    """
    import pandas as pd

    text, encoding = _decoded(file)
    if "\r" in text and "\n" not in text:
        raise ValueError(r"its lines end in \r alone; write it with \n")
    promised = PROMISED[format_of(file.name)]
    separator = _separator(text, promised)
    _check_lines(text, separator)
    cells = pd.read_csv(io.StringIO(text), sep=separator, dtype=str, keep_default_na=False, index_col=False)
    cells = cells.astype(object)
    present = {name: {word for word in cells[name].unique() if word in NULLS} for name in cells}
    nulls = set().union(*present.values())
    found = Reading("" if separator == promised else separator, encoding)
    decimal, thousands = _numbers(cells, separator)
    found = replace(found, decimal=decimal, thousands=thousands)
    for name in cells:
        nulls |= words_beside_numbers(cells[name], found)
    if nulls - {""}:
        found = replace(found, null_values=tuple(sorted(nulls | {""})))
    words = [null for null in nulls if is_infinite(null)]
    return TextFile(
        cells.where(~cells.isin(nulls | {""}), None),
        found,
        {str(name): int(cells[name].isin(words).sum()) for name in cells},
        {str(name): said_of_missing(cells[name], nulls) for name in cells},
    )


def is_infinite(word: str) -> bool:
    """Whether a word is an infinite number."""
    return INFINITE.fullmatch(word.strip()) is not None


def said_of_missing(values: Any, nulls: Collection[str]) -> str:
    """The words of a column, as written, that are read as missing: in one of text they may have been classes."""
    counts = values[values.isin([null for null in nulls if null])].value_counts()
    shown = [f"{word!r} ({count} rows)" for word, count in sorted(counts.items())]
    return f"{', '.join(shown)} read as missing: null_values under clean" if shown else ""


def as_numbers(values: Any, reading: Reading) -> Any:
    """Text as float64, NaN where it is no number as the file writes them."""
    import pandas as pd

    text = values.str.strip()
    plain = text.where(text.str.fullmatch(_written(reading.decimal, reading.thousands)))
    if reading.thousands:
        plain = plain.str.replace(reading.thousands, "", regex=False)
    return pd.to_numeric(plain.str.replace(reading.decimal, ".", regex=False), errors="coerce").astype("float64")


def _decoded(file: Path) -> tuple[str, str]:
    content = gzip.decompress(file.read_bytes()) if file.name.lower().endswith(".gz") else file.read_bytes()
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        return content.decode("utf-16"), "utf-16"
    try:
        return content.decode("utf-8-sig"), "utf-8"
    except UnicodeDecodeError as error:
        from charset_normalizer import from_bytes

        line = content[max(content.rfind(b"\n", 0, error.start), 0) : error.end + 200]
        best = from_bytes(line + content[:_GUESSED_FROM], cp_isolation=_ENCODINGS).best()
        guess = "cp1252" if best is None or "cp1252" in best.could_be_from_charset else best.encoding
        return content.decode(guess), guess.replace("cp125", "windows-125")


def _separator(text: str, promised: str) -> str:
    """What stands between the cells of the header most often."""
    header = text.partition("\n")[0]
    counts = {mark: len(next(csv.reader([header], delimiter=mark), [])) for mark in _SEPARATORS}
    best = max(counts, key=lambda mark: counts[mark])
    return best if counts[best] > counts[promised] else promised


def _check_lines(text: str, separator: str) -> None:
    """Refuse what the stage `clean` would refuse, and no reader here tells: blank lines, short and long ones."""
    csv.field_size_limit(_LONGEST_CELL)  # neither pandas nor the stages have a limit
    lines = csv.reader(io.StringIO(text, newline=""), delimiter=separator)
    try:
        header = next(lines, [])
        if header and all(re.fullmatch(NUMBER, name.strip()) for name in header):
            raise ValueError(
                f"line 1, {separator.join(header)!r}, is data; the first line must name the columns: add one or, if "
                f"these are their names, write one of them otherwise, such as {'y' + header[0].strip()!r}"
            )
        if "" in header:
            hint = "name it, or write the file without it (pandas' index: to_csv(…, index=False))"
            raise ValueError(f"column {header.index('') + 1} has no name; {hint}")
        if twice := [name for name in header if header.count(name) > 1]:  # pandas would rename one
            raise ValueError(f"two columns are named {twice[0]!r}; rename one")
        for cells in lines:
            if len(cells) == len(header):
                continue
            if not cells:
                raise ValueError(f"line {lines.line_num} is blank; remove it")
            raise ValueError(f"line {lines.line_num} has {len(cells)} cells, the first line has {len(header)}")
    except csv.Error as error:
        raise ValueError(f"line {lines.line_num}: {error}") from error


def _written(decimal: str, thousands: str) -> str:
    point, between = re.escape(decimal), re.escape(thousands)
    whole = rf"(?:\d{{1,3}}(?:{between}\d{{3}})+|\d+)" if thousands else r"\d+"
    return rf"[+-]?(?:{whole}(?:{point}\d*)?|{point}\d+)(?:[eE][+-]?\d+)?"


def _numbers(cells: "pd.DataFrame", separator: str) -> tuple[str, str]:
    """How numbers are written: otherwise than in Python only where that makes a number of a whole column."""
    columns = {name: _present(cells[name]) for name in cells}
    columns = {name: values for name, values in columns.items() if len(values)}
    plain = {name for name, values in columns.items() if values.str.fullmatch(NUMBER).all()}
    dotted = [name for name in plain if columns[name].str.contains(".", regex=False).any()]
    needs_comma = any(
        _is_written(values, ",", ".") and not _is_written(values, ".", ",")
        for name, values in columns.items()
        if name not in plain
    )
    is_grouped = needs_comma and all(columns[name].str.fullmatch(_GROUPED).all() for name in dotted)
    styles = [_STYLES[1], _STYLES[2], *_STYLES] if separator == ";" else _STYLES
    best, most = (".", ""), 0
    for decimal, thousands in styles:
        if dotted and decimal == "," and not (thousands == "." and is_grouped):
            continue  # `1.5` would be no number, `1.234` another one
        gained = sum(_is_written(values, decimal, thousands) for name, values in columns.items() if name not in plain)
        if gained > most:
            best, most = (decimal, thousands), gained
    return best


def _is_written(values: Any, decimal: str, thousands: str) -> bool:
    return bool(values.str.fullmatch(_written(decimal, thousands)).all())


def _present(values: Any) -> Any:
    text = values.str.strip()
    return text[~text.isin(NULLS) & ~text.str.casefold().isin(_IN_NUMBERS) & ~text.str.fullmatch(INFINITE)]


def words_beside_numbers(values: Any, reading: Reading) -> set[str]:
    """The words of a column, as written, that stand for a missing or infinite value where all else are numbers."""
    words = values[~values.isin(NULLS)]
    stripped = words.str.strip()
    odd = stripped.str.casefold().isin(_IN_NUMBERS | {"", *(null.casefold() for null in NULLS)})
    infinite = stripped.str.fullmatch(INFINITE)
    others = words[~odd & ~infinite]
    if not len(others) or as_numbers(others, reading).isna().mean() > FEW_ODD:
        return set()
    return set(words[odd | infinite])
