"""The clean stage with validation against a bare Polars script that cleans alike and validates nothing.

`python benchmarks/cleaning.py [--rows N]`: whole processes in turn, medians; exits with 1 when a target is missed.
"""

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import polars as pl

ROOT = Path(__file__).resolve().parents[1]
ROUNDS = 5
BATCH = 1_000_000  # rows generated at a time

PARAMS = """\
sources: {}
datasets:
  big:
    raw: big.csv
    schema:
      columns:
        id: {dtype: int64, checks: {ge: 0}}
        name: {dtype: str, nullable: true, checks: {str_length: {min_value: 1, max_value: 10}}}
        age: {dtype: int64, nullable: true, checks: {in_range: {min_value: 0, max_value: 130}}}
        score: {dtype: float64, checks: {in_range: {min_value: 0, max_value: 1}}}
        amount: {dtype: float64, nullable: true, checks: {ge: 0}}
        day: {dtype: date}
    clean: {max_rejected: 0.01}
    deliver: []
models: {}
"""

SCRIPT = """\
import narwhals as nw


def clean(frame: nw.LazyFrame) -> nw.LazyFrame:
    group = nw.when(nw.col("age") < 30).then(nw.lit("young")).otherwise(nw.lit("adult"))
    return frame.drop_nulls().with_columns(age_group=group)
"""

BARE = """\
import sys

import polars as pl

types = {"id": pl.Int64, "name": pl.String, "age": pl.Int64, "score": pl.Float64, "amount": pl.Float64, "day": pl.Date}
group = pl.when(pl.col("age") < 30).then(pl.lit("young")).otherwise(pl.lit("adult"))
rows = pl.scan_csv(sys.argv[1], schema_overrides=types)
rows.drop_nulls().with_columns(age_group=group).sink_parquet(sys.argv[2])
"""

STAGE = (
    "src/stages",
    "clean",
    "big",
    "--clean",
    "big.parquet",
    "--rejected",
    "rejected.parquet",
    "--metrics",
    "m.json",
)


@dataclass(frozen=True)
class Cost:
    """What a run took: wall time in seconds, and the most that one process had in memory, in GB."""

    seconds: float
    memory: float


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=10_000_000)
    rows = parser.parse_args().rows
    with tempfile.TemporaryDirectory(prefix="dovetail-cleaning-") as folder:
        project = _project(Path(folder))
        _generate(project / "big.csv", rows)
        bare, ours = [], []
        for _ in range(ROUNDS):
            bare.append(_run(project, "bare.py", "big.csv", "bare.parquet"))
            ours.append(_run(project, *STAGE, "--raw", "big.csv"))
        _generate(project / "large.csv", 4 * rows)
        large = [_run(project, *STAGE, "--raw", "large.csv") for _ in range(2)]
    return _report(rows, _median(bare), _median(ours), _median(large))


def _project(folder: Path) -> Path:
    """The smallest project with our stages in it."""
    shutil.copytree(ROOT / "src" / "stages", folder / "src" / "stages", ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "src" / "stages" / "cleaning" / "big.py").write_text(SCRIPT)
    (folder / "params.yaml").write_text(PARAMS)
    (folder / "bare.py").write_text(BARE)
    return folder


def _generate(path: Path, rows: int) -> None:
    """People with a score and an amount: 2 % without an age, 1 % without an amount, 1 in 10,000 impossibly old."""
    path.unlink(missing_ok=True)
    with path.open("ab") as file:
        for start in range(0, rows, BATCH):
            batch = _batch(start, min(BATCH, rows - start))
            batch.write_csv(file, include_header=start == 0)


def _batch(start: int, rows: int) -> pl.DataFrame:
    number = pl.int_range(start, start + rows, eager=True)
    draw = [number.hash(seed) for seed in range(6)]
    age = pl.when(draw[0] % 10_000 == 0).then(999).when(draw[1] % 50 == 0).then(None).otherwise(draw[0] % 100)
    amount = pl.when(draw[2] % 100 == 0).then(None).otherwise(draw[3] % 1_000_000 / 100)
    day = pl.date(2020, 1, 1) + pl.duration(days=draw[4] % 1826)
    return pl.select(
        id=number,
        name="name" + (draw[5] % 5000).cast(pl.String),
        age=age,
        score=draw[1] % 10_000 / 10_000,
        amount=amount,
        day=day,
    )


def _run(project: Path, *args: str) -> Cost:
    start = time.perf_counter()
    process = subprocess.Popen([sys.executable, *args], cwd=project)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{args} ended with exit code {process.returncode}")
    return Cost(seconds, usage.ru_maxrss / (1e9 if sys.platform == "darwin" else 1e6))


def _median(costs: list[Cost]) -> Cost:
    return Cost(statistics.median(c.seconds for c in costs), statistics.median(c.memory for c in costs))


def _report(rows: int, bare: Cost, ours: Cost, large: Cost) -> int:
    results = [
        ("time, ours / bare Polars", ours.seconds / bare.seconds, 1.5),
        ("peak memory of ours, GB", ours.memory, 0.6),
        ("time, 4x the rows / 1x", large.seconds / ours.seconds, 4.4),
        ("peak memory, 4x / 1x", large.memory / ours.memory, 1.2),
    ]
    for name, cost in (
        (f"bare Polars, {rows:,} rows", bare),
        (f"clean, {rows:,} rows", ours),
        (f"clean, {4 * rows:,} rows", large),
    ):
        print(f"{name:30} {cost.seconds:7.2f} s {cost.memory:6.2f} GB")
    for name, value, limit in results:
        print(f"{name:30} {value:7.2f}   at most {limit:<4}  {'ok' if value <= limit else 'MISSED'}")
    return int(any(value > limit for _, value, limit in results))


if __name__ == "__main__":
    sys.exit(main())
