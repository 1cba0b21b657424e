"""A large store against an empty one: 10,000 runs and 1,000 versions, 500 of them made of one raw file.

The project is `tests/project.py`'s smallest. Its one run and version are multiplied by SQL, rows and all, which is what
MLflow would hold after as many registrations. Then, whole processes in turn:

* `register` with nothing to do, against the same on an empty migrated store (where it has to make run and version);
* `lineage` of a version, `status`, and `lineage` of the raw file, less the time of `import mlflow` with its SQL store;
* `sync` of 200 commits into an empty store, less the time of writing the model's files as often. 50 ms a commit;
* `history` of 5,000 promotions, each a commit with its two tags, less the time of Python's start;
* `gc` of the same, less the time of `gc` before there was any promotion (MLflow and DVC are imported in both).

Exit code 1 when a target is missed.
"""

import argparse
import shutil
import sqlite3
import statistics
import sys
import tempfile
import time
import uuid
from contextlib import closing
from pathlib import Path

from pipeline import HERE, Bench, environment

sys.path.insert(0, str(HERE.parent / "tests"))
IMPORT = "from dovetail.tracking.connection import import_mlflow; import_mlflow()"


def multiply(store: Path, runs: int, versions: int, of_one_file: int) -> None:
    """Let the store hold as many: copies of its first run, with fingerprint, model and, mostly, data of their own."""
    with closing(sqlite3.connect(store)) as db, db:
        (run,) = db.execute("select run_uuid from runs").fetchone()
        (data,) = db.execute("select dataset_uuid from datasets").fetchone()
        rows = {
            table: db.execute(f"select * from {table} where run_uuid = ?", (run,)).fetchall()
            for table in ("tags", "params", "metrics", "latest_metrics")
        }
        columns = {table: [row[1] for row in db.execute(f"pragma table_info({table})")] for table in rows}
        for number in range(1, runs):
            new, md5 = uuid.uuid4().hex, f"{number:032x}"
            _copy(db, "runs", {"run_uuid": run}, {"run_uuid": new, "name": f"m-{number}"})
            for table, copied in rows.items():
                place = columns[table].index("run_uuid")
                changed = [(*row[:place], new, *row[place + 1 :]) for row in copied]
                db.executemany(f"insert into {table} values ({','.join('?' * len(columns[table]))})", changed)
            for key, value in (("dovetail.fingerprint", md5 * 2), ("dovetail.model.md5", md5)):
                db.execute("update tags set value = ? where run_uuid = ? and key = ?", (value, new, key))
            dataset = data
            if number >= of_one_file:
                dataset = uuid.uuid4().hex
                _copy(
                    db,
                    "datasets",
                    {"dataset_uuid": data},
                    {"dataset_uuid": dataset, "name": f"d{number}", "digest": md5},
                )
            used = {"input_uuid": uuid.uuid4().hex, "source_id": dataset, "destination_id": new}
            _copy(db, "inputs", {"destination_id": run, "source_type": "DATASET"}, used)
            if number < versions:
                _copy(db, "model_versions", {"version": 1}, {"version": number + 1, "run_id": new})
                _copy(db, "model_version_tags", {"version": 1}, {"version": number + 1})
                db.execute(
                    "update model_version_tags set value = ? where version = ? and key = 'dovetail.model.md5'",
                    (md5, number + 1),
                )


def _copy(db: sqlite3.Connection, table: str, of: dict[str, object], changed: dict[str, object]) -> None:
    """Copies of the rows that are as `of` says, `changed`."""
    columns = [row[1] for row in db.execute(f"pragma table_info({table})")]
    where = " and ".join(f"{column} = ?" for column in of)
    for row in db.execute(f"select * from {table} where {where}", list(of.values())).fetchall():
        new = {**dict(zip(columns, row, strict=True)), **changed}
        db.execute(f"insert into {table} values ({','.join('?' * len(columns))})", list(new.values()))


def medians(
    bench: Bench, pairs: int, tasks: dict[str, tuple[Path, tuple[str, ...]]], before: dict[str, object]
) -> dict[str, float]:
    """The median seconds of each task, all in turn, after one round that is not counted."""
    times: dict[str, list[float]] = {name: [] for name in tasks}
    for kept in [False] + [True] * pairs:
        for name, (cwd, command) in tasks.items():
            if name in before:
                before[name]()
            seconds, _ = bench.seconds(cwd, *command)
            if kept:
                times[name].append(seconds)
    return {name: statistics.median(taken) for name, taken in times.items()}


