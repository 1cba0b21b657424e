"""Which files hold rows, told by their names: what is no table is known without the libraries that read one."""

from pathlib import PurePosixPath

ROWS = frozenset({".parquet", ".pq", ".arrow", ".feather", ".csv", ".tsv", ".jsonl", ".ndjson"})
SHEETS = (".xlsx", ".xls", ".xlsb", ".ods")


def is_table(name: str) -> bool:
    """Whether a file that is called so holds rows."""
    return format_of(name) in ROWS


def is_sheet(name: str) -> bool:
    """Whether a file that is called so is one of Excel's kind, whose rows `tables.open_table` reads as well."""
    return format_of(name) in SHEETS


def format_of(name: str) -> str:
    """The ending that says how a file is written, that of compression left out."""
    return PurePosixPath(name.lower().removesuffix(".gz")).suffix
