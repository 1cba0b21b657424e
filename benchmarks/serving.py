"""`dovetail serve` against `mlflow models serve` and a bare FastAPI + joblib app: the same model, requests, one worker.

In a clone of this tree with iris in production. Each server in turn, in several rounds: seconds from the command to the
first answer, p50 of one row on one connection, requests a second on 16. Before anything is timed, all three have to
give the same answers. `dovetail serve` writes its prediction log meanwhile. Exit code 1 when a target is missed.
"""

import argparse
import asyncio
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import uvloop
from pipeline import HERE, MODEL, Bench, environment, this_tree

START_SECONDS = 120
COLUMNS = ("sepal_length", "sepal_width", "petal_length", "petal_width")
ROWS = [[5.1, 3.5, 1.4, 0.2], [6.0, 2.9, 4.5, 1.5], [6.3, 3.3, 6.0, 2.5]]
TARGETS = [("requests/s", 10.0, ">="), ("p50 ms", 0.5, "<="), ("ready s", 0.5, "<=")]
OURS, MLFLOW, BARE = "dovetail serve", "mlflow models serve", "FastAPI + joblib"


def promoted(bench: Bench) -> Path:
    clone = bench.clone(this_tree(bench))
    bench.run(clone, "dvc", "repro", f"register@{MODEL}")
    bench.run(clone, "git", "add", "-A")
    bench.run(clone, "git", "commit", "--allow-empty", "-qm", "served")
    bench.run(clone, "dovetail", "promote", MODEL)
    return clone


def commands() -> dict[str, tuple[str, ...]]:
    python = sys.executable
    return {
        OURS: ("dovetail", "serve", f"{MODEL}@production", "--port", "{port}"),
        MLFLOW: ("mlflow", "models", "serve", "-m", f"models:/{MODEL}@production", "-p", "{port}", "--env-manager",
                 "local", "--workers", "1"),
        BARE: (python, "-m", "uvicorn", "--app-dir", str(HERE / "handwritten"), "serve:app", "--port", "{port}",
               "--log-level", "warning"),
    }  # fmt: skip


@contextmanager
def running(bench: Bench, clone: Path, command: tuple[str, ...], port: int) -> Iterator[float]:
    """A server, and the seconds from its command to its first answer; ended with all that it started."""
    env = bench.env | {
        "MLFLOW_TRACKING_URI": f"sqlite:///{clone}/mlflow.db",
        "MODEL": str(clone / f"models/{MODEL}.joblib"),
    }
    began = time.perf_counter()
    process = subprocess.Popen(
        [part.format(port=port) for part in command], cwd=clone, env=env, stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    try:
        while True:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/ping", timeout=5) as answer:
                    answer.read()
                break
            except (urllib.error.URLError, ConnectionError, TimeoutError):
                if process.poll() is not None or time.perf_counter() - began > START_SECONDS:
                    sys.exit(f"{' '.join(command)} did not start")
                time.sleep(0.01)
        yield time.perf_counter() - began
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(30)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)


def body(rows: list[list[float]]) -> bytes:
    return json.dumps({"dataframe_split": {"columns": COLUMNS, "data": rows}}).encode()


def ask(port: int, content: bytes) -> object:
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/invocations", content, {"content-type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)


HEAD_END = b"\r\n\r\n"


@dataclass(frozen=True)
class Load:
    """What came of it: every answer had status 200."""

    seconds: float
    times: list[float]

    @property
    def per_second(self) -> float:
        return len(self.times) / self.seconds

    @property
    def p50_ms(self) -> float:
        return statistics.median(self.times) * 1000


