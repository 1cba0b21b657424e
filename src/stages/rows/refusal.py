"""Why so many rows are rejected: each reason with a few of its rows, and what to do about them."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import polars as pl
import polars.selectors as cs

from stages.common.datasets import Dataset
from stages.common.errors import StageError
from stages.common.missing_words import is_missing_word
from stages.data.raw_file import CSV, Raw, by_name
from stages.rows.kernel import Counts
from stages.validation.validate import Validated

_LOOKED_AT = 10_000  # rejected rows, for a remedy
_OF_NO_NUMBER = ("str", "bool", "date")
_WRITTEN_OTHERWISE = r"^\s*[+-]?\d{1,3}([., '_]\d{3})*([.,]\d+)?\s*$"  # than Python does: `1.234,56`, `1,000`
_EXAMPLES = 3  # rows named per broken rule


@dataclass(frozen=True)
class Rejected:
    """Rejected rows in their file, or in a folder of parts.

    Attributes:
        path: the file or folder.
        columns: those of the raw file.
        row: the column with the row's number.
        reason: the column with the reason.
        column_of: the column that a reason is about.
    """

    path: Path
    columns: tuple[str, ...]
    row: str
    reason: str
    column_of: Mapping[str, str]

    @classmethod
    def of(cls, path: Path, validated: Validated) -> Self:
        """Those that were written to `path`."""
        column_of = {rule.reason: rule.column for rule in validated.rules}
        return cls(path, validated.columns, validated.row, validated.reason, column_of)


def refuse_too_many(key: str, dataset: Dataset, raw: Raw, rejected: Rejected, counts: Counts) -> None:
    """Raise a StageError where more rows are rejected than the dataset allows."""
    limit = dataset.clean.max_rejected
    if not counts.rejected or counts.rejected / counts.rows <= limit:  # 0.29 * 100 is less than 29
        return
    broken = "; ".join(
        f"{reason} broken by {n} ({_examples(rejected, reason)})"
        for reason, n in sorted(counts.reasons.items(), key=lambda item: -item[1])
    )
    raise StageError(
        f"{raw.path}: {counts.rejected} of {counts.rows} rows are rejected, more than "
        f"datasets.{key}.clean.max_rejected = {limit}: {broken}; {_remedy(dataset, raw, rejected)}"
    )


def _remedy(dataset: Dataset, raw: Raw, rejected: Rejected) -> str:
    """What to do about the rejected rows: a setting where their values say that one is missing."""
    usual = "correct the file, the schema or the limit"
    named = dataset.schema_.columns
    names = [name for name in rejected.columns if name in named]
    inner = {name: str(number) for number, name in enumerate(names)}
    head = (
        pl.scan_parquet(rejected.path, glob=False)
        .select(by_name(name).alias(to) for name, to in inner.items())
        .head(_LOOKED_AT)
    )
    text = head.collect().select(cs.string())
    words = sorted({value for column in text for value in column.unique().drop_nulls() if is_missing_word(value)})
    if raw.kind == CSV and words:
        null_values = [*raw.form.null_values, *words]
        return f"if {words[0]!r} means missing, set {raw.form.place}.null_values to {null_values}; or {usual}"
    numeric = [inner[name] for name in names if not named[name].dtype.startswith(_OF_NO_NUMBER)]
    if raw.kind == CSV and any(
        text[name].str.contains(_WRITTEN_OTHERWISE).any() for name in numeric if name in text.columns
    ):
        return f"if numbers are written so, set {raw.form.place}.decimal and .thousands; or {usual}"
    return usual


def _examples(rejected: Rejected, reason: str) -> str:
    rows = pl.scan_parquet(rejected.path, glob=False).filter(pl.col(rejected.reason).str.contains(reason, literal=True))
    value = by_name(rejected.column_of[reason]).alias("value")
    few = rows.select(pl.col(rejected.row).alias("row"), value).head(_EXAMPLES).collect()
    return ", ".join(f"row {row}: {value!r:.40}" for row, value in few.iter_rows())
