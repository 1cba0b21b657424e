"""Deliver cleaned data to where its readers want it: files and tables, each replaced in one step."""

import hashlib
from pathlib import Path

import polars as pl

from stages.common.datasets import Delivery
from stages.common.errors import StageError
from stages.common.outputs import write_json
from stages.common.params import Params, block
from stages.data.urls import fill
from stages.delivery.content import Content
from stages.delivery.delta_table import to_delta_table
from stages.delivery.file import to_file
from stages.delivery.sql_table import to_table


def run(key: str, params: Params, *, clean: Path, receipt: Path) -> None:
    """Deliver `clean` to each target in turn; one that has it already is left alone.

    Args:
        key: the dataset.
        params: its `deliver` entries.
        clean: the cleaned Parquet.
        receipt: what is where: targets, digests, rows. Written once all are delivered.

    Raises:
        StageError: on an entry that cannot work; targets before it stay delivered.
        OutsideError: if a target cannot be reached or written.
    """
    entries = block("datasets", params.datasets, key).deliver
    if not clean.exists():
        raise StageError(f"{clean} is missing; make it: dvc repro clean@{key}")
    data = _digest_of_rows(clean)
    rows = int(pl.scan_parquet(clean, glob=False).select(pl.len()).collect().item())
    targets = []
    for number, entry in enumerate(entries):
        written = entry.model_dump_json(exclude={"delta"} if entry.delta is None else set())  # as before it was there
        digest = hashlib.sha256((data + written).encode()).hexdigest()
        content = Content(clean, rows, digest, f"datasets.{key}.deliver.{number}")
        targets.append({"target": _deliver(entry, content), "digest": digest, "rows": rows})
    write_json(receipt, {"dataset": key, "targets": targets})


def _digest_of_rows(clean: Path) -> str:
    """Of the file's bytes; of a folder's parts, their names and their bytes."""
    if clean.is_dir():
        parts = "".join(f"{_digest_of_rows(part)}  {part.name}\n" for part in sorted(clean.iterdir()))
        return hashlib.sha256(parts.encode()).hexdigest()
    with clean.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _deliver(entry: Delivery, content: Content) -> str:
    """Deliver, and say where to in words without secrets."""
    if entry.path is not None:
        to_file(Path(entry.path), content)
        return entry.path
    if entry.delta is not None:
        to_delta_table(Path(entry.delta), content)
        return entry.delta
    address = fill(entry.url, f"{content.place}.url")
    to_table(str(entry.table), address, content)
    return f"{address.shown} {entry.table}"
