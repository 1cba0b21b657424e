"""The rows that a version is looked at by: those that it answered as a server, from the log, or those of a batch."""

import csv
import gzip
import shlex
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dovetail.errors import MissingFile, UserError, one_line
from dovetail.monitoring.baseline import MOST_ROWS
from dovetail.serving.batch.parts import Part, parts
from dovetail.serving.log import rows, served_rows
from dovetail.serving.log.location import Place
from dovetail.serving.log.rows import INPUT, PREDICTION
from dovetail.serving.log.sampling import draw
from dovetail.serving.log.served_rows import LABEL, Window
from dovetail.serving.protocol.csv_body import check_lengths, csv_rows
from dovetail.serving.protocol.refused import Refused
from dovetail.tracking.monitoring_runs import MonitoredVersion
from dovetail.values.scored import Scored

if TYPE_CHECKING:
    import pyarrow as pa

METHOD = "method"
_CSV_ROWS = 100_000  # read at a time


@dataclass(frozen=True, slots=True)
class Observed:
    """Rows, under the names that the prediction log gives to columns.

    Attributes:
        rows: How many there are; `table` has at most MOST_ROWS of them.
        labelled: Those whose label is known.
        absent: Why a column that the model takes may not be there.
    """

    rows: int
    table: "pa.Table"
    labelled: "pa.Table"
    absent: str


def logged(folder: Place, window: Window, inputs: Sequence[str]) -> Observed:
    """What a server answered in a window, of the prediction log in `folder`.

    Raises:
        OSError: when the prediction log cannot be read.
    """
    known = [*(INPUT + name for name in inputs), PREDICTION, METHOD]
    count = served_rows.count(folder, window)
    why = "not in the prediction log: left out by its configuration, or never sent" if count else "nothing was served"
    return Observed(
        rows=count,
        table=served_rows.sample(folder, window, known, MOST_ROWS),
        labelled=served_rows.labelled(folder, window, [PREDICTION, METHOD]),
        absent=why,
    )


def batch(data: Path, observed: MonitoredVersion, inputs: Sequence[str], texts: Collection[str] = ()) -> Observed:
    """The rows of a folder of parts, or of one, scored by the version or not yet.

    CSV does not say which columns are text: `texts` are, where 007 is no number, as `predict` reads what the model
    takes as text.

    Raises:
        UserError: when another version scored one.
        MissingFile: when there are none, or one cannot be read.
    """
    import pyarrow as pa

    found, _ = parts(data)
    count, tables, scored = 0, [], set()
    for part in found:
        said = _scored_by(data, part, observed)
        count += _count(part, texts)
        scored |= {part.name} if said else set()
    for part in found:
        named = {name: INPUT + name for name in inputs} | ({PREDICTION: PREDICTION} if part.name in scored else {})
        tables.append((part, named))
    drawn = list(draw(_tables(tables, texts), count, MOST_ROWS))
    empty = pa.table({LABEL: pa.nulls(0), PREDICTION: pa.nulls(0)})
    return Observed(count, rows.union(drawn), empty, f"not in {data}" if count else f"{data} has no rows")


def _scored_by(data: Path, part: Part, observed: MonitoredVersion) -> Scored | None:
    """Who scored a part; None where nobody did.

    Raises:
        UserError: when another version did.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    if part.is_csv:
        return None
    try:
        said = Scored.parse(pq.read_metadata(part.path).metadata)
    except (pa.ArrowException, OSError) as error:
        raise _unreadable(part, error) from error
    if said and (said.model, said.md5) != (observed.model, observed.md5):
        what = f"{part.path} was scored by {said.model}/{said.version} (md5 {said.md5})"
        mine = f"not by {observed.model}/{observed.version} (md5 {observed.md5})"
        raise UserError(
            f"{what}, {mine}", f"dovetail monitor {said.model}/{said.version} --data {shlex.quote(str(data))}"
        )
    return said


def _count(part: Part, texts: Collection[str]) -> int:
    """The rows of a part; of CSV each of them is found to be as long as the header.

    Raises:
        MissingFile: when one is not, or the part cannot be read.
    """
    import zlib

    import pyarrow.parquet as pq

    if not part.is_csv:
        return int(pq.read_metadata(part.path).num_rows)
    opening: Any = gzip.open if part.path.suffix.lower() == ".gz" else open
    try:
        with opening(part.path, "rt", encoding="utf-8-sig", newline="") as lines:
            rows_of_text = csv_rows(lines)
            check_lengths(rows_of_text, len(next(rows_of_text, [])))
    except Refused as error:
        raise _unreadable(part, error.message) from error
    except (OSError, EOFError, ValueError, csv.Error, zlib.error) as error:
        raise _unreadable(part, error) from error
    return sum(len(table) for table in _pieces(part, {}, texts))


def _tables(found: Sequence[tuple[Part, dict[str, str]]], texts: Collection[str]) -> Iterator["pa.Table"]:
    for part, named in found:
        yield from _pieces(part, named, texts)


def _pieces(part: Part, named: dict[str, str], texts: Collection[str]) -> Iterator["pa.Table"]:
    """The part piece by piece: the columns that are named, those that it has, under their new names.

    Raises:
        MissingFile: when it cannot be read.
    """
    import zlib

    import pyarrow as pa

    try:
        for table in _csv(part, texts) if part.is_csv else _parquet(part, named):
            there = [name for name in named if name in table.column_names]
            # Of no columns a table has no rows.
            chosen = table.select(there) if there else table.select(table.column_names[:1])
            yield chosen.rename_columns([named.get(name, f"other.{name}") for name in chosen.column_names])
    except (pa.ArrowException, OSError, EOFError, ValueError, zlib.error) as error:
        raise _unreadable(part, error) from error


def _parquet(part: Part, named: dict[str, str]) -> Iterator["pa.Table"]:
    import pyarrow.parquet as pq

    with pq.ParquetFile(part.path) as file:
        names = file.schema_arrow.names
        wanted = [name for name in names if name in named] or names[:1]
        for group in range(file.num_row_groups):
            yield file.read_row_group(group, columns=wanted)


def _csv(part: Part, texts: Collection[str]) -> Iterator["pa.Table"]:
    import pandas as pd
    import pyarrow as pa

    is_one = len(pd.read_csv(part.path, nrows=0).columns) == 1  # a blank line is a row there, as `predict` has it
    kinds = dict.fromkeys(texts, str)
    with pd.read_csv(part.path, chunksize=_CSV_ROWS, skip_blank_lines=not is_one, dtype=kinds) as pieces:
        for piece in pieces:
            yield pa.Table.from_pandas(piece, preserve_index=False)


def _unreadable(part: Part, error: Exception | str) -> MissingFile:
    return MissingFile(
        f"{part.path} cannot be read: {one_line(error)}", "repair it or take it away, then run the same command again"
    )
