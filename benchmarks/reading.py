"""Reading a model by the closed table against joblib's own load: a forest of 100 MB, each in turn, the median of five.

The same for its digest by value against reading it. Prints the ratios; exit code 1 when one is above its target.
"""

import io
import statistics
import sys
import time

import joblib
import numpy as np
from sklearn.ensemble import RandomForestRegressor

from dovetail.joblib_model import read
from dovetail.models.value import value_digest

MEGABYTES, ROUNDS, TARGET, VALUE_TARGET = 100, 5, 1.3, 1.0


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
    return 0 if ratio <= TARGET and value <= VALUE_TARGET else 1


if __name__ == "__main__":
    sys.exit(main())
