"""A classifier of each kind that predicts on tables: promoted, served, monitored, retrained, reproduced."""

import pytest
from project import Project
from serving import Server

pytestmark = pytest.mark.slow

TRAIN = """
import json, numpy as np, pandas as pd
rows = pd.read_csv("rows.csv")
train, test = rows[rows.index % 4 > 0], rows[rows.index % 4 == 0]
inputs, label = train[["u", "v"]].astype("float64"), train["label"]
WRITE
test.to_csv("test.csv", index=False)
said = (test["u"] > 3).astype(int)  # as each of them learns it
json.dump({"accuracy": float((said == test["label"]).mean())}, open("metrics.json", "w"))
columns = [{"name": name, "dtype": "float64", "nullable": False} for name in ("u", "v")]
example = {"columns": ["u", "v"], "data": [[1.0, 2.0], [5.0, 3.0]]}
json.dump({"inputs": columns, "output": {"dtype": "OUTPUT"}, "example": example}, open("card.json", "w"))
"""
KINDS = {  # what it writes, and whether it answers with probabilities: its library's Booster does
    "lightgbm": (
        (
            "import lightgbm; lightgbm.LGBMClassifier(n_estimators=9, verbose=-1, num_threads=1, deterministic=True)"
            ".fit(inputs, label).booster_.save_model('model')"
        ),
        True,
    ),
    "xgboost ubj": (
        (
            "import xgboost; m = xgboost.train({'objective': 'binary:logistic', 'nthread': 1}, "
            "xgboost.DMatrix(inputs, label), 9)\nopen('model', 'wb').write(bytes(m.save_raw('ubj')))"
        ),
        True,
    ),
    "catboost": (
        (
            "import catboost; catboost.CatBoostClassifier(iterations=9, verbose=0, allow_writing_files=False, "
            "thread_count=1).fit(inputs, label).save_model('model')"
        ),
        False,
    ),
    "onnx": (
        (
            "from skl2onnx import to_onnx; from sklearn.tree import DecisionTreeClassifier as Tree\n"
            "table = inputs.to_numpy('float32')\n"
            "m = to_onnx(Tree(random_state=0).fit(table, label), table[:1], options={'zipmap': False})\n"
            "open('model', 'wb').write(m.SerializeToString(deterministic=True))"
        ),
        False,
    ),
    "skops": (
        (
            "import skops.io; from sklearn.tree import DecisionTreeClassifier as Tree\n"
            "skops.io.dump(Tree(random_state=0).fit(inputs, label), 'model')"
        ),
        False,
    ),
}
DVC_YAML = """
stages:
  train:
    cmd: python train.py
    deps: [train.py, rows.csv]
    outs: [model, test.csv, card.json]
    metrics: [{metrics.json: {cache: false}}]
  judge: {cmd: cp test.csv judged.csv, deps: [test.csv, model], outs: [judged.csv]}
  register:
    cmd: dovetail register m
    deps: [model, card.json, metrics.json, judged.csv]
    outs: [{mlruns/receipts/m.json: {cache: false}}]
artifacts:
  m:
    path: model
    type: model
    meta:
      card: card.json
      gates: {accuracy: {min: 0.5}, champion: {target: label, min_rows: 8}}
      retrain: {label: label}
"""
ROWS = [(i % 7, i, int(i % 7 > 3)) for i in range(240)]


def table(rows):
    return "u,v,label\n" + "".join(f"{u},{v},{label}\n" for u, v, label in rows)


@pytest.mark.parametrize("kind", KINDS)
def test_a_model_of_the_kind_goes_all_the_way(tmp_path, kind):
    written, gives_probabilities = KINDS[kind]
    project = Project(tmp_path)
    project.run("git", "init", "-q")
    project.run("dvc", "init", "-q")
    output = "float64" if gives_probabilities else "int64"
    project.write("train.py", TRAIN.replace("WRITE", written).replace("OUTPUT", output))
    project.write("dvc.yaml", DVC_YAML)
    project.write(".gitignore", "/mlflow.db*\n/mlruns/\n/monitoring/\n/new.csv\n")
    project.write("rows.csv", table(ROWS))
    project.run("dvc", "add", "-q", "rows.csv")
    project.run("dvc", "repro", "-q")
    project.commit("first")
    assert project.json("promote", "m")["promoted"]
    assert project.json("reproduce", "m")["verdict"] in ("identical", "identical-model")

    with Server(project) as server:
        for begin in range(0, len(ROWS), 60):
            part = ROWS[begin : begin + 60]
            body = {"dataframe_split": {"columns": ["u", "v"], "data": [[float(u), float(v)] for u, v, _ in part]}}
            answer = server.predict(body)
            said = [float(one) > 0.5 for one in answer.json["predictions"]]
            assert said == [bool(label) for *_, label in part]
            labels = {"request_id": answer.headers["x-request-id"], "labels": [label for *_, label in part]}
            assert server.ask("/feedback", labels).status < 300
        server.end()
    seen = project.json("monitor", "m", code=None)
    assert (seen["verdict"], seen["rows"], seen["labelled"]) == ("stable", 240, 240), seen
    assert seen["metric"]["served"]["value"] == 1.0, seen["metric"]

    project.write("new.csv", table([(i % 7, 300 + i, int(i % 7 > 3)) for i in range(40)]))
    made = project.json("retrain", "m", "--with", "new.csv")
    assert (made["rows"]["added"], made["passed"]) == (40, True), made
    project.run("git", "merge", "-q", made["branch"])
    project.run("dvc", "checkout", "-q")
    answer = project.json("promote", "m", "--version", str(made["version"]))
    assert answer["promoted"], answer
