"""`dovetail serve --workers 2` against `--workers 1`: a model whose prediction costs more than all around it.

A support vector machine that keeps its 12,000 rows: half a millisecond of one core for a row, ten times that for ten.
A request of ten rows is what the target is for: nearly all of its time is the model's. One of a single row is shown
beside it, and for both what each process spends on a request, and the ratio that two cores allow at most: with one
worker the front and the clients have the second core to themselves, with two they take theirs from the workers.
(Where sixteen rows cost hardly more than one, as in a matrix product, one worker gathers larger batches, and a second
one brings little or costs.) Both servers in turn, round by round, a ratio for each pair: requests a second on 16
connections. Then requests at half of the highest rate that two workers reached, whoever waits: p99 against p50, the
median of several windows, for a stall of the machine is one window's. Last what a process costs in memory. Exit code 1
when a target is missed. On a machine whose cores others use the ratio is of what was left.
"""

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
import time
from dataclasses import astuple, dataclass
from pathlib import Path

import numpy as np
import psutil
import uvloop
from pipeline import Bench, environment
from serving import load, running

FASTER, TAIL = 1.6, 3.0
ROWS = 10  # of a request whose time is the model's
COLUMNS = [f"x{number}" for number in range(20)]
FILES = {
    "train.py": """
import joblib, json, numpy, pandas
from sklearn.svm import SVC
random = numpy.random.default_rng(0)
rows = pandas.DataFrame(random.normal(size=(12_000, 20)), columns=[f"x{n}" for n in range(20)])
joblib.dump(SVC(gamma=1.0, cache_size=800).fit(rows, random.random(len(rows)) < 0.5), "m.joblib")
inputs = [{"name": name, "dtype": "float64", "nullable": False} for name in rows]
example = {"columns": list(rows), "data": rows.head(2).values.tolist()}
json.dump({"inputs": inputs, "output": {"dtype": "bool"}, "example": example}, open("card.json", "w"))
""",
    "dvc.yaml": """
stages:
  train: {cmd: python train.py, deps: [train.py], outs: [m.joblib, card.json]}
  register:
    cmd: dovetail register m
    deps: [m.joblib, card.json]
    outs: [{mlruns/receipts/m.json: {cache: false}}]
artifacts:
  m: {path: m.joblib, type: model, meta: {card: card.json}}
""",
    ".gitignore": "/mlflow.db*\n/mlruns/\n/monitoring/\n",
}


def registered(bench: Bench) -> Path:
    project = bench.folder / "vectors"
    project.mkdir()
    for name, text in FILES.items():
        (project / name).write_text(text)
    bench.commit(project)
    bench.run(project, "dvc", "repro")
    bench.run(project, "git", "add", "-A")
    bench.run(project, "git", "commit", "-qm", "registered")
    return project


def body(rows: int) -> bytes:
    data = np.random.default_rng(1).normal(size=(rows, len(COLUMNS))).tolist()
    return json.dumps({"dataframe_split": {"columns": COLUMNS, "data": data}}).encode()


@dataclass(frozen=True)
class Spent:
    """Milliseconds of a core for one request."""

    model: float
    front: float
    client: float

    def most(self, cores: int = 2) -> float:
        """How much faster two workers can be than one, where nothing else is to be done."""
        one = 1 / max(self.model, self.front + self.client)
        return min(2.0, cores / (self.model + self.front + self.client) / one)


def spent(port: int, content: bytes, requests: int) -> tuple[float, Spent]:
    """Requests a second, and what one costs each process."""
    parts = processes(port)
    before, mine = [sum(part.cpu_times()[:2]) for part in parts], time.process_time()
    rate = load(port, content, connections=16, requests=requests).per_second
    mine = time.process_time() - mine
    used = [sum(part.cpu_times()[:2]) - began for part, began in zip(parts, before, strict=True)]
    return rate, Spent(*(seconds / requests * 1000 for seconds in (sum(used[1:]), used[0], mine)))


def processes(port: int) -> list[psutil.Process]:
    """The server on that port, first, and all that it started."""
    server = next(c.pid for c in psutil.net_connections("tcp") if c.laddr.port == port and c.status == "LISTEN")
    return [psutil.Process(server), *psutil.Process(server).children(recursive=True)]


