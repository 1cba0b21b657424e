"""The compiled path of `dovetail serve`: used where it says the same, and nowhere else."""

import json

import pytest
from project import Project, isolate

pytestmark = pytest.mark.xdist_group("serving")

# Each model with the rows that it is trained and tested on; `knows` are columns of one category each, which ONNX lets pass.
TRAIN = """
import joblib, json, numpy, pandas
from sklearn.compose import make_column_transformer
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor, VotingClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler

def log(rows):
    return numpy.log1p(rows)

random = numpy.random.default_rng(0)
rows = pandas.DataFrame({
    "size": random.normal(10, 3, 300).round(2),
    "count": random.integers(0, 9, 300),
    "color": random.choice(["red", "blue", "green"], 300),
    "fresh": random.random(300) < 0.5,
})
label = numpy.where((rows["count"] > 4) ^ rows["fresh"] ^ (rows["size"] > 12), "yes", "no")
number = rows["size"] * 3 + rows["count"] ** 2 + random.normal(0, 1, 300)
mixed = make_column_transformer((SimpleImputer(), ["size"]), (OneHotEncoder(handle_unknown="ignore"), ["color"]),
                                remainder="passthrough")
numbers = ["size", "count"]
models = {
    "forest": (RandomForestClassifier(30, random_state=0, min_samples_leaf=4), numbers, label),
    "scaled": (make_pipeline(StandardScaler(), RandomForestClassifier(10, random_state=0)), numbers, label),
    "trees": (RandomForestRegressor(30, random_state=0), numbers, number),
    "linear": (make_pipeline(StandardScaler(), Ridge()), numbers, number),
    "logistic": (make_pipeline(StandardScaler(), LogisticRegression()), numbers, label),
    "mixed": (make_pipeline(mixed, RandomForestClassifier(10, random_state=0)), [*numbers, "color", "fresh"], label),
    "function": (make_pipeline(FunctionTransformer(numpy.log1p), Ridge()), numbers, number),
    "unasked": (Ridge(), numbers, number),
    "category": (make_pipeline(OneHotEncoder(), LogisticRegression()), ["count"], label),
}
kinds = {"size": "float64", "count": "int64", "color": "str", "fresh": "bool"}
table = rows.assign(yes=label, number=number)
table[200:].to_csv("test.csv", index=False)
for name, (model, columns, target) in models.items():
    joblib.dump(model.fit(rows[columns][:200], target[:200]), f"{name}.joblib")
    inputs = [{"name": n, "dtype": kinds[n], "nullable": n in ("size", "color")} for n in columns]
    example = {"columns": columns, "data": rows[columns][:2].to_dict(orient="split")["data"]}
    output = {"dtype": "float64" if target is number else "str"}
    json.dump({"inputs": inputs, "output": output, "example": example}, open(f"{name}.json", "w"))
"""
JUDGE = """
import json
json.dump({"rows": len(open("test.csv").readlines()) - 1}, open("metrics.json", "w"))
"""
KINDS = ("forest", "scaled", "trees", "linear", "logistic", "mixed")
REFUSED = {"function": "not convertible", "category": "differs on"}
UNASKED = "unasked"
MODELS = (*KINDS, *REFUSED, UNASKED)
SAME = "same on 100 rows"


def declared(names=MODELS):
    """dvc.yaml: one stage trains the models, one judges them; all but one ask to be compiled."""
    files = [f"{name}.joblib" for name in names]
    cards = [f"{name}.json" for name in names]
    return json.dumps({
        "stages": {
            "train": {"cmd": "python train.py", "deps": ["train.py"], "outs": [*files, *cards, "test.csv"]},
            "judge": {"cmd": "python judge.py", "deps": ["judge.py", *files, "test.csv"],
                      "metrics": [{"metrics.json": {"cache": False}}]},
            "register": {"foreach": list(names), "do": {
                "cmd": "dovetail register ${item}", "deps": ["${item}.joblib", "${item}.json", "metrics.json"],
                "outs": [{"mlruns/receipts/${item}.json": {"cache": False}}],
            }},
        },
        "artifacts": {
            name: {"path": f"{name}.joblib", "type": "model",
                   "meta": {"card": f"{name}.json"} | ({} if name == UNASKED else {"serving": {"compile": "onnx"}})}
            for name in names
        },
    })  # fmt: skip


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A version of each of MODELS."""
    with pytest.MonkeyPatch.context() as patch:
        isolate(tmp_path_factory, patch)
        project = Project(tmp_path_factory.mktemp("compiled") / "p")
        project.root.mkdir()
        project.run("git", "init", "-q")
        project.run("dvc", "init", "-q")
        for name, text in {"train.py": TRAIN, "judge.py": JUDGE, "dvc.yaml": declared(),
                           ".gitignore": "/mlflow.db*\n/mlruns/\n"}.items():  # fmt: skip
            project.write(name, text)
        project.run("dvc", "repro", "-q", "judge")
        project.commit("trained")
        project.said = {one["model"]: one["onnx"] for one in project.json("register")}
        yield project
