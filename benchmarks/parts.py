"""A raw folder cleaned part by part on two processes against the one-process clean of the same rows in one file.

`python benchmarks/parts.py [--rows N] [--workers N]`: whole processes in turn, the median of their ratios; exits with 1
when a target is missed.
"""

import argparse
import hashlib
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import psutil
from cleaning import PARAMS, STAGE, Cost, _batch, _generate, _project  # the same rows, schema and script

ROUNDS = 3
PARTS = 10
PART_ROWS = 1_000_000


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--workers", type=int, default=2)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="dovetail-parts-") as folder:
        project = _project(Path(folder))
        per_part = asked.rows // PARTS
        _generate(project / "big.csv", per_part * PARTS)
        (project / "raw").mkdir()
        for number in range(PARTS):
            with (project / "raw" / f"{number}.csv").open("wb") as file:
                for start in range(0, per_part, PART_ROWS):
                    count = min(PART_ROWS, per_part - start)
                    _batch(number * per_part + start, count).write_csv(file, include_header=start == 0)
        whole, parts = [], []
        for _ in range(ROUNDS):
            (project / "params.yaml").write_text(PARAMS)
            whole.append(_run(project, "big.csv", 1))
            in_parts = PARAMS.replace("max_rejected: 0.01", f"max_rejected: 0.01, part_rows: {PART_ROWS}")
            (project / "params.yaml").write_text(in_parts)
            parts.append(_run(project, "raw", asked.workers))
            made = _digest(project / "big.parquet")
        _run(project, "raw", 1)
        same = made == _digest(project / "big.parquet")
    return _report(asked.rows, asked.workers, whole, parts, same=same)


def _run(project: Path, raw: str, workers: int) -> Cost:
    start, most = time.perf_counter(), 0
    command = [sys.executable, *STAGE, "--raw", raw]
    process = subprocess.Popen(command, cwd=project, env={**os.environ, "PARTS_WORKERS": str(workers)})
    ended = threading.Event()
    threading.Thread(target=lambda: (process.wait(), ended.set()), daemon=True).start()
    while not ended.wait(0.02):
        most = max(most, *_memory(process.pid))
    if process.returncode:
        raise SystemExit(f"{command} ended with exit code {process.returncode}")
    return Cost(time.perf_counter() - start, most / 1e9)


def _memory(pid: int) -> list[int]:
    found = [0, 0]
    try:
        own = psutil.Process(pid)
        found += [process.memory_info().rss for process in (own, *own.children(recursive=True))]
    except psutil.NoSuchProcess:
        pass
    return found


def _digest(folder: Path) -> str:
    parts = [hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())]
    return hashlib.sha256("".join(parts).encode()).hexdigest()


def _report(rows: int, workers: int, whole: list[Cost], parts: list[Cost], *, same: bool) -> int:
    def median(costs: list[Cost], of: str) -> float:
        return statistics.median(getattr(cost, of) for cost in costs)

    load = ", ".join(f"{number:.1f}" for number in os.getloadavg())
    print(f"{rows:,} rows, {workers} processes, {os.cpu_count()} cores, load {load}")
    for name, costs in (("one process, one file", whole), (f"{workers} processes, {PARTS} parts", parts)):
        each = ", ".join(f"{cost.seconds:.1f}" for cost in costs)
        print(
            f"{name:30} {median(costs, 'seconds'):7.2f} s {median(costs, 'memory'):6.2f} GB a process at most: {each}"
        )
    pairs = [one.seconds / other.seconds for one, other in zip(parts, whole, strict=True)]
    results = [
        ("time, in parts / one process", statistics.median(pairs), 1.2),
        ("memory of a process, GB", median(parts, "memory"), 0.7),
        ("bytes that depend on workers", float(not same), 0),
    ]
    for name, value, limit in results:
        print(f"{name:30} {value:7.2f}   at most {limit:<4}  {'ok' if value <= limit else 'MISSED'}")
    return int(any(value > limit for _, value, limit in results))


if __name__ == "__main__":
    sys.exit(main())
