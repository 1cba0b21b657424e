"""`dovetail predict` against a bare loop of joblib and Polars: ten million iris rows, the same predictions.

In a clone of this tree with iris in production. Whole processes in turn: the bare loop, `--workers 1`, and for
comparison `--workers 2`; the peak memory is that of all processes of a command together. Memory is flat if ten times
the rows need no more of it. Exit code 1 when a target is missed; of a tenth of the rows starting is half of the time.
"""

import argparse
import contextlib
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import psutil
from pipeline import MODEL, Bench, environment
from serving import promoted

ROWS, PARTS = 10_000_000, 10
COLUMNS = ("sepal_length", "sepal_width", "petal_length", "petal_width")
SLOWER, LARGER = 1.3, 1.2  # than the bare loop; with ten times the rows
BARE = """
import sys
from pathlib import Path

import joblib
import polars as pl

model, data, out = sys.argv[1:4]
predictor = joblib.load(model)
Path(out).mkdir()
for part in sorted(Path(data).glob("*.parquet")):
    rows = pl.read_parquet(part)
    said = predictor.predict(rows.select(sys.argv[4:]).to_pandas())
    rows.with_columns(prediction=pl.Series(said)).write_parquet(Path(out, part.name))
"""


@dataclass(frozen=True)
class Run:
    """A command that was run."""

    seconds: float
    peak: float  # MB


def written(folder: Path, rows: int, parts: int) -> Path:
    """Parts of rows like iris's."""
    folder.mkdir()
    random = np.random.default_rng(0)
    for number in range(parts):
        size = rows // parts
        low, high = (4.3, 2.0, 1.0, 0.1), (7.9, 4.4, 6.9, 2.5)
        values = {n: random.uniform(a, b, size).round(1) for n, a, b in zip(COLUMNS, low, high, strict=True)}
        ids = np.arange(number * size, (number + 1) * size)
        pl.DataFrame({"id": ids, **values}).write_parquet(folder / f"part-{number:03}.parquet")
    return folder


def run(bench: Bench, clone: Path, *command: str, codes: tuple[int, ...] = (0,)) -> Run:
    """Run a command to its end; its time, and the most memory that its processes had together."""
    began, peak = time.perf_counter(), 0
    process = subprocess.Popen(command, cwd=clone, env=bench.env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    tree = psutil.Process(process.pid)
    while process.poll() is None:
        with contextlib.suppress(psutil.Error):
            peak = max(peak, sum(one.memory_info().rss for one in (tree, *tree.children(recursive=True))))
        time.sleep(0.05)
    said = process.stderr.read().decode() if process.stderr else ""
    if process.returncode not in codes or (process.returncode and said):
        sys.exit(f"{' '.join(command)}: {said}")
    return Run(time.perf_counter() - began, peak / 1e6)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a tenth of the rows")
    quick = parser.parse_args().quick
    rows = ROWS // 10 if quick else ROWS
    with tempfile.TemporaryDirectory(prefix="dovetail-bench-") as temporary:
        folder = Path(temporary)
        bench = Bench(folder, environment(folder / "home"))
        clone = promoted(bench)
        data, few = written(folder / "data", rows, PARTS), written(folder / "few", rows // 10, 1)
        ours = ("dovetail", "predict", f"{MODEL}@production", "--data")
        run(
            bench, clone, *ours, str(few), "--out", str(folder / "warm"), "--workers", "1"
        )  # the version's copy is there
        bare = run(bench, clone, sys.executable, "-c", BARE, f"models/{MODEL}.joblib", str(data), str(folder / "bare"),
                   *COLUMNS)  # fmt: skip
        small = run(bench, clone, *ours, str(few), "--out", str(folder / "small"), "--workers", "1")
        one = run(bench, clone, *ours, str(data), "--out", str(folder / "one"), "--workers", "1")
        two = run(bench, clone, *ours, str(data), "--out", str(folder / "two"), "--workers", "2")
        expected, *others = (pl.read_parquet(folder / name / "*.parquet") for name in ("bare", "one", "two"))
        same = all(expected.equals(other) for other in others)
    ratio, growth = one.seconds / bare.seconds, one.peak / small.peak
    print(f"{rows:,} rows, {PARTS} parts; the same predictions: {same}")
    print(f"| {'command':30} | seconds | ratio | peak MB |\n|{'-' * 32}|---------|-------|---------|")
    for name, found in (("joblib + Polars", bare), ("predict --workers 1", one), ("predict --workers 2", two),
                        (f"predict of {rows // 10:,} rows", small)):  # fmt: skip
        print(f"| {name:30} | {found.seconds:7.1f} | {found.seconds / bare.seconds:5.2f} | {found.peak:7.0f} |")
    print(
        f"--workers 1 / bare {ratio:.2f} (target {SLOWER}); memory of ten times the rows {growth:.2f} (target {LARGER})"
    )
    return 0 if same and (quick or ratio <= SLOWER) and growth <= LARGER else 1


if __name__ == "__main__":
    sys.exit(main())
