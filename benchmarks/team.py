"""A team's store under many writers: PostgreSQL and S3 behind `mlflow server`, each on this machine.

    python benchmarks/team.py [--writers 16] [--models 160]   # 2,000 take most of an hour on two cores

All writers, a clone and a process each, register the models side by side. Then two clones register one model after the
other in turn, one in this store, one in a second, empty stack, so that what else the machine does slows both. What must
hold: each version is there once, none is lost, and a registration takes at most 1.5 times as long in the full store as
in the empty one.
"""

import argparse
import contextlib
import hashlib
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAIRS, AT_ONCE = 6, 3  # how often both stores in turn, and how many registrations each time
MOST = 1.5
REGISTERED = "registered"
DVC_YAML = """
stages:
  train: {{cmd: cp made.joblib m.joblib, deps: [made.joblib], outs: [m.joblib]}}
  register:
    cmd: dovetail register {name}
    deps: [m.joblib]
    outs: [{{mlruns/receipts/{name}.json: {{cache: false}}}}]
artifacts:
  {name}: {{path: m.joblib, type: model}}
"""


def run(folder, *command):
    subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)


def make_clone(folder, name):
    """A repository with one model of that name."""
    folder.mkdir()
    run(folder, "git", "init", "-q")
    run(folder, "git", "config", "user.email", "ada@example.org")
    run(folder, "git", "config", "user.name", "Ada")
    run(folder, "dvc", "init", "-q")
    (folder / "dvc.yaml").write_text(DVC_YAML.format(name=name))
    (folder / ".gitignore").write_text("/mlruns/\n/made.joblib\n")
    run(folder, "git", "add", "-A")
    run(folder, "git", "commit", "-qm", "a model")


def write(folder, name, first, count):
    """Register models `first` to `first + count` of the clone; prints the seconds of each and the md5 of its bytes."""
    os.chdir(folder)
    import joblib
    from dvc.repo import Repo
    from sklearn.dummy import DummyRegressor

    import dovetail

    for number in range(first, first + count):
        joblib.dump(DummyRegressor(strategy="constant", constant=number).fit([[0.0]], [0.0]), "made.joblib")
        with Repo() as repo:
            repo.reproduce("train")
        began = time.perf_counter()
        dovetail.open().register(name)
        seconds = time.perf_counter() - began
        print(REGISTERED, seconds, hashlib.md5(Path("m.joblib").read_bytes()).hexdigest(), flush=True)


def writer(folder, name, first, count):
    command = [sys.executable, __file__, "--write", str(folder), name, str(first), str(count)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def written(process):
    """The seconds and the digests of what a writer registered."""
    lines = process.communicate()[0].split("\n")
    assert process.returncode == 0
    told = [line.split() for line in lines if line.startswith(REGISTERED)]  # DVC tells what it does, too
    return [float(seconds) for _, seconds, _ in told], [md5 for _, _, md5 in told]


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--writers", type=int, default=16)
    parser.add_argument("--models", type=int, default=160)
    parser.add_argument("--write", nargs=4, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.write:
        folder, name, first, count = arguments.write
        write(folder, name, int(first), int(count))
        return 0
    if not Path(sys.prefix, "stack/.installed").is_file():
        print("there is no team's store here: make team")
        return 0
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"  # its thread reads the environment while others change it
        with stack(folder / "stack") as uri:
            os.environ["MLFLOW_TRACKING_URI"] = uri
            return measure(folder, arguments.writers, arguments.models // arguments.writers)


@contextlib.contextmanager
def stack(folder):
    """The address of a store."""
    process = subprocess.Popen([sys.executable, ROOT / "scripts/stack.py", folder], stdout=subprocess.PIPE, text=True)
    try:
        address = process.stdout.readline().strip().partition("=")[2]
        assert address, "the store does not start: make stack"
        yield address
    finally:
        process.terminate()
        process.communicate()


def measure(folder, writers, each):
    names = ["full", "empty", *(f"m{number}" for number in range(writers))]
    make_clone(folder / "template", "template")
    for name in names:
        shutil.copytree(folder / "template", folder / name)
        (folder / name / "dvc.yaml").write_text(DVC_YAML.format(name=name))
        run(folder / name, "git", "commit", "-qam", "its name")
    began = time.perf_counter()
    processes = {name: writer(folder / name, name, 1_000_000 * place, each) for place, name in enumerate(names[2:], 1)}
    answers = {name: written(process) for name, process in processes.items()}
    took = time.perf_counter() - began
    full, empty = paired(folder)

    lost = doubled = 0
    for name, (_, expected) in answers.items():
        found = versions(name)
        lost += len(set(expected) - set(found))
        doubled += len(found) - len(set(found))
    ratio = statistics.median(one / other for one, other in zip(full, empty, strict=True))
    tenth = max(1, each // 10)
    early, late = ([seconds for found, _ in answers.values() for seconds in found[part]]
                   for part in (slice(tenth), slice(-tenth, None)))  # fmt: skip
    print(f"{writers} writers, {writers * each} registrations in {took:.0f} s: {lost} lost, {doubled} doubled")
    print(
        f"a registration among them: {statistics.median(early):.2f} s at first, {statistics.median(late):.2f} s at last"
    )
    alone = f"{statistics.median(empty):.2f} s in an empty store, {statistics.median(full):.2f} s in the full one"
    print(f"a registration alone: {alone}: {ratio:.2f} times, the median of {PAIRS} pairs, at most {MOST}")
    return int(bool(lost or doubled or ratio > MOST))


def paired(folder):
    """The median seconds of a registration in the full store and in an empty one, in turn."""
    full, empty = [], []
    uri = os.environ["MLFLOW_TRACKING_URI"]
    with stack(folder / "second") as other:
        for number in range(PAIRS):
            for name, where, found in (("full", uri, full), ("empty", other, empty)):
                os.environ["MLFLOW_TRACKING_URI"] = where
                seconds, _ = written(writer(folder / name, name, number * (AT_ONCE + 1), AT_ONCE + 1))
                found.append(statistics.median(seconds[1:]))  # the first one imports what all need
    os.environ["MLFLOW_TRACKING_URI"] = uri
    return full, empty


def versions(name):
    """The digests of a model's versions in the store."""
    from mlflow import MlflowClient

    client, found, token = MlflowClient(), [], None
    while token != "":
        page = client.search_model_versions(f"name = '{name}'", max_results=1000, page_token=token)
        found += [version.tags["dovetail.model.md5"] for version in page]
        token = page.token or ""
    return found


if __name__ == "__main__":
    sys.exit(main())
