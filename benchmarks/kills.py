"""What kills leave of `dovetail repro`: real processes, at random moments, and what differs from `dvc repro` then.

    python benchmarks/kills.py [--kills 200] [--seed 0]

A round kills a few runs in turn, each at a random moment: the coordinator, the process that runs a stage with all that
it has started, a stage's command alone, or a worker of a Dask cluster. Then a run is let end. What must hold then:
every file is what `dvc repro` makes, DVC's run-cache has the same entries, every file in DVC's cache is what its name
says, and nothing of the killed runs is left, no file and no process.
"""

import argparse
import hashlib
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

FILES = {
    "src": "1\n",
    "dvc.yaml": """
stages:
  make:
    foreach: [0, 1, 2]
    do: {cmd: "sleep 0.1; cat src > a${item}; sleep 0.1; cat src >> a${item}", deps: [src], outs: ["a${item}"]}
  parts:
    foreach: [0, 1, 2]
    do:
      cmd: mkdir -p p${item}; for n in 1 2 3 4 5; do cat a${item} > p${item}/$n; sleep 0.03; done
      deps: ["a${item}"]
      outs: ["p${item}"]
  score: {cmd: 'sleep 0.1; wc -c < a0 > score.json', deps: [a0], metrics: [{score.json: {cache: false}}]}
  here: {cmd: sleep 0.2; cat a1 > here, deps: [a1], outs: [{here: {cache: false}}]}
  end:
    cmd: cat p0/* p1/* p2/* here score.json > end
    deps: [p0, p1, p2, here, score.json]
    outs: [end]
""",
}
KINDS = ("coordinator", "stage process", "command", "worker")


def run(folder, *command, code=0):
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert code is None or done.returncode == code, (
        f"{command} ended with {done.returncode}: {done.stdout}{done.stderr}"
    )
    return done.stdout


def below(process):
    """The processes that a process has started, and those that they have, the nearest first."""
    parents = {}
    for line in run("/", "ps", "-eo", "pid=,ppid=").splitlines():
        child, parent = map(int, line.split())
        parents.setdefault(parent, []).append(child)
    found = [process]
    for known in found:
        found += parents.get(known, [])
    return found[1:]


class Cluster:
    """A scheduler and workers of one thread; a worker that is killed is replaced."""

    def __init__(self, place):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.address = f"tcp://127.0.0.1:{free.getsockname()[1]}"
        self._log = (place / "cluster.log").open("w")
        self._place = place
        self._scheduler = self._start("scheduler", "--host", "127.0.0.1", "--port", self.address.rpartition(":")[2])
        self.workers = [self._worker(), self._worker()]

    def _start(self, *arguments):
        command = ["dask", *arguments, "--no-dashboard"]
        return subprocess.Popen(command, cwd=self._place, stdout=self._log, stderr=self._log, start_new_session=True)

    def _worker(self):
        return self._start("worker", self.address, "--nthreads", "1", "--no-nanny")

    def kill_one(self, drawn):
        victim = drawn.randrange(len(self.workers))
        self.workers[victim].kill()
        self.workers[victim].wait()
        self.workers[victim] = self._worker()

    def close(self):
        for process in (*self.workers, self._scheduler):
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        self._log.close()


def kill(running, kind, cluster, drawn):
    """Kill something of the run; returns whether there was something to kill."""
    if running.poll() is not None:
        return False
    if kind == "coordinator":
        running.kill()
    elif kind == "worker":
        cluster.kill_one(drawn)
    else:
        found = [child for child in below(running.pid) if Path(f"/proc/{child}").exists()]
        groups = [child for child in found if group_of(child) == child]
        commands = [child for child in found if child not in groups]
        if not (chosen := groups if kind == "stage process" else commands):
            return False
        victim = drawn.choice(chosen)
        with suppress(OSError):
            os.killpg(victim, signal.SIGKILL) if kind == "stage process" else os.kill(victim, signal.SIGKILL)
    return True


def group_of(process):
    try:
        return os.getpgid(process)
    except ProcessLookupError:
        return None


def files(folder):
    """Every file of the working tree, and what DVC's run-cache and lists hold, by path."""
    found = (file for file in sorted(folder.rglob("*")) if file.is_file() and ".git" not in file.parts)
    tree = {str(file.relative_to(folder)): file.read_bytes() for file in found}
    return {name: content for name, content in tree.items() if not name.startswith((".dvc/tmp", ".dvc/cache/files"))}


