"""Whether a cleaning script goes row by row, as it has to where each range is cleaned by itself: tried on some rows."""

import polars as pl

from stages.common.datasets import Dataset
from stages.common.errors import StageError
from stages.rows.script import Script

_TRIED = 1000  # rows


def refuse_beyond_rows(script: Script, dataset: Dataset, good: pl.LazyFrame) -> None:
    """Refuse a script that makes something else of rows when they come twice, or when the first comes alone.

    Raises:
        StageError: it does.
    """
    rows = good.head(_TRIED).collect()
    whole, alone, others, twice = (
        _cleaned(script, dataset, part) for part in (rows, rows[:1], rows[1:], pl.concat([rows, rows]))
    )
    if whole.schema == alone.schema == others.schema == twice.schema and (
        pl.concat([alone, others]).equals(whole) and pl.concat([whole, whole]).equals(twice)
    ):
        return
    raise StageError(
        f"{script.path} makes other rows of the same ones when they come apart or twice, as mean, sort and unique do; "
        "with clean.part_rows each range is cleaned by itself: let it go row by row, or leave part_rows out"
    )


def _cleaned(script: Script, dataset: Dataset, rows: pl.DataFrame) -> pl.DataFrame:
    try:
        return script(rows.lazy(), dataset.clean.engine).collect()
    except pl.exceptions.PolarsError as error:
        raise script.failed(error) from error
