"""The parts of a raw folder, in the order of their names, and the ranges of rows in which they are read.

A range never reaches from one file into the next. So what is made of a file depends on it alone, and a file that is
added changes none of the parts before it.
"""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import IO, Any

import numpy as np
import polars as pl

from stages.common.errors import StageError, listed
from stages.data.quotes import begin_fields, refuse_stray_quotes
from stages.data.raw_check import check, column_names
from stages.data.raw_file import ARROW, CSV, FIX, JSONL, PARQUET, Format, Raw, RowRange, malformed
from stages.data.raw_open import opened, part_files

_CHUNK = 1 << 23  # bytes that are looked through at a time
_COPIED = 1 << 20  # bytes that are copied at a time: they fit into a processor's cache
_MOST_RANGES = 100_000  # files of five digits, which every reader takes in the order of their names
_END, _QUOTE = b"\n", b'"'
_SPACE = b" "[0]  # no sign that is white comes after it


@dataclass(frozen=True)
class Range:
    """Rows of one part, as a worker gets them.

    Attributes:
        number: of the output's part.
        raw: the part.
        head: of a text file, the bytes before its first row.
        first: of a text file, where the range begins, in bytes.
        last: where it ends.
    """

    number: int
    raw: Raw
    head: bytes = b""
    first: int = 0
    last: int = 0

    @property
    def rows(self) -> RowRange:
        """The rows that are meant."""
        if self.raw.range is None:
            raise ValueError("a range says its rows")
        return self.raw.range

    @property
    def name(self) -> str:
        """The file that is written for it."""
        return f"part-{self.number:05}.parquet"

    @contextmanager
    def opened(self, folder: Path, types: Mapping[str, Any] = MappingProxyType({})) -> Iterator[Raw]:
        """The rows, ready to scan: of a text file, a copy in `folder`; `types` are of columns that no schema names."""
        raw = replace(self.raw, range=replace(self.rows, types=types))
        if not raw.is_text or (self.first, self.last) == (len(self.head), self.raw.file.stat().st_size):
            yield raw  # as it lies there, where it is all of its part
            return
        copy = folder / f".{self.name}.raw.tmp"
        try:
            with self.raw.file.open("rb") as file, copy.open("wb") as rows:
                rows.write(self.head)
                file.seek(self.first)
                left = self.last - self.first
                while left and (chunk := file.read(min(left, _COPIED))):
                    rows.write(chunk)
                    left -= len(chunk)
            yield replace(raw, file=copy)
        finally:
            copy.unlink(missing_ok=True)

    def explained(self, error: StageError) -> StageError:
        """The refusal of the range, by its place in the whole part where the part's own check finds that."""
        if self.raw.is_text:
            try:
                check(replace(self.raw, range=None))
            except StageError as found:
                return found
        return error


@contextmanager
def open_parts(raw: Path, form: Format, folder: Path) -> Iterator[list[Raw]]:
    """The parts of `raw`, ready to scan; plain copies of those that need one lie in `folder` until the end.

    Raises:
        StageError: a part is missing, empty, not what its name says, or has other columns than the first.
    """
    with ExitStack() as stack:
        parts = [stack.enter_context(opened(path, form, folder)) for path in part_files(raw)]
        first = parts[0]
        names = column_names(first)
        for part in parts[1:]:
            if (found := column_names(part)) != names:
                raise StageError(
                    f"{part.path} has the columns {listed(found)}; {first.path.name} has {listed(names)}; {FIX}"
                )
        if not first.is_text:
            _refuse_other_types(parts)
        yield parts


def _refuse_other_types(parts: list[Raw]) -> None:
    known = _schema(parts[0])
    for part in parts[1:]:
        for name, dtype in _schema(part).items():
            if dtype != known[name]:
                raise StageError(
                    f"{part.path}: column {name!r} is {dtype}; in {parts[0].path.name} it is {known[name]}; {FIX}"
                )


def _schema(part: Raw) -> pl.Schema:
    try:
        return (pl.scan_ipc if part.kind == ARROW else pl.scan_parquet)(part.file, glob=False).collect_schema()
    except (pl.exceptions.PolarsError, OSError) as error:
        raise malformed(part.path, part.kind, error) from error


def ranges(parts: list[Raw], rows: int) -> Iterator[Range]:
    """The ranges of so many rows of the parts, in their order; a part is looked through when its turn comes.

    Raises:
        StageError: a part has no rows, or was written in part alone; or there are too many ranges.
    """
    number = 0
    for part in parts:
        cuts = {CSV: _lines, JSONL: _objects}.get(part.kind, _counted)(part, rows)
        before = number
        for one in cuts:
            if number >= _MOST_RANGES:
                raise StageError(
                    f"{part.path}: more than {_MOST_RANGES} ranges of {rows} rows, whose files would not lie in their "
                    "order; raise clean.part_rows"
                )
            yield replace(one, number=number)
            number += 1
        if number == before:
            raise StageError(f"{part.path} has no rows; {FIX}")


