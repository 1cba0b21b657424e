"""`dovetail promote` with all gates against importing what it needs; `history` and `rollback` against Python's start.

In a clone of this tree with two committed versions of iris, the first of them in production, so that the champion's
gate has work. Whole processes in turn, medians. `rollback` is measured with MLflow gone: where it need not be asked.
What people type to look is measured whole, Python's start and all, against a person's patience: the best of the rounds,
for a limit that is no ratio does not know how busy a machine is.
Exit code 1 when a target is missed.
"""

import argparse
import shutil
import statistics
import sys
import tempfile
from pathlib import Path

from pipeline import MODEL, Bench, environment, this_tree

IMPORTS = "import mlflow, sklearn.ensemble"
LOOKS = {  # what is typed, and the seconds that it may take
    ("--help",): 0.15,
    ("history", MODEL): 0.2,
    ("history", "penguins"): 0.2,  # of which nothing was promoted
    ("status", MODEL): 1.2,
    ("lineage", MODEL): 1.2,
    ("diff", f"HEAD~1:{MODEL}", f"HEAD:{MODEL}"): 1.2,
}


def promoted(bench: Bench) -> Path:
    """The clone: version 1 in production, version 2 with fewer trees."""
    clone = bench.clone(this_tree(bench))
    for trees in (100, 50):
        params = clone / "params.yaml"
        params.write_text(params.read_text().replace("n_estimators: 100", f"n_estimators: {trees}"))
        bench.run(clone, "dvc", "repro", f"register@{MODEL}")
        bench.run(clone, "git", "add", "-A")
        bench.run(clone, "git", "commit", "--allow-empty", "-qm", f"{trees} trees")
    bench.run(clone, "dovetail", "promote", MODEL, "--version", "1")
    return clone


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one round")
    rounds = 1 if parser.parse_args().quick else 5
    commands = {
        "imports": (sys.executable, "-c", IMPORTS),
        "python": (sys.executable, "-c", "pass"),
        "promote": ("dovetail", "promote", MODEL, "--dry-run"),
        "history": ("dovetail", "history", MODEL),
        "rollback": ("dovetail", "rollback", MODEL),
    } | {" ".join(typed): ("dovetail", *typed) for typed in LOOKS}
    taken: dict[str, list[float]] = {name: [] for name in commands}
    with tempfile.TemporaryDirectory(prefix="dovetail-bench-") as folder:
        bench = Bench(Path(folder), environment(Path(folder, "home")))
        clone = promoted(bench)
        alone = Path(folder, "alone")
        for _ in range(rounds + 1):  # something to take back in every round, the first of which is not counted
            bench.run(clone, "dovetail", "promote", MODEL, "--version", "2")
            bench.run(clone, "dovetail", "promote", MODEL, "--version", "1", "--force", "--reason", "to measure")
        shutil.copytree(clone, alone, symlinks=True)
        (alone / "mlflow.db").unlink()
        for kept in [False] + [True] * rounds:
            for name, command in commands.items():
                seconds, _ = bench.seconds(alone if name == "rollback" else clone, *command)
                if kept:
                    taken[name].append(seconds)
    times = {name: statistics.median(seconds) for name, seconds in taken.items()}
    for name, seconds in taken.items():
        print(f"{name:16} {times[name]:6.2f} s  of {', '.join(f'{one:.2f}' for one in seconds)}")
    rows = [("promote, all gates, against the imports", times["promote"] / times["imports"], 2.0, "x")]
    rows += [
        (f"{name}, beyond Python's start", times[name] - times["python"], 1.0, " s") for name in ("history", "rollback")
    ]
    rows += [(f"{(n := ' '.join(typed))}, all of it", min(taken[n]), limit, " s") for typed, limit in LOOKS.items()]
    for name, value, limit, unit in rows:
        print(f"{name:42} {value:5.2f}{unit}  at most {limit:.2f}{unit}  {'met' if value <= limit else 'MISSED'}")
    return 0 if all(value <= limit for _, value, limit, _ in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