def history(bench: Bench, root: Path, commits: int) -> None:
    """As many commits, each with a model, params and metrics of its own, made as `dvc repro` would leave them."""
    lock, model = (root / "dvc.lock").read_text(), root / "out/m.joblib"
    import hashlib
    import json

    import joblib
    import yaml

    recorded, estimator = yaml.safe_load(lock), joblib.load(model)
    for number in range(commits):
        estimator.rows_ = [str(number)]
        joblib.dump(estimator, model)
        outs = {out["path"]: out for out in recorded["stages"]["train"]["outs"]}
        (root / "out/metrics.json").write_text(json.dumps({"accuracy": 0.5 + number / 1000}))
        for path in ("out/m.joblib", "out/metrics.json"):
            content = (root / path).read_bytes()
            md5 = hashlib.md5(content).hexdigest()
            outs[path] |= {"md5": md5, "size": len(content)}
            if path == "out/m.joblib":
                target = root / ".dvc/cache/files/md5" / md5[:2] / md5[2:]
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(root / path, target)
        (root / "dvc.lock").write_text(yaml.safe_dump(recorded, sort_keys=False))
        bench.run(root, "git", "add", "dvc.lock", "out/metrics.json")
        bench.run(root, "git", "commit", "-qm", f"model {number}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one pair, 1,000 runs, 20 commits, 500 promotions")
    quick = parser.parse_args().quick
    runs, versions, one_file, commits, pairs = (1000, 100, 50, 20, 1) if quick else (10_000, 1000, 500, 200, 3)
    promoted = 500 if quick else 5000
    with tempfile.TemporaryDirectory(prefix="dovetail-bench-") as folder:
        bench = Bench(Path(folder), environment(Path(folder, "home")))
        import os

        os.environ.update(bench.env)
        from project import small_project
        from promotions import promotions

        large = small_project(Path(folder, "large")).root
        bench.run(large, "dvc", "repro", "-q")
        bench.run(large, "git", "add", "-A")
        bench.run(large, "git", "commit", "-qm", "trained")
        empty, many = (Path(shutil.copytree(large, Path(folder, name), symlinks=True)) for name in ("empty", "many"))
        migrated = Path(folder, "migrated.db")
        (empty / "mlflow.db").unlink()
        uri = f"sqlite:///{empty}/mlflow.db"
        bench.run(empty, sys.executable, "-c", f"import mlflow; mlflow.MlflowClient('{uri}').search_experiments()")
        (empty / "mlflow.db").rename(migrated)
        multiply(large / "mlflow.db", runs, versions, one_file)
        tasks = {
            "import": (large, (sys.executable, "-c", IMPORT)),
            "register, empty store": (empty, ("dovetail", "register")),
            "register": (large, ("dovetail", "register")),
            "lineage": (large, ("dovetail", "lineage", "m/1", "--json")),
            "status": (large, ("dovetail", "status", "--json")),
            "lineage of data": (large, ("dovetail", "lineage", "data.csv", "--json")),
        }
        taken = medians(
            bench, pairs, tasks, {"register, empty store": lambda: shutil.copyfile(migrated, empty / "mlflow.db")}
        )
        history(bench, many, commits)
        (many / "mlflow.db").unlink()
        shutil.rmtree(many / "mlruns")
        synced, _ = bench.seconds(many, "dovetail", "sync", "--json")
        start = time.perf_counter()
        shutil.copytree(many / "mlruns", Path(folder, "copied"))
        copied = time.perf_counter() - start
        clean = {"gc, no promotion": (empty, ("dovetail", "gc", "--json"))}
        told = medians(bench, pairs, clean, {})
        promotions(empty, promoted)
        told |= medians(
            bench,
            pairs,
            {
                "start": (empty, (sys.executable, "-c", "pass")),
                "history": (empty, ("dovetail", "history", "m", "--json")),
                "gc": (empty, ("dovetail", "gc", "--json")),
            },
            {},
        )
    imported = taken.pop("import")
    print(f"{runs:,} runs, {versions:,} versions, {one_file} of one raw file; import of MLflow {imported:.2f} s")
    rows = [("register against an empty store", taken["register"] / taken["register, empty store"], 1.5, "x")]
    rows += [(f"{name}, beyond the import", taken[name] - imported, limit, " s")
             for name, limit in (("lineage", 1.0), ("status", 1.0), ("lineage of data", 2.0))]  # fmt: skip
    rows += [(f"sync, a commit of {commits}", (synced - imported - copied) / commits * 1000, 50.0, " ms")]
    rows += [(f"history of {promoted:,} promotions", told["history"] - told["start"], 2.0, " s")]
    rows += [(f"gc of {promoted:,} promotions", told["gc"] - told["gc, no promotion"], 2.0, " s")]
    for name, value, limit, unit in rows:
        print(f"{name:36} {value:7.2f}{unit}  at most {limit:g}{unit}  {'met' if value <= limit else 'MISSED'}")
    return 0 if all(value <= limit for _, value, limit, _ in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
