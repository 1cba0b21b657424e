"""The compiled path of `dovetail serve`: used where it says the same, and nowhere else."""

import hashlib
import json
import random
import shutil

import pytest
from project import Project, facts, isolate, retag
from serving import Server

from dovetail.compiling import compiled_model, to_onnx
from dovetail.errors import UserError
from dovetail.serving.engine.model_process import ServedModel

pytestmark = pytest.mark.slow

TRAIN = """
import joblib, json, numpy, pandas
from sklearn.compose import make_column_transformer
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler

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


COLUMNS = {
    "size": ("double", lambda: round(random.gauss(10, 3), 2), (None, float("nan"), float("inf"), 1e300, -1e6, 40.0)),
    "count": ("long", lambda: random.randrange(9), (-100, 1 << 40)),
    "color": ("string", lambda: random.choice(["red", "blue", "green"]), (None, "nan", "rød", "")),
    "fresh": ("boolean", lambda: random.random() < 0.5, ()),
}
# Where onnxruntime and skl2onnx are not installed.
WITHOUT = """
from importlib.machinery import PathFinder
find = PathFinder.find_spec
PathFinder.find_spec = classmethod(
    lambda cls, name, *rest: None if name.partition(".")[0] in ("onnxruntime", "skl2onnx") else find(name, *rest)
)
"""


def folder(project, model):
    (found,) = (project.root / "mlruns" / model / "models").glob("*/artifacts")
    return found


def tags(project, model):
    return facts(project.store().client.get_model_version(model, "1"))


def md5(file):
    return hashlib.md5(file.read_bytes()).hexdigest()


def held(project, model, *, onnx):
    place, said = folder(project, model), tags(project, model)
    found = ServedModel(place, said["dovetail.model.md5"], (), said["dovetail.onnx.md5"] if onnx else None)
    found.warm()
    return found


def answers(held, method, rows):
    """What is said of each row, all of them asked together, and each by itself."""
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    said = held.predict(method, [len(rows)], columns) + held.predict(method, [1] * len(rows), columns)
    return [(well, json.loads(content)) for well, content in said]


def body(rows):
    return {"dataframe_records": rows}


def drawn(names, count):
    return [{name: COLUMNS[name][1]() for name in names} for _ in range(count)]


@pytest.mark.parametrize("model", MODELS)
def test_the_version_says_what_came_of_it(project, model):
    said, place = tags(project, model), folder(project, model)
    assert said.get("dovetail.onnx") == project.said[model]
    files = {file.relative_to(place).as_posix() for file in place.rglob("*") if file.is_file()}
    if model in KINDS:
        assert said["dovetail.onnx"] == SAME
        assert said["dovetail.onnx.md5"] == md5(place / compiled_model.FILE)
        files.remove(compiled_model.FILE)
    elif model in REFUSED:
        assert said["dovetail.onnx"].startswith(REFUSED[model])
    else:
        assert "dovetail.onnx" not in said
    assert ("dovetail.onnx.md5" in said) == (model in KINDS)
    others = {file.relative_to(folder(project, UNASKED)).as_posix() for file in folder(project, UNASKED).rglob("*")}
    assert {file.replace(f"{model}.", f"{UNASKED}.") for file in files} <= others  # no trace of it elsewhere
    assert "onnx" not in (place / "MLmodel").read_text()
    assert md5(place / "data" / f"{model}.joblib") == md5(project.root / f"{model}.joblib")


def alone(project, model):
    """The compiled model by itself."""
    return compiled_model.Compiled((folder(project, model) / compiled_model.FILE).read_bytes())


@pytest.mark.parametrize("model", KINDS)
def test_it_says_what_scikit_learn_says(project, model):
    random.seed(model)
    plain, quick = held(project, model, onnx=False), held(project, model, onnx=True)
    assert (plain.about["compiled"], quick.about["compiled"]) == (None, "onnx")
    onnx, names = alone(project, model), [column.name for column in quick.signature.columns]
    usual = drawn(names, 300)
    strange = [{**row, name: value} for name in names for value in COLUMNS[name][2] for row in drawn(names, 1)]
    assert onnx.feeds({name: [row[name] for row in usual] for name in names}) is not None
    assert onnx.feeds({name: [] for name in names}) is None
    for method in quick.about["methods"]:
        for rows in (usual, strange, usual[:20] + strange[:1]):
            ours, theirs = answers(quick, method, rows), answers(plain, method, rows)
            wrong = [pair for pair in zip(ours, theirs, strict=True) if not compiled_model.is_same(*map(list, pair))]
            assert not wrong
            if model in ("forest", "scaled", "trees", "mixed"):  # the very bits
                assert ours == theirs
        assert [onnx.answer(method, {name: [value] for name, value in row.items()}) for row in strange] == [None] * len(
            strange
        )


def test_a_tie_is_left_to_scikit_learn(project):
    random.seed(0)
    quick, plain = held(project, "scaled", onnx=True), held(project, "scaled", onnx=False)
    rows = drawn(["size", "count"], 1000)
    _, *each = answers(plain, "predict_proba", rows)
    tied = [row for row, (_, (scores,)) in zip(rows, each, strict=True) if scores[0] == scores[1]]
    assert tied
    assert alone(project, "scaled").answer("predict", {name: [value] for name, value in tied[0].items()}) is None
    assert answers(quick, "predict", tied) == answers(plain, "predict", tied)


def test_it_is_served(project):
    random.seed(0)
    rows = drawn(["size", "count"], 50)
    plain = held(project, "forest", onnx=False)
    with Server(project, "--no-log", ref="forest/1") as server:
        about = server.ask("/model").json
        assert (about["compiled"], about["not_compiled"]) == ("onnx", None)
        for method in ("predict", "predict_proba"):
            (_, said), *_ = answers(plain, method, rows)
            assert server.predict({**body(rows), "params": {"method": method}}).json["predictions"] == said
        gap = [{"size": None, "count": 3}]
        (_, said), *_ = answers(plain, "predict", gap)
        assert server.predict(body(gap)).json["predictions"] == said


def test_a_compiled_file_that_is_another_is_not_used(project):
    file = folder(project, "logistic") / compiled_model.FILE
    whole = file.read_bytes()
    file.write_bytes((folder(project, "forest") / compiled_model.FILE).read_bytes())
    refused = project.run("dovetail", "serve", "logistic/1", "--port", "0", "--no-log", code=None)
    assert refused.returncode
    assert "is not what MLflow's tag of the version names" in refused.stderr
    client, package = project.store().client, tags(project, "logistic")["dovetail.package"]
    retag(client, "logistic", 1, package=None)  # as one from before packages had a digest
    try:
        with Server(project, "--no-log", ref="logistic/1") as server:
            about = server.ask("/model").json
            assert about["compiled"] is None
            assert md5(file) in about["not_compiled"]
            assert server.health()["status"] == "ok"
            (_, said), *_ = answers(
                held(project, "logistic", onnx=False), "predict", rows := drawn(["size", "count"], 9)
            )
            assert server.predict(body(rows)).json["predictions"] == said
    finally:
        file.write_bytes(whole)
        retag(client, "logistic", 1, package=package)
    (copy,) = (project.root / "mlruns/serving/logistic@1").rglob(compiled_model.FILE)
    with Server(project, "--no-log", ref="logistic/1") as server:  # its copy is brought anew
        server.until(lambda: copy.is_file() and copy.read_bytes() == whole)


@pytest.fixture
def wrong(project):
    """A model whose compiled file is another one's, of the same columns, with the tag that it needs to be opened."""
    place = folder(project, "logistic")
    file, example = place / compiled_model.FILE, place / "serving_input_example.json"
    kept = file.read_bytes(), example.read_bytes()

    def loaded(rows):
        file.write_bytes((folder(project, "forest") / compiled_model.FILE).read_bytes())
        if rows is None:
            example.unlink()
        else:
            example.write_text(json.dumps({"dataframe_split": {"columns": ["size", "count"], "data": rows}}))
        found = ServedModel(place, tags(project, "logistic")["dovetail.model.md5"], (), md5(file))
        found.warm()
        return found

    yield loaded
    file.write_bytes(kept[0])
    example.write_bytes(kept[1])


