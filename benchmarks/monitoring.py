"""`dovetail monitor` of ten million logged rows, in plain Parquet and in Delta tables: seconds and peak memory.

In a clone of this tree with iris in production. The log is written by the functions of the server's own; then
`dovetail monitor iris` looks at all of it. Exit code 1 when a target is missed.
"""

import argparse
import shutil
import sys
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
from pipeline import MODEL, Bench, environment
from predict import COLUMNS, run
from serving import promoted

from dovetail.serving.log import delta, merge
from dovetail.serving.log.segments import Segment

ROWS, AT_ONCE = 10_000_000, 500_000
SECONDS, MEGABYTES = 15.0, 1000.0


def logged(number: int, rows: int, end: datetime) -> pa.Table:
    """Rows as the log has them, answered in the hour before `end`."""
    random = np.random.default_rng(number)
    low, high = (4.3, 2.0, 1.0, 0.1), (7.9, 4.4, 6.9, 2.5)
    times = (np.sort(random.random(rows)) * 3.6e9).astype("int64") + int((end.timestamp() - 3600) * 1e6)
    return pa.table({
        "request_id": pa.array([f"{number:04}{row:012}" for row in range(rows)]),
        "row": pa.array(np.zeros(rows, "int32")),
        "time": pa.array(times, pa.timestamp("us", "UTC")),
        "version": pa.array(np.ones(rows, "int32")),
        "method": pa.array(["predict"] * rows),
        **{f"input.{n}": random.uniform(a, b, rows).round(1) for n, a, b in zip(COLUMNS, low, high, strict=True)},
        "prediction": random.choice(["setosa", "versicolor", "virginica"], rows),
        "probabilities": pa.nulls(rows, pa.list_(pa.float64())),
    })  # fmt: skip


def write(folder: Path, rows: int, *, as_delta: bool) -> None:
    """A log of `rows` rows of the last days, in files of half a million."""
    for number in range(max(1, rows // AT_ONCE)):
        end = datetime.now(UTC) - timedelta(hours=number + 1)
        table = logged(number, min(rows, AT_ONCE), end)
        if as_delta:
            delta.Tables(folder).append("predictions", "v1", table, ("benchmark", number + 1))
        else:
            segment = Segment("be", "v1", number + 1, number + 1, end - timedelta(hours=1), end)
            merge.write(folder / "predictions", segment, table)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a tenth of the rows")
    rows = ROWS // 10 if parser.parse_args().quick else ROWS
    met = True
    with tempfile.TemporaryDirectory(prefix="dovetail-bench-") as temporary:
        bench = Bench(Path(temporary), environment(Path(temporary, "home")))
        clone = promoted(bench)
        print(f"{rows:,} logged rows\n| log     | seconds | peak MB |\n|---------|---------|---------|")
        for as_delta in (False, True):
            folder = clone / "monitoring" / MODEL
            shutil.rmtree(folder, ignore_errors=True)
            write(folder, rows, as_delta=as_delta)
            found = run(bench, clone, "dovetail", "monitor", MODEL, codes=(0, 1))
            print(f"| {'Delta' if as_delta else 'Parquet':7} | {found.seconds:7.1f} | {found.peak:7.0f} |")
            met = met and found.seconds < SECONDS and found.peak < MEGABYTES
    print(f"target: under {SECONDS:.0f} s and {MEGABYTES:,.0f} MB")
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
