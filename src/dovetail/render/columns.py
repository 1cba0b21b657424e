"""Columns that fit a terminal: cells are wrapped between words, never in one, and colour counts for nothing."""

import os
import shutil
import sys
import textwrap
from collections.abc import Sequence

_LEAST = 60  # columns of a terminal that tables are made for
_NARROWEST = 8  # a column that is made narrower is not read
_GAP = 2
_STYLES = {"pass": "32", "FAIL": "31;1", "DRIFT": "31;1"}


def width() -> int:
    """The columns that there are for a table; in a pipe a row stays a line, however long."""
    return max(_LEAST, shutil.get_terminal_size().columns) if os.isatty(1) else sys.maxsize


def table(rows: Sequence[Sequence[str]], *, indent: int = 0, room: int | None = None) -> list[list[str]]:
    """The lines of each row: columns as wide as their widest cell, the widest made narrower until all fit.

    Args:
        rows: Cells, each row with as many.
        indent: Spaces in front of each line.
        room: Columns to fill; default: those of the terminal.
    """
    if not rows:
        return []
    room = (width() if room is None else room) - indent - _GAP * (len(rows[0]) - 1)
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
    longest_word = [
        max((len(word) for row in rows for word in row[place].split()), default=0) for place in range(len(widths))
    ]
    least = [min(own, max(_NARROWEST, word)) for own, word in zip(widths, longest_word, strict=True)]
    while sum(widths) > room and widths != least:
        widest = max((place for place in range(len(widths)) if widths[place] > least[place]), key=widths.__getitem__)
        widths[widest] -= 1
    return [_row(row, widths, indent) for row in rows]


def _row(row: Sequence[str], widths: Sequence[int], indent: int) -> list[str]:
    cells = [
        textwrap.wrap(cell, max(wide, 1), break_long_words=False, break_on_hyphens=False) or [""]
        for cell, wide in zip(row, widths, strict=True)
    ]
    height = max(map(len, cells))
    lines = []
    for number in range(height):
        parts = [cell[number] if number < len(cell) else "" for cell in cells]
        line = (" " * _GAP).join(part.ljust(wide) for part, wide in zip(parts, widths, strict=True))
        lines.append(" " * indent + coloured(line.rstrip(), row[0] if number == 0 else ""))
    return lines


def coloured(line: str, word: str) -> str:
    """The line with its mark, `pass` or `FAIL`, in colour; click takes it out where nobody sees it."""
    style = _STYLES.get(word)
    return line.replace(word, f"\x1b[{style}m{word}\x1b[0m", 1) if style else line


def wrapped(text: str, hang: int) -> str:
    """A text over several lines where it is longer than the terminal."""
    if len(text) <= width():
        return text
    return textwrap.fill(text, width(), subsequent_indent=" " * hang, break_long_words=False, break_on_hyphens=False)
