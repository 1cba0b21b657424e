"""Adding rows to a file in its own format; its rows, columns and types stay as they are."""

import csv
import gzip
import io
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet

from dovetail.retraining.table_shape import DELIMITERS, PARQUET, plain_rows
from dovetail.values.tables import format_of


def append_rows(file: Path, rows: pa.Table) -> None:
    """Add `rows` to the end of `file`, which is replaced: the target of a link is not written to."""
    with _replacing(file) as new:
        if format_of(file.name) in PARQUET:
            _parquet(file, new, rows, keep=True)
        else:
            shutil.copyfile(file, new)
            _add_text(new, file.name, _text(file, rows))


def write_rows(file: Path, sample: Path, rows: pa.Table) -> None:
    """Write `rows` to the new file `file` in the format of `sample`."""
    with _replacing(file) as new:
        if format_of(file.name) in PARQUET:
            _parquet(sample, new, rows, keep=False)
        elif format_of(file.name) in DELIMITERS:
            _add_text(new, file.name, _csv_lines(sample, [list(rows.column_names)]) + _text(sample, rows))
        else:
            _add_text(new, file.name, _text(sample, rows))


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


def _text(file: Path, rows: pa.Table) -> str:
    if format_of(file.name) in DELIMITERS:
        return _csv_lines(file, [["" if v is None else v for v in row.values()] for row in plain_rows(rows)])
    return "".join(f"{json.dumps(row, ensure_ascii=False, default=str)}\n" for row in plain_rows(rows))


def _csv_lines(like: Path, rows: list[list[str]]) -> str:
    with _opened(like) as content:
        end = "\r\n" if content.readline().endswith(b"\r\n") else "\n"
    text = io.StringIO()
    csv.writer(text, delimiter=DELIMITERS[format_of(like.name)], lineterminator=end).writerows(rows)
    return text.getvalue()


def _add_text(file: Path, name: str, text: str) -> None:
    if name.lower().endswith(".gz"):
        with file.open("ab") as raw, gzip.GzipFile(filename="", mode="wb", fileobj=raw, mtime=0) as packed:
            packed.write(text.encode())
        return
    with file.open("ab+") as content:
        if content.tell() and not _ends_with_line(content):
            text = f"\n{text}"
        content.write(text.encode())


def _ends_with_line(content: io.BufferedRandom) -> bool:
    content.seek(-1, io.SEEK_END)
    return content.read() == b"\n"


def _opened(file: Path) -> gzip.GzipFile | io.BufferedReader:
    return gzip.open(file, "rb") if file.name.lower().endswith(".gz") else file.open("rb")