def _counted(part: Raw, rows: int) -> Iterator[Range]:
    from pyarrow.parquet import read_metadata

    try:
        if part.kind == PARQUET:
            count = int(read_metadata(part.file).num_rows)
        else:
            count = int(pl.scan_ipc(part.file, glob=False).select(pl.len()).collect().item())
    except (pl.exceptions.PolarsError, OSError, ValueError) as error:
        raise malformed(part.path, part.kind, error) from error
    for start in range(0, count, rows):
        yield Range(0, replace(part, range=RowRange(part.path.name, start, min(rows, count - start))))


def _lines(part: Raw, rows: int) -> Iterator[Range]:
    """Cut between lines; in CSV a line's end within quotes is none."""
    with part.file.open("rb") as file:
        ends = _line_ends(part, file, rows)
        head = file_head(part.file, next(ends)[0])
        first, start = len(head), 0
        for last, count in ends:
            there = RowRange(part.path.name, start, count)
            yield Range(0, replace(part, range=there), head, first, last)
            first, start = last, start + count
    if first < part.file.stat().st_size:
        refuse_stray_quotes(part.file, part.form.separator, part.path)
        raise _cut_off(part)


def _objects(part: Raw, rows: int) -> Iterator[Range]:
    """Cut between lines of JSON; a blank one is no row, as for who reads the whole file."""
    first = start = counted = place = 0
    with part.file.open("rb") as file:
        while chunk := file.read(_CHUNK):
            chunk += file.readline()
            ends = _ends_of_objects(chunk)
            while counted + len(ends) >= rows:
                last = place + int(ends[rows - counted - 1])
                yield Range(0, replace(part, range=RowRange(part.path.name, start, rows)), b"", first, last)
                ends, counted = ends[rows - counted :], 0
                first, start = last, start + rows
            counted += len(ends)
            place += len(chunk)
            if not chunk.endswith(_END) and chunk[chunk.rfind(_END) + 1 :].strip():
                raise _cut_off(part)
    if counted:
        yield Range(0, replace(part, range=RowRange(part.path.name, start, counted)), b"", first, place)


def _ends_of_objects(chunk: bytes) -> "np.ndarray[tuple[int], np.dtype[np.intp]]":
    """Where the lines end that are not blank, in bytes from the start of a line on."""
    ends = _ends(chunk) + 1
    begins = np.concatenate([[0], ends[:-1]])[: len(ends)]
    perhaps = np.flatnonzero(np.frombuffer(chunk, np.uint8)[begins] <= _SPACE)
    blank = [line for line in perhaps if chunk[begins[line] : ends[line]].isspace()]
    return np.delete(ends, blank)


def _cut_off(part: Raw) -> StageError:
    return StageError(
        f"{part.path} does not end with a line's end, so it may be written in part alone; {FIX}, "
        "or add the end of the line if nothing is missing: echo >> FILE"
    )


def file_head(path: Path, size: int) -> bytes:
    """The first bytes of a file."""
    with path.open("rb") as file:
        return file.read(size)


def _line_ends(part: Raw, file: IO[bytes], rows: int) -> Iterator[tuple[int, int]]:
    """Where each `rows` lines of CSV end, in bytes, with how many there are; the end of the head comes first.

    Raises:
        StageError: a quote stands in a field that is not quoted, so that the count of quotes tells nothing.
    """
    wanted = 1
    place = counted = last = 0
    is_open = is_known = False
    before = _END
    while chunk := file.read(_CHUNK):
        odd = is_open or _QUOTE in chunk
        if not (is_known or begin_fields(before, chunk, part.form.separator, is_open=is_open)):
            refuse_stray_quotes(part.file, part.form.separator, part.path)
            is_known = True
        before = chunk[-1:]
        count = -1 if odd else int(np.count_nonzero(np.frombuffer(chunk, np.uint8) == _END[0]))
        if odd or counted + count >= wanted:
            found, is_open = _ends_outside_quotes(chunk, is_open=is_open) if odd else (_ends(chunk), is_open)
            count, at = len(found), 0
            while counted + count - at >= wanted:
                at += wanted - counted
                last = place + int(found[at - 1]) + 1
                yield last, wanted
                counted, wanted = 0, rows
            counted += count - at
            if count > at:
                last = place + int(found[-1]) + 1
        else:
            counted += count
            if count:
                last = place + chunk.rfind(_END) + 1
        place += len(chunk)
    if last == 0:
        yield place, 1  # no end of a line: all of it is the head
    elif counted:
        yield last, counted


def _ends(chunk: bytes) -> "np.ndarray[tuple[int], np.dtype[np.intp]]":
    return np.flatnonzero(np.frombuffer(chunk, np.uint8) == _END[0])


def _ends_outside_quotes(chunk: bytes, *, is_open: bool) -> "tuple[np.ndarray[tuple[int], np.dtype[np.intp]], bool]":
    ends = _ends(chunk)
    quotes = np.flatnonzero(np.frombuffer(chunk, np.uint8) == _QUOTE[0])
    inside = (np.searchsorted(quotes, ends) + is_open) % 2 == 1
    return ends[~inside], (len(quotes) + is_open) % 2 == 1
