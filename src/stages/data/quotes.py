"""Quotes in CSV that quote no field, as in `12" disk`: Polars would lose its place at them.

To find where lines end, Polars counts quotes, and so does who cuts a file into ranges. That is right where each that
opens by count stands where a field begins, which is told of all at once; else a file is looked at line by line.
"""

import codecs
from pathlib import Path
from typing import IO

import numpy as np

from stages.common.errors import StageError

_CHUNK = 1 << 23  # bytes that are looked through at a time
_QUOTE = b'"'
_SHOWN = 60  # characters of a line


def refuse_stray_quotes(file: Path, separator: str, shown: Path) -> None:
    """Refuse a file in which the end of a line is within quotes by their count alone, or the end of all is.

    Args:
        file: in UTF-8.
        separator: between its fields.
        shown: the name by which messages call it.

    Raises:
        StageError: naming the line.
    """
    with file.open("rb") as lines:
        if _are_in_pairs(lines, separator):
            return
        lines.seek(0)
        mark = separator.encode()
        is_open = is_odd = False
        opened = 0  # the line that opened a field which still goes on
        for number, line in enumerate(lines, start=1):
            if _QUOTE in line:
                text = line.removeprefix(codecs.BOM_UTF8) if number == 1 else line
                was_open, is_open = is_open, _is_open_after(text, mark, is_open=is_open)
                if is_open and (not was_open or line.count(_QUOTE) > 1):
                    opened = number
                is_odd ^= line.count(_QUOTE) % 2 == 1
            if is_odd != is_open and line.endswith(b"\n"):
                said = line.decode("utf-8", "replace").rstrip("\r\n")
                raise StageError(
                    f"{shown}: line {number}: {said!r:.{_SHOWN}} has a quote in a field that is not quoted; quote the "
                    'field and double the quote in it: "12"" disk"'
                )
        if is_open:
            raise StageError(
                f"{shown}: line {opened} opens a quote that is not closed; close or double it, or fetch again what was "
                "cut off"
            )


def _are_in_pairs(file: IO[bytes], separator: str) -> bool:
    is_open, before = False, b"\n"
    while chunk := file.read(_CHUNK):
        if not begin_fields(before, chunk, separator, is_open=is_open):
            return False
        is_open ^= chunk.count(_QUOTE) % 2 == 1
        before = chunk[-1:]
    return not is_open


def begin_fields(before: bytes, chunk: bytes, separator: str, *, is_open: bool) -> bool:
    """Whether each quote that opens by count begins a field, or is the second of two within one.

    Args:
        before: the byte before the chunk; the end of a line where it is the file's first.
        chunk: of the file.
        separator: between fields.
        is_open: whether the chunk begins within quotes, by count.
    """
    if _QUOTE not in chunk:
        return True
    head = len(codecs.BOM_UTF8) if before == b"\n" and chunk.startswith(codecs.BOM_UTF8) else 0
    content = np.frombuffer(before + chunk[head:], np.uint8)
    quotes = np.flatnonzero(content[1:] == _QUOTE[0])
    allowed = np.frombuffer(separator.encode() + b'\r\n"', np.uint8)
    return bool(np.isin(content[quotes[int(is_open) :: 2]], allowed).all())


def _is_open_after(line: bytes, separator: bytes, *, is_open: bool) -> bool:
    """Whether a quoted field goes on after the line."""
    place = line.find(_QUOTE)
    while place >= 0:
        if not is_open:
            is_open = place == 0 or line[place - 1 : place] == separator
        elif line[place + 1 : place + 2] == _QUOTE:
            place += 1
        else:
            is_open = False
        place = line.find(_QUOTE, place + 1)
    return is_open
