"""Adding rows to a file in its own format; its rows, columns and types stay as they are."""

import codecs
import csv
import gzip
import io
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet

from dovetail.errors import UserError
from dovetail.retraining.table_shape import ARROW, DELIMITERS, PARQUET, plain_rows
from dovetail.values.reading import USUAL, Reading
from dovetail.values.table_names import format_of

_HEAD = 1 << 16  # bytes that show how lines end
_BLOCK, _TAIL = 1 << 20, 4  # bytes: unpacked at a time; of a line's end, at most


def append_rows(file: Path, rows: pa.Table, how: Reading = USUAL) -> None:
    """Add `rows` to the end of `file`, written as `how` says; it is replaced: the target of a link is not written to.

    Raises:
        UserError: when the file's encoding has no such character.
    """
    with _replacing(file) as new:
        if format_of(file.name) in PARQUET:
            _parquet(file, new, rows, keep=True)
        elif format_of(file.name) in ARROW:
            _arrow(file, new, rows)
        else:
            shutil.copyfile(file, new)
            _add_text(new, file, _text(file, rows, how), how)


def write_rows(file: Path, sample: Path, rows: pa.Table, how: Reading = USUAL) -> None:
    """Write `rows` to the new file `file` in the format of `sample`."""
    with _replacing(file) as new:
        if format_of(file.name) in PARQUET:
            _parquet(sample, new, rows, keep=False)
        elif format_of(file.name) in ARROW:
            _arrow(sample, new, rows, keep=False)
        elif format_of(file.name) in DELIMITERS:
            text = _csv_lines(sample, [list(rows.column_names)], how) + _text(sample, rows, how)
            _add_text(new, sample, text, how)
        else:
            _add_text(new, sample, _text(sample, rows, how), how)


@contextmanager
def _replacing(file: Path) -> Iterator[Path]:
    temporary = file.with_name(f".{file.name}.tmp")
    try:
        yield temporary
        temporary.replace(file)
    finally:
        temporary.unlink(missing_ok=True)


def _parquet(old: Path, new: Path, rows: pa.Table, *, keep: bool) -> None:
    """The row groups one by one: the file need not fit into memory."""
    source = pa.parquet.ParquetFile(old)
    groups = source.metadata.num_row_groups
    codec = source.metadata.row_group(0).column(0).compression.lower() if groups and rows.num_columns else "snappy"
    with pa.parquet.ParquetWriter(
        new, source.schema_arrow, compression="none" if codec == "uncompressed" else codec
    ) as to:
        for number in range(groups if keep else 0):
            to.write_table(source.read_row_group(number))
        to.write_table(rows.cast(source.schema_arrow))


def _arrow(old: Path, new: Path, rows: pa.Table, *, keep: bool = True) -> None:
    with pa.ipc.open_file(old) as source, pa.ipc.new_file(new, source.schema) as to:
        for number in range(source.num_record_batches if keep else 0):
            to.write_batch(source.get_batch(number))
        to.write_table(rows.cast(source.schema))


def _text(file: Path, rows: pa.Table, how: Reading) -> str:
    if format_of(file.name) in DELIMITERS:
        return _csv_lines(file, [["" if v is None else v for v in row.values()] for row in plain_rows(rows)], how)
    return "".join(f"{json.dumps(row, ensure_ascii=False, default=str)}\n" for row in plain_rows(rows))


def _csv_lines(like: Path, rows: list[list[str]], how: Reading) -> str:
    with _opened(like) as content:
        head = content.read(_HEAD).decode(_bare(how.encoding, like), errors="replace")
    end = _line_end(head)
    text = io.StringIO()
    delimiter = how.separator or DELIMITERS[format_of(like.name)]
    csv.writer(text, delimiter=delimiter, lineterminator=end).writerows(rows)
    return text.getvalue()


def _line_end(text: str) -> str:
    return "\r\n" if "\r\n" in text else "\n" if "\n" in text or "\r" not in text else "\r"


def _bare(encoding: str, file: Path) -> str:
    """The encoding of what follows in a file that has begun: without a mark of its byte order."""
    name = codecs.lookup(encoding).name
    if name == "utf-8-sig":
        return "utf-8"
    if name not in ("utf-16", "utf-32"):
        return name
    with _opened(file) as content:
        start = content.read(4)
    return f"{name}-{'be' if start.startswith((codecs.BOM_UTF16_BE, codecs.BOM_UTF32_BE)) else 'le'}"


def _add_text(new: Path, like: Path, text: str, how: Reading) -> None:
    """Add the text to `new`, which is a copy of `like` or new and goes by its way of writing."""
    begun = new.exists()
    encoding = _bare(how.encoding, like) if begun else how.encoding
    try:
        if begun and (tail := _tail(like)) and not tail.endswith(tuple(mark.encode(encoding) for mark in "\n\r")):
            text = f"{_line_end(text)}{text}"
        if like.name.lower().endswith(".gz"):
            with new.open("ab") as raw, gzip.GzipFile(filename="", mode="wb", fileobj=raw, mtime=0) as packed:
                packed.write(text.encode(encoding))
            return
        with new.open("ab") as content:
            content.write(text.encode(encoding))
    except UnicodeEncodeError as error:
        what = f"{error.object[error.start : error.end]!r} cannot be written in {how.encoding}, as {like.name} is"
        raise UserError(what, "take it out of the new rows, or change the file and its encoding to utf-8") from error


def _tail(file: Path) -> bytes:
    """The last bytes of what the file says; of a packed one all has to be unpacked for that."""
    with _opened(file) as content:
        if isinstance(content, gzip.GzipFile):
            tail = b""
            while block := content.read(_BLOCK):
                tail = (tail + block)[-_TAIL:]
            return tail
        content.seek(max(0, content.seek(0, io.SEEK_END) - _TAIL))
        return content.read()


def _opened(file: Path) -> gzip.GzipFile | io.BufferedReader:
    return gzip.open(file, "rb") if file.name.lower().endswith(".gz") else file.open("rb")
