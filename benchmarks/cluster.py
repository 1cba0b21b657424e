"""`dovetail repro` against `dvc repro`: time, bytes, and what kills leave. Each a ratio or a count, in one run.

    python benchmarks/cluster.py [--quick] [--only reference|cpu|overhead|shapes|kills|many]

The reference project and the CPU-bound stages ask for two idle cores.
"""

import argparse
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import kills
from pipeline import Bench, environment, this_tree

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from pipelines import SHAPES

ROOT = Path(__file__).resolve().parents[1]


def run(folder, *command, **how):
    return subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True, **how).stdout


def repository(folder, files, commands=()):
    folder.mkdir(parents=True)
    run(folder, "git", "init", "-q")
    run(folder, "dvc", "init", "-q")
    for path, text in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
    for command in commands:
        run(folder, *command)
    run(folder, "git", "add", "-A")
    run(folder, "git", "-c", "user.name=b", "-c", "user.email=b@b", "commit", "-qm", "one")
    return folder


def copies(folder, *names):
    return [shutil.copytree(folder, folder.with_name(f"{folder.name}-{name}"), symlinks=True) for name in names]


def timed(folder, *command):
    begun = time.monotonic()
    run(folder, *command)
    return time.monotonic() - begun


def independent(count, command):
    stages = "".join(f"  s{n}: {{cmd: '{command} && cp src s{n}', deps: [src], outs: [s{n}]}}\n" for n in range(count))
    return {"dvc.yaml": f"stages:\n{stages}", "src": "1\n"}


def reference(place, quick):
    """Seconds of each way, in turn, each in a clean clone with a cache of its own."""
    bench = Bench(place, environment(place / "home"))
    origin = this_tree(bench)
    commands = {"plain": ["dvc", "repro", "-q"], "one": ["dovetail", "repro", "--workers", "1"],
                "two": ["dovetail", "repro", "--workers", "2"]}  # fmt: skip
    bench.run(bench.clone(origin), "dvc", "repro", "-q", "split")  # what is imported is in the system's cache
    for name in ("plain", "one", "two") * (1 if quick else 3):
        yield name, bench.seconds(bench.clone(origin), *commands[name])[0]


def show_reference(place, quick):
    found = {}
    for name, seconds in reference(place, quick):
        found.setdefault(name, []).append(seconds)
    plain, one, two = (statistics.median(found[name]) for name in ("plain", "one", "two"))
    print(
        f"reference project: dvc repro {plain:.1f} s, --workers 1 {one:.1f} s, --workers 2 {two:.1f} s: "
        f"{one / plain:.2f}x (at most 1.1) and {two / plain:.2f}x (at most 0.65)"
    )


def show_cpu(place, quick):
    seconds = 5 if quick else 30
    burn = f"import time\ne = time.process_time() + {seconds}\nwhile time.process_time() < e:\n    pass\n"
    folder = repository(place / "cpu", {**independent(2, "python burn.py"), "burn.py": burn})
    (side,) = copies(folder, "side")
    plain, ours = timed(folder, "dvc", "repro", "-q"), timed(side, "dovetail", "repro", "--workers", "2")
    print(
        f"two CPU-bound stages of {seconds} s: {plain:.1f} s, {ours:.1f} s on two workers: "
        f"{plain / ours:.2f} times as fast (at least 1.7)"
    )


def show_overhead(place, quick):
    count = 10 if quick else 30
    chain = "".join(f"  s{n}: {{cmd: cp s{n - 1} s{n}, deps: [s{n - 1}], outs: [s{n}]}}\n" for n in range(1, count + 1))
    folder = repository(place / "chain", {"dvc.yaml": f"stages:\n{chain}", "s0": "1\n"})
    (short,) = copies(folder, "short")
    (short / "dvc.yaml").write_text("stages:\n" + "\n".join(chain.splitlines()[:1]) + "\n")
    each = (
        timed(folder, "dovetail", "repro", "--workers", "1") - timed(short, "dovetail", "repro", "--workers", "1")
    ) / (count - 1)
    print(f"a stage on a worker, its command aside: {each:.2f} s (at most 0.5)")


def show_shapes(place, _quick):
    wrong = []
    for number, (name, (files, commands)) in enumerate(SHAPES.items()):
        folder = repository(place / f"shape{number}", files, commands)
        sides = dict(zip((1, 2, 4), copies(folder, "1", "2", "4"), strict=True))
        run(folder, "dvc", "repro", "-q")
        for workers, side in sides.items():
            run(side, "dovetail", "repro", "--workers", str(workers))
            if content(side) != content(folder):
                wrong.append(f"{name} under {workers}")
    print(
        f"{len(SHAPES)} shapes of repository under 1, 2 and 4 workers: "
        f"{'all as dvc repro leaves them' if not wrong else ', '.join(wrong)}"
    )


def content(folder):
    files = (file for file in sorted(folder.rglob("*")) if file.is_file() and not {".git", ".dvc"} & set(file.parts))
    return {file.relative_to(folder): file.read_bytes() for file in files}


def show_kills(place, quick):
    kills.show_kills(place, 20 if quick else 200)


def show_many(place, quick):
    """A plan of sleeping stages on workers that only sleep: what the coordinator itself needs."""
    count = 100 if quick else 1000
    folder = repository(place / "many", independent(count, "sleep 0.01"), [("dvc", "add", "-q", "src")])
    script = """
import sys, time, threading
from dovetail.cluster import workers
from dovetail.cluster.pool import Pool
from dovetail.repo.stage_task import StageRun
from dovetail.repo.workspace import open_workspace
from dovetail.cluster.repro import ReproRequest, repro
class Sleeping:  # in place of the pool: a hundred workers that answer with what a stage makes
    def __init__(self): self.slots = threading.Semaphore(100)
    def submit(self, task, resources, besides, place, started, done):
        def work():
            with self.slots:
                started("w"); time.sleep(0.2)
                done(StageRun(entry=self.entry(task), worker="w"))
        threading.Thread(target=work, daemon=True).start()
    def entry(self, task):
        deps = [{"path": p, "hash": "md5", "md5": m, "size": 2} for p, m in task.deps.items()]
        outs = [{"path": task.address, "hash": "md5", "md5": m, "size": 2} for m in task.deps.values()]
        return {"cmd": f"sleep 0.01 && cp src {task.address}", "deps": deps, "outs": outs}
    def withdraw(self): pass
    def others(self, besides): return False
workers.Workers.pool = property(lambda self: self.__dict__.setdefault("sleeping", Sleeping()))
with open_workspace() as workspace:
    cpu = time.thread_time()
    answer = repro(workspace, ReproRequest(workers=100))
    print(time.thread_time() - cpu, len([s for s in answer.stages if s.how == "ran"]))
"""
    said = run(folder, sys.executable, "-c", script).split()
    seconds, ran = float(said[-2]), int(said[-1])
    print(f"{ran} stages on 100 sleeping workers: {1000 * seconds / ran:.0f} ms of the coordinator each (at most 20)")


SHOWN = {"reference": show_reference, "cpu": show_cpu, "overhead": show_overhead, "shapes": show_shapes,
         "kills": show_kills, "many": show_many}  # fmt: skip

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer rounds, shorter stages")
    parser.add_argument("--only", choices=SHOWN)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        for title, show in SHOWN.items():
            if asked.only in (None, title):
                show(Path(place), asked.quick)
