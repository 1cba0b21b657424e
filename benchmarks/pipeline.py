"""`dvc repro` against the same by hand, and with nothing to do against DVC alone.

* first: `dvc repro register@iris` in a clean clone of this tree, empty store, empty DVC cache, no dvc.lock; the peer is
  the first `dvc repro` of `handwritten/`, the two-stage DVC + MLflow project that most people have;
* no-op: `dvc repro` of all stages with nothing to do; the peer is a plain pipeline with this one's graph, written out
  without a loop: the same params.yaml, as many stages, deps, params and outs, each command a copy.

Whole processes, in turn (ours, peer, ours, peer …); a ratio is one of medians. Exit code 1 when a target is missed.
"""

import argparse
import os
import shutil
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import yaml

HERE = Path(__file__).resolve().parent
MODEL = "iris"
NOTHING_TO_DO = "Data and pipelines are up to date."
IDENTITY = {"NAME": "Bench", "EMAIL": "bench@example.org"}
INHERITED_BY_ACCIDENT = ("MLFLOW_", "DVC_", "GIT_", "DOVETAIL_", "PYTHON")


@dataclass(frozen=True)
class Comparison:
    """Seconds of ours and of the peer, pair by pair."""

    what: str
    target: float
    ours: list[float] = field(default_factory=list)
    peer: list[float] = field(default_factory=list)

    @property
    def ratio(self) -> float:
        return statistics.median(self.ours) / statistics.median(self.peer)

    @property
    def met(self) -> bool:
        return self.ratio <= self.target

    @property
    def row(self) -> tuple[str, ...]:
        ours, peer = (f"{statistics.median(s):.2f} s ({min(s):.2f}-{max(s):.2f})" for s in (self.ours, self.peer))
        return (self.what, ours, peer, f"{self.ratio:.2f}x", f"<= {self.target:.1f}x", "met" if self.met else "MISSED")


@dataclass(frozen=True)
class Bench:
    """A folder to work in and an environment apart from the machine's."""

    folder: Path
    env: dict[str, str]

    def run(self, cwd: Path, *command: str) -> str:
        done = subprocess.run(
            command, cwd=cwd, env=self.env, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
        )
        if done.returncode:
            sys.exit(f"{' '.join(command)} ended with {done.returncode}\n{done.stdout}{done.stderr}")
        return done.stdout

    def seconds(self, cwd: Path, *command: str) -> tuple[float, str]:
        start = time.perf_counter()
        output = self.run(cwd, *command)
        return time.perf_counter() - start, output

    def commit(self, repository: Path) -> None:
        self.run(repository, "git", "init", "-q")
        if not (repository / ".dvc" / "config").exists():
            self.run(repository, "dvc", "init", "-q")
        self.run(repository, "git", "add", "-A")
        self.run(repository, "git", "commit", "-qm", "as measured")

    def clone(self, origin: Path) -> Path:
        """A clean clone: nothing but what git holds."""
        clone = Path(tempfile.mkdtemp(prefix=f"{origin.name}-", dir=self.folder))
        self.run(self.folder, "git", "clone", "-q", str(origin), str(clone))
        return clone


def environment(home: Path) -> dict[str, str]:
    """This process's environment without the machine's settings, this interpreter's folder first on PATH."""
    home.mkdir()
    kept = {name: value for name, value in os.environ.items() if not name.startswith(INHERITED_BY_ACCIDENT)}
    who = {f"GIT_{role}_{key}": value for role in ("AUTHOR", "COMMITTER") for key, value in IDENTITY.items()}
    return kept | who | {
        "HOME": str(home),
        "XDG_CONFIG_HOME": str(home / ".config"),
        "XDG_CACHE_HOME": str(home / ".cache"),
        "GIT_CONFIG_NOSYSTEM": "1",
        "DVC_NO_ANALYTICS": "true",
        "DVC_SITE_CACHE_DIR": str(home / "dvc"),
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), kept.get("PATH", os.defpath)]),
    }  # fmt: skip