def load(port: int, body: bytes, *, connections: int, requests: int) -> Load:
    """POST `body` to /invocations, `requests` times in all."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_load(port, body, connections, requests))


async def _load(port: int, body: bytes, connections: int, requests: int) -> Load:
    head = (
        f"POST /invocations HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n"
        f"content-length: {len(body)}\r\n\r\n"
    )
    work = _Work(head.encode() + body, requests, asyncio.get_running_loop().create_future())
    began = time.perf_counter()
    await asyncio.gather(
        *(asyncio.get_running_loop().create_connection(lambda: _Client(work), "127.0.0.1", port)
          for _ in range(connections))
    )  # fmt: skip
    await work.done
    return Load(time.perf_counter() - began, work.times)


class _Work:
    def __init__(self, request: bytes, left: int, done: "asyncio.Future[None]") -> None:
        self.request = request
        self.left = left
        self.unanswered = left
        self.done = done
        self.times: list[float] = []


class _Client(asyncio.Protocol):
    def __init__(self, work: _Work) -> None:
        self._work = work
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._ask()

    def _ask(self) -> None:
        if not self._work.left:
            self._transport.close()
            return
        self._work.left -= 1
        self._began = time.perf_counter()
        self._transport.write(self._work.request)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, end, body = self._buffer.partition(HEAD_END)
        if not end:
            return
        if not head.startswith(b"HTTP/1.1 200"):
            self._work.done.set_exception(RuntimeError(self._buffer.decode()))
            return
        lower = head.lower()
        at = lower.index(b"content-length:") + len(b"content-length:")
        if len(body) < int(lower[at:].split(b"\r\n", 1)[0]):
            return
        self._buffer = b""
        self._work.times.append(time.perf_counter() - self._began)
        self._work.unanswered -= 1
        if not self._work.unanswered and not self._work.done.done():
            self._work.done.set_result(None)
        self._ask()

    def connection_lost(self, error: Exception | None) -> None:
        if self._work.unanswered and not self._work.done.done() and self._work.left:
            self._work.done.set_exception(error or ConnectionError("the server closed a connection"))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one round of few requests")
    quick = parser.parse_args().quick
    rounds, alone, crowd = (1, 100, 500) if quick else (3, 1000, {OURS: 20_000, MLFLOW: 2_000, BARE: 2_000})
    found: dict[str, dict[str, list[float]]] = {}
    answers: dict[str, object] = {}
    with tempfile.TemporaryDirectory(prefix="dovetail-bench-") as folder:
        bench = Bench(Path(folder), environment(Path(folder, "home")))
        clone = promoted(bench)
        port = 5170
        for number in range(rounds + 1):  # the first fills the bytecode caches and `dovetail serve`'s copy of the model
            for name, command in commands().items():
                port += 1
                with running(bench, clone, command, port) as ready:
                    answers[name] = ask(port, body(ROWS))
                    if any(answer != answers[name] for answer in answers.values()):
                        sys.exit(f"not the same answers: {answers}")
                    if number == 0:
                        continue
                    load(port, body(ROWS[:1]), connections=4, requests=100)
                    one = load(port, body(ROWS[:1]), connections=1, requests=alone)
                    many = load(port, body(ROWS[:1]), connections=16,
                                requests=crowd if isinstance(crowd, int) else crowd[name])  # fmt: skip
                    times = found.setdefault(name, {"requests/s": [], "p50 ms": [], "ready s": []})
                    times["requests/s"].append(many.per_second)
                    times["p50 ms"].append(one.p50_ms)
                    times["ready s"].append(ready)
    missed = 0
    for what, target, relation in TARGETS:
        medians = {name: statistics.median(times[what]) for name, times in found.items()}
        for name, times in found.items():
            print(f"{what:11} {name:20} {medians[name]:9.2f}  of {', '.join(f'{t:.2f}' for t in times[what])}")
        ratio = medians[OURS] / medians[MLFLOW]
        met = ratio >= target if relation == ">=" else ratio <= target
        missed += not met
        bare = medians[OURS] / medians[BARE]
        print(f"{what:11} {OURS} / {MLFLOW} {ratio:.2f}x  {relation} {target}x  {'met' if met else 'MISSED'}; "
              f"/ {BARE} {bare:.2f}x")  # fmt: skip
    return int(missed > 0)


if __name__ == "__main__":
    sys.exit(main())
