"""A body of CSV, read as MLflow's server reads it, with pandas; but each row has to be as long as the header.

pandas takes what a longer row begins with for the row's name, so that each value stands in its neighbour's column, and
fills up a shorter one with missing values.
"""

import csv
from collections.abc import Iterable, Iterator
from io import BytesIO, TextIOWrapper
from itertools import islice, repeat
from typing import Any

from dovetail.serving.protocol.body_limits import UNPACKED, check_names, check_values
from dovetail.serving.protocol.frame_values import frame_values
from dovetail.serving.protocol.refused import Refused
from dovetail.serving.protocol.signature import Signature

_MEMORY = 1 << 25  # bytes that are there where a fault is one of the body
_BLANK = " \t\r\n"  # a line of nothing else is none, for pandas


def read_foreign_csv(body: bytes, signature: Signature, most_rows: int) -> dict[str, list[Any]]:
    """The columns of rows that may be of any length: each is looked at first.

    Raises:
        Refused: when one is not as long as the header, or as `read_csv` does.
    """
    return read_csv(body, signature, most_rows, foreign=True)


def read_csv(body: bytes, signature: Signature, most_rows: int, *, foreign: bool = False) -> dict[str, list[Any]]:
    """The columns; a value is missing where pandas says so. A column that is there twice gets a number, as in pandas.

    What is not `foreign` was written here, of rows that were read: they are alike.

    Raises:
        Refused: when it is not CSV in UTF-8, a row is not as long as the header, or it is too large a table.
    """
    import pandas as pd

    try:
        body.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise Refused(400, f"the body is not UTF-8: byte {error.start}", expected="CSV in UTF-8") from None
    if foreign:
        check_values(body.count(b","))  # those within texts, too: in a body they are cheap to send
    texts = {column.name: str for column in signature.columns or () if column.type in ("string", "datetime")}
    try:
        rows = csv_rows(TextIOWrapper(BytesIO(body), "utf-8-sig", newline=""))
        names = next(rows, [])
        check_names(names, signature.names)
        if foreign and not _are_surely_alike(body, len(names)):
            check_lengths(islice(rows, most_rows + 1), len(names))
        frame = pd.read_csv(BytesIO(body), dtype=texts, nrows=most_rows + 1)
    except (ValueError, csv.Error) as error:  # pandas' ParserError and EmptyDataError are ValueErrors
        # pandas says of too little memory what it says of any other fault: where that is why, this raises MemoryError.
        bytearray(min(16 * len(body), _MEMORY))
        said = " ".join(str(error).split())
        raise Refused(400, f"the body is not CSV with a header: {said[:120]}", expected="CSV in UTF-8") from None
    return frame_values(frame)


def csv_rows(lines: Iterable[str]) -> Iterator[list[str]]:
    """The rows of lines with their ends, the header first, without blank lines.

    Raises:
        csv.Error: while they are read, when they are not CSV.
    """
    csv.field_size_limit(UNPACKED)  # for the process: by default a text of more than 131,072 letters is an error
    return csv.reader(line for line in lines if line.strip(_BLANK))


def check_lengths(rows: Iterable[list[str]], length: int) -> None:
    """Refuse rows of another number of values.

    Raises:
        Refused: naming the first that has not.
    """
    for number, row in enumerate(rows):
        if len(row) != length:
            wanted, got = (f"{count} value{'s' if count != 1 else ''}" for count in (length, len(row)))
            message = f"row {number}: expected {wanted}, as the header has, got {got}"
            raise Refused(422, message, field="rows", expected=wanted, got=got)


def _are_surely_alike(body: bytes, length: int) -> bool:
    """Whether each line has so many values, where its commas alone say so: in a quarter of the time."""
    if b'"' in body:
        return False
    lines = TextIOWrapper(BytesIO(body), "latin-1", newline="")  # no sign of UTF-8 has a comma's byte within it
    return set(map(str.count, lines, repeat(","))) == {length - 1}