@dataclass(frozen=True)
class Tail:
    """Milliseconds in which half of the requests were answered, and all but one of a hundred."""

    p50: float
    p99: float

    @classmethod
    def of(cls, seconds: list[float]) -> "Tail":
        times = sorted(seconds)
        return cls(times[len(times) // 2] * 1000, times[int(len(times) * 0.99)] * 1000)

    @property
    def ratio(self) -> float:
        return self.p99 / self.p50


async def at_rate(port: int, content: bytes, rate: float, seconds: float) -> list[float]:
    """Seconds of each answer, from the moment at which its request was due."""
    loop, free, times = asyncio.get_running_loop(), asyncio.Queue(), []  # type: ignore[var-annotated]
    head = f"POST /invocations HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {len(content)}"
    for _ in range(32):
        free.put_nowait(await asyncio.open_connection("127.0.0.1", port))

    async def one(due: float) -> None:
        await asyncio.sleep(due - loop.time())
        reader, writer = await free.get()
        writer.write(head.encode() + b"\r\n\r\n" + content)
        answer = await reader.readuntil(b"\r\n\r\n")
        if not answer.startswith(b"HTTP/1.1 200"):
            raise RuntimeError(answer.decode())
        length = answer.lower().partition(b"content-length: ")[2].split(b"\r\n", 1)[0]
        await reader.readexactly(int(length))
        times.append(loop.time() - due)
        free.put_nowait((reader, writer))

    began = loop.time() + 0.1
    arrivals = np.cumsum(np.random.default_rng(2).exponential(1 / rate, int(rate * seconds)))
    await asyncio.gather(*(one(began + float(arrival)) for arrival in arrivals))
    return times


def memory(port: int) -> list[tuple[str, float, float]]:
    """Each process of the server on that port: what it runs, its own MiB, its MiB with what it shares."""
    found = []
    for process in processes(port):
        used = process.memory_full_info()
        module = next((part.rpartition(".")[2] for part in process.cmdline() if "dovetail.serving." in part), "server")
        found.append((f"{module} {process.name()}", used.uss / 2**20, used.rss / 2**20))
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one pair of few requests")
    quick = parser.parse_args().quick
    rounds, requests, windows, seconds = (1, 300, 1, 3) if quick else (5, 2000, 5, 10)
    per_second: dict[tuple[int, int], list[float]] = {(rows, workers): [] for rows in (1, ROWS) for workers in (1, 2)}
    costs: dict[int, list[Spent]] = {1: [], ROWS: []}
    with tempfile.TemporaryDirectory(prefix="dovetail-bench-") as folder:
        bench = Bench(Path(folder), environment(Path(folder, "home")))
        project, content, port = registered(bench), body(1), 5270
        command = ("dovetail", "serve", "m@staging", "--port", "{port}", "--workers")
        for _ in range(rounds):
            for workers in (1, 2):
                port += 1
                with running(bench, project, (*command, str(workers)), port):
                    load(port, content, connections=16, requests=requests // 2)  # what is imported late is by then
                    for rows, cost in costs.items():
                        rate, each = spent(port, body(rows), max(300, requests // rows))
                        per_second[rows, workers].append(rate)
                        if workers == 2:
                            cost.append(each)
        port += 1
        with running(bench, project, (*command, "2"), port):
            highest = load(port, content, connections=16, requests=requests).per_second
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                tails = [Tail.of(runner.run(at_rate(port, content, highest / 2, seconds))) for _ in range(windows)]
            time.sleep(1.5)
            used = memory(port)
    tail = statistics.median(each.ratio for each in tails)
    for (rows, workers), rates in per_second.items():
        print(f"--workers {workers}, {rows} rows: {', '.join(f'{rate:.0f}' for rate in rates)} requests/s")
    for rows, cost in costs.items():
        pairs = [two / one for one, two in zip(per_second[rows, 1], per_second[rows, 2], strict=True)]
        faster = statistics.median(pairs)  # the last one is what counts
        each = Spent(*(statistics.median(values) for values in zip(*map(astuple, cost), strict=True)))
        print(
            f"{rows} rows: model {each.model:.2f} ms, front {each.front:.2f}, clients {each.client:.2f} for a request"
        )
        target = "" if rows == 1 else f"  >= {FASTER}x  {'met' if faster >= FASTER else 'MISSED'}"
        said = f"two workers / one: {faster:.2f}x of {', '.join(f'{p:.2f}' for p in pairs)}"
        print(f"{said}, at most {each.most():.2f}x on two cores{target}")
    found = ", ".join(f"{each.p99:.1f} / {each.p50:.1f}" for each in tails)
    met = "met" if tail <= TAIL else "MISSED"
    print(f"at {highest / 2:.0f} requests/s p99 / p50, ms: {found}: {tail:.2f}x  <= {TAIL}x  {met}")
    for what, own, rss in used:
        print(f"{what:40} {own:6.0f} MiB of its own, {rss:6.0f} with what it shares")
    return int(faster < FASTER or tail > TAIL)


if __name__ == "__main__":
    sys.exit(main())
