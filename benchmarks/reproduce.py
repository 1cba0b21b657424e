"""`dovetail reproduce` against the stages alone: what does the clean worktree, the comparison and the tag cost?

In a clone of this tree where `dvc repro register@iris` was run and committed, in turn: `dovetail reproduce iris`, and
the peer, the commands that dvc.lock records upstream of `register`, one after the other as they stand there.

What `reproduce` adds is told twice: as the difference of the two medians, and within each run, as the process's time
without that of the stages it ran. On a busy machine the first says little, for the two sides are not measured at the
same moment; where the two disagree, neither is to be quoted. Exit code 1 unless both keep the target.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

from pipeline import MODEL, Bench, environment, read_lock, this_tree

TARGET = 3.0  # seconds


def stages(clone: Path) -> list[str]:
    """The commands upstream of `register` of the model, in an order that works."""
    lock = read_lock(clone)
    makers = {out["path"]: name for name, stage in lock.items() for out in stage["outs"]}
    commands = {}

    def add(name: str) -> None:
        for dep in lock[name]["deps"]:
            if (maker := makers.get(dep["path"])) and maker not in commands:
                add(maker)
        commands[name] = lock[name]["cmd"]

    add(f"register@{MODEL}")
    return [cmd for name, cmd in commands.items() if not name.startswith("register@")]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one pair")
    pairs = 1 if parser.parse_args().quick else 5
    ours, peer, within = [], [], []
    with tempfile.TemporaryDirectory(prefix="dovetail-bench-") as folder:
        bench = Bench(Path(folder), environment(Path(folder, "home")))
        clone = bench.clone(this_tree(bench))
        bench.run(clone, "dvc", "repro", f"register@{MODEL}")
        bench.run(clone, "git", "add", "-A")
        bench.run(clone, "git", "commit", "--allow-empty", "-qm", "reproduced")  # dvc.lock is in git as it comes out
        commands = stages(clone)
        bare = bench.clone(clone)
        for kept in [False] + [True] * pairs:  # the first pair fills the bytecode and font caches
            seconds, output = bench.seconds(clone, "dovetail", "reproduce", MODEL, "--json")
            answer = json.loads(output)
            if answer["verdict"] != "identical" or len(answer["stages"]) != len(commands):
                sys.exit(f"not the same work: {answer['verdict']}, {answer['stages']} against {commands}")
            start = time.perf_counter()
            for command in commands:
                bench.run(bare, "sh", "-c", command)
            if kept:
                peer.append(time.perf_counter() - start)
                ours.append(seconds)
                within.append(seconds - sum(stage["seconds"] for stage in answer["stages"]))
    added = {
        "added, by the medians": statistics.median(ours) - statistics.median(peer),
        "added, within each run": statistics.median(within),
    }
    for name, times in (("dovetail reproduce", ours), (f"its {len(commands)} stages alone", peer), ("within", within)):
        print(f"{name:24} {statistics.median(times):6.2f} s  of {', '.join(f'{t:.2f}' for t in times)}")
    for name, seconds in added.items():
        print(f"{name:24} {seconds:6.2f} s  at most {TARGET:.1f} s  {'met' if seconds <= TARGET else 'MISSED'}")
    print(f"{'ratio':24} {statistics.median(ours) / statistics.median(peer):6.2f}x")
    return int(max(added.values()) > TARGET)


if __name__ == "__main__":
    sys.exit(main())
