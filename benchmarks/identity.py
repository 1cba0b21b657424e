"""What comes out the same: 20 data sets, 5 estimators, other threads, backends and kernels, by bytes and by value.

Each variant is a process of its own that fits all hundred models and says their digests. They are compared with those
of one thread and the kernel that OpenBLAS chooses here: with what the reference pipeline fixes (`reproducible: true`),
then without. For each the table counts verdicts. The cost of fixing it is a ratio of times. Exit code 1 when a target
is missed: fixed, every file is identical; not fixed, what is no `identical-model` moves by the very setting, named.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

HERE = Path(__file__).resolve().parent
KERNELS = ("Haswell", "Zen", "SkylakeX")
VARIANTS = {
    "1 thread": {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
    "2 threads": {"OMP_NUM_THREADS": "2", "OPENBLAS_NUM_THREADS": "2"},
    "4 threads": {"OMP_NUM_THREADS": "4", "OPENBLAS_NUM_THREADS": "4"},
    "joblib's threads": {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "BACKEND": "threading"},
    "loky": {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "BACKEND": "loky"},
    **{
        f"kernel {kernel}": {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "OPENBLAS_CORETYPE": kernel}
        for kernel in KERNELS
    },
}
CAUSES = {"2 threads": "threads", "4 threads": "threads"} | {f"kernel {kernel}": "kernel" for kernel in KERNELS}


def data_sets(count):
    """Rows and targets by name: scikit-learn's own tables, then drawn ones."""
    from sklearn import datasets

    for name in ("iris", "wine", "breast_cancer", "digits"):
        yield name, True, getattr(datasets, f"load_{name}")(return_X_y=True)
    yield "diabetes", False, datasets.load_diabetes(return_X_y=True)
    for seed in range(count - 5):
        rows = 200 + 150 * seed
        if seed % 2:
            yield f"drawn {seed}", False, datasets.make_friedman1(rows, 10, noise=1, random_state=seed)
        else:
            yield f"drawn {seed}", True, datasets.make_classification(rows, 20, n_informative=8, random_state=seed)


def estimators(labels):
    """Five kinds: trees, histograms, boosting, a linear model, a network."""
    from lightgbm import LGBMClassifier, LGBMRegressor
    from sklearn import ensemble, linear_model, neural_network
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    kind = "Classifier" if labels else "Regressor"
    yield "forest", getattr(ensemble, f"RandomForest{kind}")(30, random_state=0, n_jobs=2)
    yield "histogram", getattr(ensemble, f"HistGradientBoosting{kind}")(max_iter=20, random_state=0)
    yield "lightgbm", (LGBMClassifier if labels else LGBMRegressor)(n_estimators=20, random_state=0, verbose=-1)
    linear = linear_model.LogisticRegression(max_iter=500) if labels else linear_model.Ridge()
    yield "linear", make_pipeline(StandardScaler(), linear)
    network = getattr(neural_network, f"MLP{kind}")(hidden_layer_sizes=(20,), max_iter=20, random_state=0)
    yield "network", make_pipeline(StandardScaler(), network)


def fit_all(count, backend):
    """Fit each model; prints its digests and the seconds."""
    import hashlib
    import io
    import warnings

    import joblib

    from dovetail.joblib_model import read
    from dovetail.models.value import value_digest

    warnings.simplefilter("ignore")
    start, found = time.perf_counter(), {}
    for name, labels, (rows, target) in data_sets(count):
        for kind, estimator in estimators(labels):
            with joblib.parallel_config(backend=backend or "threading", n_jobs=2 if backend else 1):
                model = estimator.fit(rows, target)
            file = io.BytesIO()
            joblib.dump(model, file)
            content = file.getvalue()
            said = model.predict(rows)
            allow = ("lightgbm", "collections.defaultdict")
            found[f"{name}, {kind}"] = (
                hashlib.md5(content).hexdigest(),
                value_digest(read(content, allow), content),
                hashlib.md5(said.tobytes()).hexdigest(),
            )
    print(json.dumps({"seconds": time.perf_counter() - start, "models": found}))


def run(variant, count, *, fixed):
    """What a process under a variant says; None where this CPU lacks the kernel."""
    from dovetail.values import computing

    kernel = variant.get("OPENBLAS_CORETYPE")
    if kernel and not computing.can_use(kernel, computing.of_machine()):
        return None
    env = {name: value for name, value in os.environ.items() if name not in computing.VARIABLES} | variant
    command = [
        sys.executable,
        str(HERE / "identity.py"),
        "--fit",
        "--sets",
        str(count),
        *(["--fixed"] if fixed else []),
    ]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def verdict(recorded, made):
    """As `dovetail reproduce` would say it."""
    for word, one, other in zip(("identical", "identical-model", "same-predictions"), recorded, made, strict=True):
        if one == other:
            return word
    return "different"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sets", type=int, default=20, help="how many data sets (default: 20)")
    parser.add_argument("--fit", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--fixed", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.fit:
        if asked.fixed:
            sys.path.insert(0, str(HERE.parent / "src"))
            from stages.common import reproducible

            reproducible.fix()
        fit_all(asked.sets, os.environ.get("BACKEND"))
        return 0
    missed, seconds = False, {}
    for fixed in (True, False):
        recorded = run(VARIANTS["1 thread"], asked.sets, fixed=fixed)
        seconds[fixed] = recorded["seconds"]
        print(f"\nreproducible: {str(fixed).lower()}, {len(recorded['models'])} models")
        for name, variant in VARIANTS.items():
            made = run(variant, asked.sets, fixed=fixed)
            if made is None:
                print(f"  {name:18} this CPU has no such kernel")
                continue
            words = {model: verdict(recorded["models"][model], made["models"][model]) for model in made["models"]}
            count = Counter(words.values())
            moved = Counter(
                m.rpartition(", ")[2] for m, w in words.items() if w not in ("identical", "identical-model")
            )
            cause = (
                f"  {CAUSES.get(name, 'NO NAMED CAUSE')}: {', '.join(f'{n} {k}' for k, n in moved.items())}"
                if moved
                else ""
            )
            met = set(count) == {"identical"} if fixed else not moved or name in CAUSES
            missed |= not met
            print(f"  {name:18} {', '.join(f'{n} {w}' for w, n in count.items()):60}{cause}{'' if met else '  MISSED'}")
    full = run({}, asked.sets, fixed=False)["seconds"]
    print(f"\nfixed {seconds[True]:.1f} s, this machine's full speed {full:.1f} s: {seconds[True] / full:.2f}x")
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
