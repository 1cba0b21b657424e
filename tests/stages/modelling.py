"""Tables, params and a process for the tests of split, train and evaluate."""

import os
import subprocess
from pathlib import Path

import commands
import numpy as np
import polars as pl
import yaml
from sklearn.datasets import load_diabetes, load_iris

from stages.common.params import Params

STAGES = Path(__file__).resolve().parents[2] / "src" / "stages"
FOREST = "sklearn.ensemble.RandomForestClassifier"
LOGISTIC = "sklearn.linear_model.LogisticRegression"
RIDGE = "sklearn.linear_model.Ridge"


def iris():
    bunch = load_iris()
    names = ["sepal_length", "sepal_width", "petal_length", "petal_width"]
    return pl.DataFrame(bunch.data, schema=names).with_columns(species=pl.Series(bunch.target_names[bunch.target]))


def diabetes():
    bunch = load_diabetes()
    return pl.DataFrame(bunch.data, schema=bunch.feature_names).with_columns(progression=pl.Series(bunch.target))


def penguins():
    """120 rows of three species with text columns and with missing values in numbers and text."""
    rng = np.random.default_rng(1)
    kind = np.arange(120) % 3
    mass = np.where(rng.random(120) < 0.1, None, 3000 + 800 * kind + rng.normal(0, 150, 120).round())
    sex = np.where(rng.random(120) < 0.1, None, rng.choice(["female", "male"], 120))
    return pl.DataFrame(
        {
            "species": np.array(["Adelie", "Chinstrap", "Gentoo"])[kind].tolist(),
            "island": rng.choice(["Biscoe", "Dream"], 120).tolist(),
            "body_mass_g": pl.Series(mass.tolist(), dtype=pl.Float64),
            "sex": sex.tolist(),
            "year": pl.Series(rng.choice([2007, 2008], 120), dtype=pl.Int64),
        }
    )


def config(target="species", estimator=FOREST, split=None, prepare="minimal", given=None, **params):
    """Content of params.yaml: one model `m` of one dataset `d`; `given` are more of the estimator's params."""
    how = {"test_size": 0.2, "seed": 42, "stratify": False, **(split or {})}
    train = {"estimator": estimator, "prepare": prepare, "params": params | (given or {})}
    model = {"data": "d", "target": target, "split": how, "train": train, "gates": {}}
    dataset = {
        "raw": "data/raw/d.csv",
        "schema": {"columns": {"x": {"dtype": "float64"}}},
        "clean": {"engine": "polars", "max_rejected": 0.0},
        "deliver": [],
    }
    return {"sources": {"files": {}, "outside": {}}, "datasets": {"d": dataset}, "models": {"m": model}}


def params(*args, **kwargs):
    return Params.model_validate(config(*args, **kwargs))


def stage(folder, name, content, **options):
    """Run a stage as dvc.yaml does, in its own process with `folder` as the repository's root."""
    (folder / "params.yaml").write_text(yaml.safe_dump(content))
    paths = [part for option, path in options.items() for part in (f"--{option}", str(path))]
    env = {**os.environ, "PATH": commands.path()}
    command = ["python", str(STAGES), name, "m", *paths]
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False)


def files(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
