"""Reading a model by the closed table against joblib's own load: a forest of 100 MB, each in turn, the median of five.

The same for its digest by value against reading it. And what `register` gains by telling the value of a small model (a
forest of iris, 100 trees) and what computed it: the first time in a new process each, the median of five. Prints ratios
and milliseconds; exit code 1 when one is above its target.
"""

import io
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import joblib
import numpy as np
from sklearn.datasets import load_iris
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor

from dovetail.joblib_model import read
from dovetail.models.value import value_digest

MEGABYTES, ROUNDS, TARGET, VALUE_TARGET, GAIN_TARGET = 100, 5, 1.3, 1.0, 50
GAIN = """
import sys, time
from pathlib import Path
from dovetail.models.reader import read
content = Path(sys.argv[1]).read_bytes()
model = read(content)
began = time.perf_counter()
from dovetail.models.value import value_digest
from dovetail.values.computing import of_process
value_digest(model, content), of_process(model)
print((time.perf_counter() - began) * 1000)
"""


def forest():
    """A fitted forest's joblib file of about that size."""
    random = np.random.default_rng(0)
    features = random.normal(size=(20_000, 4))
    target = random.normal(size=20_000)
    few = dumped(RandomForestRegressor(4, random_state=0, n_jobs=-1).fit(features, target))
    trees = round(4 * MEGABYTES * 1e6 / len(few))
    return dumped(RandomForestRegressor(trees, random_state=0, n_jobs=-1).fit(features, target))


def dumped(model):
    content = io.BytesIO()
    joblib.dump(model, content)
    return content.getvalue()


def seconds(load):
    began = time.perf_counter()
    load()
    return time.perf_counter() - began


def gain():
    """The milliseconds that a new process takes for what `register` asks of it beside reading the model."""
    features, target = load_iris(return_X_y=True)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "m.joblib")
        file.write_bytes(dumped(RandomForestClassifier(100, random_state=0).fit(features, target)))
        command = [sys.executable, "-c", GAIN, str(file)]
        return [float(subprocess.run(command, capture_output=True, check=True).stdout) for _ in range(ROUNDS)]


def main():
    content = forest()
    model = read(content)
    ways = {
        "joblib.load": lambda: joblib.load(io.BytesIO(content)),
        "read": lambda: read(content),
        "value": lambda: value_digest(model, content),
    }
    for load in ways.values():
        load()
    taken = {name: [] for name in ways}
    for _ in range(ROUNDS):
        for name, load in ways.items():
            taken[name].append(seconds(load))
    median = {name: statistics.median(times) for name, times in taken.items()}
    ratio = median["read"] / median["joblib.load"]
    print(f"{len(content) / 1e6:.0f} MB: " + ", ".join(f"{name} {value:.3f} s" for name, value in median.items()))
    value = median["value"] / median["read"]
    print(f"read / joblib.load {ratio:.2f} (target {TARGET}), value / read {value:.2f} (target {VALUE_TARGET})")
    taken = gain()
    gained = statistics.median(taken)
    print(f"register gains {gained:.0f} ms of {', '.join(f'{t:.0f}' for t in taken)} (target {GAIN_TARGET})")
    return 0 if ratio <= TARGET and value <= VALUE_TARGET and gained <= GAIN_TARGET else 1


if __name__ == "__main__":
    sys.exit(main())
