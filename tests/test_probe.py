"""A model is read and asked before MLflow shows it: what cannot predict never gets there."""

import shutil
import sys
from multiprocessing import resource_tracker

import psutil
import pytest
from project import Project

from dovetail.registration import loading, probe
from dovetail.repo.workspace import open_workspace
from dovetail.tracking.connection import Tracking

ESTIMATOR = 'model = DummyRegressor(strategy="constant", constant=w).fit([[0.0]], [0.0])'


@pytest.mark.parametrize(
    ("model", "why"),
    [
        ("{'w': w}", "it holds a dict, which has no method predict"),
        (
            "__import__('sklearn.preprocessing').preprocessing.StandardScaler().fit([[0.0]])",
            "StandardScaler, which has",
        ),
        ("[1, 2]", "it holds a list"),
        ("None", "it holds a NoneType"),
        ("DummyRegressor", "it holds the class DummyRegressor, not an instance of it"),
        ("DummyRegressor()", "it holds a DummyRegressor that was never fitted"),
    ],
    ids=["dict", "transformer", "list", "nothing", "class", "not fitted"],
)
def test_what_has_no_way_to_predict_is_refused_and_nothing_is_written(small, model, why):
    small.replace("train.py", "joblib.dump(model,", f"joblib.dump({model},")
    small.run("dvc", "repro", "-q", "train")
    done = small.run("dovetail", "register", code=2)
    assert "out/m.joblib is not a model that can be served" in done.stderr
    assert why in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (small.root / "mlruns/receipts").exists()
    assert not (small.root / "mlflow.db").exists() or small.store().counts() == (0, 0)


@pytest.mark.parametrize(
    "content", ["any text", "", "PK\x03\x04 half", "\x80\x04half"], ids=["text", "empty", "zip", "cut"]
)
def test_bytes_that_are_no_model_are_refused(small, content):
    small.replace("train.py", 'joblib.dump(model, "out/m.joblib")', f"open('out/m.joblib', 'w').write({content!r})")
    small.run("dvc", "repro", "-q", "train")
    done = small.run("dovetail", "register", code=2)
    assert "out/m.joblib is not a model that can be served: " in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_model_that_does_not_answer_its_own_example_is_refused(judged):
    judged.replace("train.py", 'fit(rows[["u", "v"]]', 'fit(rows[["u"]]')
    judged.replace("judge.py", 'predict(rows[["u", "v"]]', 'predict(rows[["u"]]')
    judged.run("dvc", "repro", "-q", "judge")
    done = judged.run("dovetail", "register", code=2)
    assert "m.joblib is not a model that can be served" in done.stderr
    assert judged.store().counts() == (1, 1)  # of the template


CARD = 'json.dump({"inputs": inputs, "output": {"dtype": "str"}, "example": example}, open("card.json", "w"))'
EXAMPLE = '{"columns": ["u", "v"], "data": [[1, 2], [5, 3]]}'
NO_TABLE = "the example in the model's card is not a table of its inputs"
WRITTEN = [
    (EXAMPLE, '{"columns": ["u"], "data": [[1], [5]]}', NO_TABLE),
    (EXAMPLE, '{"columns": ["u", "v"], "data": 5}', NO_TABLE),
    (EXAMPLE, "[1]", NO_TABLE),
    (CARD, 'open("card.json", "w").write("[1]")', "card.json of the working tree is [1], not a mapping"),
    (CARD, 'open("card.json", "w").write("{")', "card.json of the working tree cannot be read"),
    ('{"dtype": "str"}', '{"dtype": "words"}', "the model's card does not describe inputs and output"),
    (
        'open("metrics.json", "w"))',
        'open("metrics.json", "w")); open("metrics.json", "w").write("text")',
        "metrics.json of",
    ),
]


@pytest.mark.slow
def test_a_card_or_metrics_that_a_stage_wrote_and_that_are_none_are_refused_until_it_is_corrected(judged):
    right = (judged.root / "judge.py").read_text()
    for old, new, why in WRITTEN:
        judged.write("judge.py", right.replace(old, new, 1))
        judged.run("dvc", "repro", "-q", "judge")
        done = judged.run("dovetail", "register", code=2)
        assert why in done.stderr
        assert done.stderr.endswith("; next: correct what writes it, then: dvc repro\n")
        assert done.stderr.count("\n") == 1
    judged.write("judge.py", right)
    judged.run("dvc", "repro", "-q")
    assert judged.json("status")["models"][0]["in_sync"]