def this_tree(bench: Bench) -> Path:
    """This tree as a repository with one commit: HEAD with the uncommitted changes, without what git ignores."""
    root, origin = HERE.parent, bench.folder / "dovetail"
    listed = bench.run(root, "git", "ls-files", "-z", "--cached", "--others", "--exclude-standard")
    for name in set(listed.split("\0")) - {""}:
        if (root / name).is_file():  # not one that was deleted
            (origin / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(root / name, origin / name)
    bench.commit(origin)
    return origin


def handwritten(bench: Bench) -> Path:
    origin = bench.folder / "handwritten"
    shutil.copytree(HERE / "handwritten", origin, ignore=shutil.ignore_patterns("__pycache__"))
    bench.commit(origin)
    return origin


def plain(bench: Bench, ours: Path) -> Path:
    """A pipeline with the graph that `ours` recorded in dvc.lock and the same params.yaml; each command is a copy."""
    origin = bench.folder / "plain"
    (origin / "from").mkdir(parents=True)
    stages = read_lock(ours)
    made = {out["path"] for stage in stages.values() for out in stage["outs"]}
    pipeline = {}
    for name, stage in stages.items():
        deps = [_flat(dep["path"], made) for dep in stage["deps"]]
        outs = [_flat(out["path"], made) for out in stage["outs"]]
        params = [key for section in stage.get("params", {}).values() for key in section]
        pipeline[name.replace("@", "-")] = {
            "cmd": " && ".join(f"cp {deps[0]} {out}" for out in outs),
            "deps": deps,
            "outs": outs,
            **({"params": params} if params else {}),
        }
    for leaf in {dep for stage in pipeline.values() for dep in stage["deps"]} - {_flat(path, made) for path in made}:
        (origin / leaf).write_text(leaf)
    (origin / "dvc.yaml").write_text(yaml.safe_dump({"stages": pipeline}, sort_keys=False))
    shutil.copy2(ours / "params.yaml", origin)
    bench.commit(origin)
    return origin


def read_lock(repository: Path) -> dict:
    return yaml.safe_load((repository / "dvc.lock").read_text())["stages"]


def _flat(path: str, made: set[str]) -> str:
    return path.replace("/", "-") if path in made else "from/" + path.replace("/", "-")


def first_repro(bench: Bench, ours: Path, pairs: int) -> tuple[Comparison, Path]:
    """Also returns the last clone of ours, in which the no-op measurement goes on."""
    peer = handwritten(bench)
    comparison = Comparison("first repro", target=1.0)
    for kept in [False] + [True] * pairs:  # the first pair fills the bytecode and font caches
        last = bench.clone(ours)
        (last / "dvc.lock").unlink()  # DVC writes it anew after each stage, which takes longer where it has 24
        seconds, _ = bench.seconds(last, "dvc", "repro", f"register@{MODEL}")
        other = bench.clone(peer)
        peer_seconds, _ = bench.seconds(other, "dvc", "repro")
        for clone in (last, other):
            _registered_once(clone)
        if kept:
            comparison.ours.append(seconds)
            comparison.peer.append(peer_seconds)
    return comparison, last


def noop_repro(bench: Bench, ours: Path, pairs: int) -> Comparison:
    bench.run(ours, "dvc", "repro")
    peer = bench.clone(plain(bench, ours))
    bench.run(peer, "dvc", "repro")
    comparison = Comparison(f"no-op repro, {len(read_lock(ours))} stages", target=1.1)
    for kept in [False] + [True] * pairs:
        for clone, times in ((ours, comparison.ours), (peer, comparison.peer)):
            seconds, output = bench.seconds(clone, "dvc", "repro")
            if NOTHING_TO_DO not in output:
                sys.exit(f"dvc repro after dvc repro still had work to do in {clone.name}:\n{output}")
            if kept:
                times.append(seconds)
    return comparison


def _registered_once(clone: Path) -> None:
    """A ratio counts only if both sides did the work."""
    with closing(sqlite3.connect(clone / "mlflow.db")) as store:
        versions = store.execute("select version from model_versions where name = ?", (MODEL,)).fetchall()
    if versions != [(1,)]:
        sys.exit(f"{clone.name}: the store holds versions {versions} of {MODEL}, not the first alone")


def table(comparisons: list[Comparison]) -> str:
    rows = [("what", "ours (min-max)", "peer (min-max)", "ratio", "target", "verdict"), *(c.row for c in comparisons)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one pair of each")
    pairs = 1 if parser.parse_args().quick else None
    with tempfile.TemporaryDirectory(prefix="dovetail-bench-") as folder:
        bench = Bench(Path(folder), environment(Path(folder, "home")))
        first, clone = first_repro(bench, this_tree(bench), pairs or 3)
        comparisons = [first, noop_repro(bench, clone, pairs or 7)]
    print(table(comparisons))
    return 0 if all(comparison.met for comparison in comparisons) else 1


if __name__ == "__main__":
    sys.exit(main())