def differences(side, plain):
    """What is not as `dvc repro` leaves it, a line each."""
    ours, theirs = files(side), files(plain)
    for name in sorted({*ours, *theirs}):
        if ours.get(name) != theirs.get(name):
            one, other = (
                f"{had[:400]!r}" if (had := found.get(name)) is not None else "nothing" for found in (ours, theirs)
            )
            yield f"{name}: {one} in place of {other}"
    for file in (side / ".dvc/cache/files/md5").rglob("*"):
        digest = f"{file.parent.name}{file.name}".removesuffix(".dir")
        if not file.is_file() or (file.name.endswith(".tmp") and file.read_bytes() in (b"", b"test")):
            continue  # DVC tries links with it: a killed `dvc repro` leaves one, too, and `dovetail gc` takes it
        if hashlib.md5(file.read_bytes()).hexdigest() != digest:
            yield f"{file.relative_to(side)} is half written"
    yield from (f"left: {path.relative_to(side)}" for path in (side / ".dvc/tmp/repro").glob("*") if path.is_dir())
    for line in run("/", "ps", "-eo", "pid=,args=").splitlines():
        pid = line.split()[0]
        with suppress(OSError):
            if (place := Path(f"/proc/{pid}/cwd").readlink()).is_relative_to(side):
                yield f"left: process {line.strip()}, in {place}"
    if (file := side / ".dvc/tmp/rwlock").is_file():  # of those that are dead DVC takes no notice
        dead_or_alive = re.findall(r'"pid": (\d+)', file.read_text())
        yield from (f"left: rwlock of {pid}" for pid in dead_or_alive if Path(f"/proc/{pid}").exists())
    yield from (f"left: {path.name}" for path in (side / ".dvc/tmp").glob("repro.unf*"))


def show_kills(place, kills, seed=0):
    drawn = random.Random(seed)
    folder = place / "kills"
    folder.mkdir()
    run(folder, "git", "init", "-q")
    run(folder, "dvc", "init", "-q")
    for path, text in FILES.items():
        (folder / path).write_text(text)
    run(folder, "git", "add", "-A")
    run(folder, "git", "-c", "user.name=b", "-c", "user.email=b@b", "commit", "-qm", "one")
    plain, side = place / "plain", place / "side"
    shutil.copytree(folder, plain)
    run(plain, "dvc", "repro", "-q")
    cluster, done, wrong, failed = Cluster(place), Counter(), 0, 0
    shutil.copytree(folder, side)
    begun = time.monotonic()
    run(side, "dovetail", "repro", "--workers", "2")
    whole = time.monotonic() - begun
    try:
        while done.total() < kills:
            shutil.rmtree(side)
            shutil.copytree(folder, side)
            told = []
            for _ in range(drawn.randint(1, 3)):
                kind, moment = drawn.choice(KINDS), drawn.uniform(0, whole)
                where = (
                    ["--cluster", cluster.address] if kind == "worker" or drawn.random() < 0.25 else ["--workers", "2"]
                )
                running = subprocess.Popen(["dovetail", "repro", *where], cwd=side, stdout=subprocess.PIPE,
                                           stderr=subprocess.STDOUT, text=True)  # fmt: skip
                time.sleep(moment)
                hit = kill(running, kind, cluster, drawn)
                try:
                    said = running.communicate(timeout=120)[0]
                except subprocess.TimeoutExpired:
                    running.kill()
                    said, wrong = "it did not end", wrong + 1
                told.append(f"{kind} after {moment:.2f} s, {' '.join(where)}, {'killed' if hit else 'nothing there'}; "
                            f"exit code {running.returncode}; {said}")  # fmt: skip
                done[kind] += hit
            last = subprocess.run(["dovetail", "repro", "--workers", "2"], cwd=side, capture_output=True, text=True,
                                  check=False)  # fmt: skip
            found = list(differences(side, plain))
            if last.returncode:
                found.append(f"the run after it failed: {last.stdout}{last.stderr}")
            if found:
                failed += 1
                print("\n".join([f"round of {len(told)}:", *told, *(f"  {line}" for line in found)]), flush=True)
    finally:
        cluster.close()
        counted = ", ".join(f"{done[kind]} of a {kind}" for kind in KINDS)
        print(f"{done.total()} kills ({counted}): {failed} rounds left another workspace than dvc repro, {wrong} hung")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        show_kills(Path(folder), asked.kills, asked.seed)