def test_a_class_that_nobody_allowed_is_shown_but_not_staged_and_the_line_that_allows_it_is_said(small):
    small.write("mine.py", "class Mine:\n    def predict(self, rows):\n        return [1] * len(rows)\n")
    small.replace("train.py", "joblib.dump(model", "from mine import Mine; joblib.dump(Mine()")
    done = small.run("dvc", "repro")
    assert "it names mine.Mine; it was not loaded" in done.stdout
    assert "pickle: {allow: [mine.Mine]}" in done.stdout
    assert small.store().aliases() == {"m": {}}
    small.replace("dvc.yaml", "accuracy: {min: 0.5}", "accuracy: {min: 0.5}, pickle: {allow: [mine.Mine]}")
    done = small.run("dovetail", "register", code=2)
    assert (
        "it names mine.Mine, and mine is not installed; next: install it, or set PYTHONPATH to its folder"
        in done.stderr
    )
    assert small.json("register", PYTHONPATH=str(small.root))[0]["aliases"] == ["staging"]


@pytest.mark.slow
def test_a_skops_file_is_registered_promoted_and_loaded_by_mlflow(small):
    small.replace(
        "train.py", 'joblib.dump(model, "out/m.joblib")', "import skops.io; skops.io.dump(model, 'out/m.joblib')"
    )
    small.replace("train.py", "model.rows_ = rows", "model.rows_ = len(rows)")
    small.run("dvc", "repro", "-q")
    small.commit("skops")
    assert small.json("promote", "m")["promoted"]
    load = "import mlflow; print(mlflow.pyfunc.load_model('models:/m@production').predict([[0], [0]]))"
    uri = f"sqlite:///{small.root}/mlflow.db"
    assert small.run("python", "-c", load, MLFLOW_TRACKING_URI=uri).stdout.strip() == "[7 7]"


@pytest.mark.slow
def test_the_next_model_is_begun_before_the_first_has_answered_and_ends_with_who_asks(registered, monkeypatch):
    registered.write("params.yaml", "train: {w: 8}\n")
    registered.run("dvc", "repro", "-q")
    monkeypatch.setattr(loading, "cores", lambda: 2)
    monkeypatch.setattr(probe, "_SECONDS", 0)
    resource_tracker.ensure_running()  # Python's own, where a process is started anew and not forked
    ours, before = psutil.Process(), set(psutil.Process().children())

    def begun():
        return len({*ours.children()} - before)  # one that has ended is there until it is waited for

    with open_workspace(registered.root) as workspace, Tracking(registered.root).store() as store:
        store.client.set_registered_model_alias("m", "blue", "1")
        found = loading.unreadable(workspace, store, ["m"], ignore_cache=True)
        assert next(found).version.number == 1
        assert begun() == 1
        found.close()
        assert begun() == 0
        answers = loading.unreadable(workspace, store, ["m"], ignore_cache=True)
        assert [one.version.number for one in answers] == [1, 2]
        assert begun() == 0


PROBED = """
import sys
from dovetail.cli import main
try:
    main(["status"])
finally:
    print("dovetail.registration.probe" in sys.modules)
"""


@pytest.mark.slow
def test_what_a_copy_of_the_project_found_to_load_is_known_to_the_project(registered, tmp_path):
    registered.write("code/mine.py", "")
    copy = Project(shutil.copytree(registered.root, tmp_path / "copy", symlinks=True))
    known = ".dvc/tmp/dovetail-models-that-load.json"
    for project in (registered, copy):
        (project.root / known).unlink()

    def probed():
        code = str(registered.root / "code")
        done = registered.run(sys.executable, "-c", PROBED, plain=True, code=None, PYTHONPATH=code)
        return done.stdout.splitlines()[-1]

    copy.run("dovetail", "register", "m", DVC_ROOT=str(registered.root), PYTHONPATH=str(copy.root / "code"))
    assert not (copy.root / known).exists()
    assert (registered.root / known).exists()
    assert probed() == "False"
    registered.write("code/mine.py", "changed = True\n")
    assert probed() == "True"


def test_a_model_for_which_there_was_no_time_is_not_called_a_bad_one(registered, monkeypatch):
    """A machine that others keep busy says nothing of the model: no other version is advised."""
    monkeypatch.setattr(probe, "_SECONDS", 0)
    said = probe.refusal(registered.root / "out/m.joblib", ())
    assert (said.why, said.is_local) == ("no answer in 0 s", True)
    assert said.next_command.startswith("run the same command again")