@pytest.mark.parametrize("rows", [[[10.0, 3], [1e9, 3]], [[1e9, 3], [10.0, 3]]])
def test_a_compiled_model_that_says_something_else_here_is_not_used_whatever_the_example_holds_besides(
    project, wrong, rows
):
    said = wrong(rows)
    assert said.about["compiled"] is None
    assert "does not say the same of the input example here" in said.about["not_compiled"]
    plain = held(project, "logistic", onnx=False)
    assert answers(said, "predict_proba", [{"size": 10.0, "count": 3}]) == answers(
        plain, "predict_proba", [{"size": 10.0, "count": 3}]
    )


@pytest.mark.parametrize(("rows", "why"), [([[1e9, 3]], "no row of the input example could be tried here by predict"),
                                           (None, "there is no input example to try it on here")])  # fmt: skip
def test_a_compiled_model_of_which_no_row_could_be_tried_here_is_not_used(wrong, rows, why):
    said = wrong(rows)
    assert said.about["compiled"] is None
    assert said.about["not_compiled"].startswith(why)


def test_without_the_packages_everything_goes_on(project, tmp_path):
    (tmp_path / "sitecustomize.py").write_text(WITHOUT)
    without = {"PYTHONPATH": str(tmp_path)}
    with Server(project, "--no-log", ref="linear/1", **without) as server:
        about = server.ask("/model").json
        assert about["compiled"] is None
        assert "onnxruntime" in about["not_compiled"]
        assert server.predict(body(drawn(["size", "count"], 3))).status == 200
    project.store().client.delete_model_version("linear", "1")
    (made,) = project.json("register", "linear", **without)
    assert (made["version_created"], made["onnx"]) == (True, "not compiled: skl2onnx and onnxruntime not installed")
    (again,) = project.json("register", "linear")
    assert (again["version"], again["version_created"], again["onnx"]) == (made["version"], False, SAME)


def test_a_repaired_version_has_it_again(project):
    place, before = folder(project, "mixed"), tags(project, "mixed")["dovetail.onnx.md5"]
    assert before == md5(place / compiled_model.FILE)
    assert project.run("dovetail", "doctor").stdout == "no problems found\n"
    shutil.rmtree(place)
    assert project.json("sync", "--repair")["repaired"] == ["mixed/1"]
    assert md5(place / compiled_model.FILE) == tags(project, "mixed")["dovetail.onnx.md5"]
    assert held(project, "mixed", onnx=True).about["compiled"] == "onnx"


def test_a_compiled_model_that_is_not_the_tagged_one_is_told_and_made_anew(project):
    file = folder(project, "mixed") / compiled_model.FILE
    before = md5(file)

    def tag():
        retag(project.store().client, "mixed", 1, onnx_md5="0" * 32)

    for broken in (lambda: file.write_bytes(file.read_bytes() + b"!"), file.unlink, tag):
        broken()
        (found,) = json.loads(project.run("dovetail", "doctor", "--json", code=1).stdout)["problems"]
        assert "compiled" in found["why"]
        assert found["next"] == "dovetail sync --repair"
        assert project.json("sync", "--repair")["repaired"] == ["mixed/1"]
        assert md5(file) == tags(project, "mixed")["dovetail.onnx.md5"] == before
    assert project.run("dovetail", "doctor").stdout == "no problems found\n"


def test_a_version_that_is_there_is_compiled_once_it_is_asked_for(project):
    before = md5(folder(project, UNASKED) / "MLmodel")
    asked = json.loads(declared())
    asked["artifacts"][UNASKED]["meta"]["serving"] = {"compile": "onnx"}
    project.write("dvc.yaml", json.dumps(asked))
    (done,) = project.json("register", UNASKED)
    assert (done["version"], done["version_created"], done["onnx"]) == (1, False, SAME)
    assert md5(folder(project, UNASKED) / "MLmodel") == before
    assert held(project, UNASKED, onnx=True).about["compiled"] == "onnx"


@pytest.mark.parametrize("given", ["onnx", {"compiler": "onnx"}, {"compile": "tvm"}, {"compile": True}])
def test_what_is_asked_for_wrongly_is_refused(given):
    with pytest.raises(UserError, match=r"artifacts\.m\.meta\.serving") as refused:
        to_onnx.is_wanted("m", given)
    assert "compile" in refused.value.next_command


def test_what_the_file_says_is_read_back():
    columns = (
        compiled_model.ColumnRange("a", "float64", -1.5, 1e300),
        compiled_model.ColumnRange("b", "str", texts=("x", "é")),
    )
    about = compiled_model.ModelMetadata(columns, whole=False, methods=("predict",))
    assert compiled_model.ModelMetadata.parse(about.text()) == about
