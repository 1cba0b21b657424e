"""A search for params: by the train part alone, the same whether or not it was interrupted, its best refitted."""

import json
import os
import re
import signal
import subprocess
import sys
import time

import commands
import joblib
import numpy as np
import polars as pl
import pytest
import yaml
from modelling import FOREST, LOGISTIC, RIDGE, STAGES, config, diabetes, iris, penguins, stage
from sklearn.linear_model import Ridge
from sklearn.metrics import accuracy_score, r2_score
from sklearn.model_selection import StratifiedKFold, cross_val_score
from sklearn.tree import DecisionTreeClassifier

from stages import evaluate, split, train
from stages.common.errors import StageError
from stages.common.params import Params, load_params
from stages.evaluation.metrics import baseline
from stages.modelling import table
from stages.training import metrics, search
from stages.training.trials import Rows, Scoring

TREE = "sklearn.tree.DecisionTreeClassifier"
DEPTHS = {"max_depth": {"low": 1, "high": 6}, "criterion": ["gini", "entropy"]}


def asked(space, trials=4, metric=None, seed=0, *, at_once=1, sample=None, **kwargs):  # noqa: PLR0913  (as a block has them)
    content = config(**kwargs)
    content["models"]["m"]["train"] |= {"sample": sample} if sample else {}
    more = {"metric": metric} if metric else {}
    content["models"]["m"]["train"]["search"] = {
        "space": space,
        "trials": trials,
        "seed": seed,
        "at_once": at_once,
        **more,
    }
    return Params.model_validate(content)


def prepared(folder, data, params):
    data.write_parquet(folder / "clean.parquet")
    parts = {name: folder / f"{name}.parquet" for name in ("train", "test")}
    split.run("m", params, clean=folder / "clean.parquet", **parts)
    return parts


def searched(folder, data, space, *, judged=False, **kwargs):
    """What `train` found, and the model; `judged`: metrics and card of `evaluate`, too."""
    params = asked(space, **kwargs)
    parts = prepared(folder, data, params)
    files = {"model": folder / "m.joblib", "search": folder / "m.search.json"}
    train.run("m", params, train=parts["train"], **files)
    found, model = json.loads(files["search"].read_text()), joblib.load(files["model"])
    if not judged:
        return found, model
    out = {name: folder / path for name, path in {"metrics": "m.json", "card": "c.json", "plots": "p"}.items()}
    evaluate.run("m", params, **files, **parts, **out, importance=folder / "i.csv")
    return found, model, json.loads(out["metrics"].read_text()), json.loads(out["card"].read_text())


def test_the_best_of_the_trials_is_refitted_and_stands_in_metrics_and_card(tmp_path):
    found, model, numbers, card = searched(tmp_path, iris(), DEPTHS, judged=True, estimator=TREE, random_state=0)
    best = max(found["trials"], key=lambda trial: trial["score"])
    assert found["best"] == best
    assert {name: model.get_params()[name] for name in DEPTHS} == best["params"]
    features, target = table.read(tmp_path / "train.parquet", "species", "split@m")
    again = DecisionTreeClassifier(random_state=0, **best["params"]).fit(features, target)
    assert (model.predict(features) == again.predict(features)).all()
    depth = {"max_depth": best["params"]["max_depth"]}
    assert numbers["search"] == {"score": best["score"], "trials": 4, "failed": 0, "params": depth}
    assert card["search"]["best"] == best
    assert [trial["trial"] for trial in card["search"]["trials"]] == [0, 1, 2, 3]


def test_trials_are_scored_by_the_folds_where_there_are_some(tmp_path):
    how = {"folds": 3, "stratify": True}
    found, _ = searched(tmp_path, iris(), DEPTHS, trials=2, estimator=TREE, random_state=0, split=how)
    features, target = table.read(tmp_path / "train.parquet", "species", "split@m")
    folds = StratifiedKFold(3, shuffle=True, random_state=42)
    for trial in found["trials"]:
        model = DecisionTreeClassifier(random_state=0, **trial["params"])
        assert trial["score"] == pytest.approx(cross_val_score(model, features, target, cv=folds).mean())
    assert found["scored_on"] == "3 folds of the train part"


@pytest.mark.parametrize("how", [{}, {"time": "day"}, {"group": "who"}, {"folds": 2, "group": "who"}])
def test_the_test_part_has_no_say(tmp_path, how):
    """With other rows in it the trials and the model have the same bytes."""
    rng = np.random.default_rng(0)
    data = iris().with_columns(day=pl.Series(range(150)), who=pl.Series(rng.integers(0, 12, 150)))
    bytes_of = []
    for name in ("as it is", "emptied"):
        (folder := tmp_path / name).mkdir()
        params = asked(DEPTHS, trials=3, estimator=TREE, random_state=0, split=how)
        parts = prepared(folder, data, params)
        if name == "emptied":
            pl.read_parquet(parts["test"]).head(1).write_parquet(parts["test"])
        train.run("m", params, train=parts["train"], model=folder / "m.joblib", search=folder / "s.json")
        bytes_of.append([(folder / file).read_bytes() for file in ("m.joblib", "s.json")])
    assert bytes_of[0] == bytes_of[1]


@pytest.mark.parametrize(("metric", "at_once"), [("log_loss", 1), ("accuracy", 1), ("accuracy", 5)])
def test_an_interrupted_search_goes_on_and_finds_the_same(tmp_path, metric, at_once):
    space = {
        **DEPTHS,
        "min_impurity_decrease": {"low": 1e-4, "high": 0.3, "log": True},
        "splitter": ["best", "no such"],
    }
    params = asked(space, trials=16, estimator=TREE, random_state=0, metric=metric, at_once=at_once)
    parts = prepared(tmp_path, iris(), params)
    spec, file = params.models["m"], tmp_path / "journal"
    scoring = Scoring("p: models.m", spec, Rows(*table.read(parts["train"], "species", "split@m")))
    whole = search.search(scoring, spec, search.Journal(file, "state"))
    text = file.read_text()
    assert [len(text.splitlines()), sum("failed" in trial for trial in whole["trials"]) > 0] == [17, True]
    file.write_text("".join(text.splitlines(keepends=True)[:13])[:-5])  # killed while it wrote the twelfth trial
    journal = search.Journal(file, "state")
    assert len(journal.known) == 11
    assert search.search(scoring, spec, journal) == whole
    assert file.read_text() == text
    assert search.Journal(file, "another state").known == []  # other data or params: from the beginning


TO_TRY = {"space": DEPTHS, "trials": 3, "at_once": 2, "metric": "log_loss"}


def trained(folder, content, env, monkeypatch):
    """The bytes of the model and of its search, in a process of its own."""
    for name in ("PARTS_WORKERS", "PARTS_CLUSTER"):
        monkeypatch.delenv(name, raising=False)
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    done = stage(folder, "train", content, train="train.parquet", model="m.joblib", search="s.json")
    assert (done.returncode, done.stderr) == (0, "")
    return [(folder / name).read_bytes() for name in ("m.joblib", "s.json")]


def to_search(folder, **how):
    content = config(estimator=FOREST, n_estimators=20, random_state=0, split={"folds": 3}) | {
        "reproducible": True,
        **how,
    }
    content["models"]["m"]["train"]["search"] = TO_TRY
    prepared(folder, iris(), Params.model_validate(content))
    return content


@pytest.mark.slow
def test_trials_side_by_side_find_what_one_process_finds(tmp_path, monkeypatch):
    content = to_search(tmp_path)
    alone = trained(tmp_path, content, {}, monkeypatch)
    assert trained(tmp_path, content, {"PARTS_WORKERS": "2"}, monkeypatch) == alone
    assert len(json.loads(alone[1])["trials"]) == 3
    assert not list(tmp_path.glob(".*"))


def test_a_cluster_whose_machines_may_compute_otherwise_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("PARTS_CLUSTER", "tcp://127.0.0.1:9")
    content = to_search(tmp_path, reproducible=False)
    done = stage(tmp_path, "train", content, train="train.parquet", model="m.joblib", search="s.json")
    assert done.returncode == 2
    assert "PARTS_CLUSTER: other machines score trials as this one does with reproducible: true alone" in done.stderr


@pytest.mark.slow
def test_a_killed_train_goes_on_from_its_trials_and_writes_the_same_bytes(tmp_path):
    content = config(estimator=FOREST, n_estimators=30, random_state=0) | {"reproducible": True}
    content["models"]["m"]["train"]["search"] = {"space": DEPTHS, "trials": 30}
    prepared(tmp_path, iris(), Params.model_validate(content))
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(content))

    def command(name):
        paths = {"train": "train.parquet", "model": f"{name}.joblib", "search": f"{name}.json"}
        options = [part for option, path in paths.items() for part in (f"--{option}", path)]
        return [str(STAGES), "train", "m", *options]

    def run(name):
        served = {"env": {**os.environ, "PATH": commands.path()}, "capture_output": True, "text": True}
        return subprocess.run(["python", *command(name)], cwd=tmp_path, check=True, **served).stdout

    run("whole")
    journal = tmp_path / ".killed.json.journal.tmp"
    running = subprocess.Popen([sys.executable, *command("killed")], cwd=tmp_path, stdout=subprocess.DEVNULL)
    while not journal.exists() or journal.read_text().count("\n") < 4:
        assert running.poll() is None, "it ended before it could be killed"
        time.sleep(0.01)
    running.send_signal(signal.SIGKILL)
    running.wait()
    assert not (tmp_path / "killed.joblib").exists()
    assert int(re.match(r"train@m: (\d+) trials are done already", run("killed"))[1]) >= 3
    for ending in ("joblib", "json"):
        assert (tmp_path / f"killed.{ending}").read_bytes() == (tmp_path / f"whole.{ending}").read_bytes()
    assert not journal.exists()


def test_a_trial_that_was_done_keeps_its_params_whatever_is_proposed_now(tmp_path):
    params = asked(DEPTHS, trials=8, estimator=TREE, random_state=0, at_once=4)
    parts = prepared(tmp_path, iris(), params)
    spec, file = params.models["m"], tmp_path / "journal"
    scoring = Scoring("p: models.m", spec, Rows(*table.read(parts["train"], "species", "split@m")))
    whole = search.search(scoring, spec, search.Journal(file, "state"))["trials"]
    state, *lines = file.read_text().splitlines()
    other = {"max_depth": whole[5]["params"]["max_depth"] % 6 + 1, "criterion": 0}
    lines[5] = json.dumps([other, {"score": 0.125}])  # in the middle of a batch, as another Optuna proposed it
    file.write_text("\n".join([state, *lines[:6], ""]))
    again = search.search(scoring, spec, search.Journal(file, "state"))["trials"]
    assert again[5] == {"trial": 5, "params": {**other, "criterion": "gini"}, "score": 0.125}
    assert [again[place] for place in (0, 1, 2, 3, 4, 6, 7)] == [whole[place] for place in (0, 1, 2, 3, 4, 6, 7)]


@pytest.mark.parametrize("package", ["optuna", "scipy", "nosuchpackage"])
def test_trials_count_for_the_packages_that_made_them(tmp_path, monkeypatch, package):
    """The last is that of an estimator within the params."""
    stack = {"estimators": [["a", {"estimator": "nosuchpackage.Tree"}]]}
    params = asked(DEPTHS, estimator="sklearn.ensemble.StackingClassifier", given=stack)
    (tmp_path / "train.parquet").write_bytes(b"rows")

    def state():
        return search.state_of(tmp_path / "train.parquet", params.models["m"], reproducible=True)

    before = state()
    about = tmp_path / "site" / f"{package}-0.0.1.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 0.0.1\n")
    assert state() == before
    monkeypatch.syspath_prepend(tmp_path / "site")
    assert state() != before


def test_another_seed_tries_other_params(tmp_path):
    space = {"alpha": {"low": 1e-3, "high": 10, "log": True}}
    one, other = (
        searched(tmp_path, diabetes(), space, seed=seed, trials=3, target="progression", estimator=RIDGE)[0]
        for seed in (0, 1)
    )
    assert one["metric"] == "r2"
    assert [trial["params"] for trial in one["trials"]] != [trial["params"] for trial in other["trials"]]


def test_nested_estimators_steps_and_prepare_are_searched(tmp_path):
    stack = {
        "estimators": [["tree", {"estimator": TREE, "params": {"random_state": 0}}]],
        "final_estimator": {"estimator": LOGISTIC},
    }
    space = {
        "tree__max_depth": {"low": 2, "high": 4},
        "final_estimator__C": {"low": 0.1, "high": 10.0, "log": True},
        "prepare__pca__n_components": [2, 3],
        "passthrough": [True],
    }
    steps = ["sklearn.preprocessing.StandardScaler", "sklearn.decomposition.PCA"]
    path = "sklearn.ensemble.StackingClassifier"
    found, model = searched(tmp_path, iris(), space, trials=2, estimator=path, given=stack, prepare=steps)
    best, stacked = found["best"]["params"], model[-1]
    assert stacked.named_estimators_["tree"].max_depth == best["tree__max_depth"]
    assert best["final_estimator__C"] == stacked.final_estimator_.C
    assert model[1].n_components == best["prepare__pca__n_components"]
    found, model = searched(tmp_path, penguins(), {"prepare": ["auto", "minimal"]}, trials=2, estimator=LOGISTIC)
    assert found["best"]["params"]["prepare"] in ("auto", "minimal")
    space = {"estimator": [{"estimator": TREE, "params": {"max_depth": 1}}, {"estimator": LOGISTIC}]}
    found, model = searched(
        tmp_path, iris(), space, trials=6, judged=False, estimator="sklearn.ensemble.BaggingClassifier", random_state=0
    )
    assert type(model.estimator).__name__ == found["best"]["params"]["estimator"]["estimator"].rpartition(".")[2]


def test_choices_may_be_mappings_and_are_the_same_for_train_and_evaluate(tmp_path):
    two = iris().filter(pl.col("species") != "setosa").with_columns(y=(pl.col("species") == "virginica").cast(pl.Int64))
    space = {"class_weight": [{0: 1, 1: 50}], "threshold": [0.3]}
    found, model, numbers, _ = searched(
        tmp_path, two.drop("species"), space, trials=1, judged=True, target="y", estimator=LOGISTIC,
        split={"folds": 2}, max_iter=900,
    )  # fmt: skip
    assert model.threshold == 0.3
    assert model.estimator.estimator.class_weight == {0: 1, 1: 50}
    assert numbers["validation"]["accuracy"] == pytest.approx(found["best"]["score"])


@pytest.mark.parametrize("how", [{"time": "day"}, {"group": "who"}])
def test_validation_is_of_the_rows_that_were_drawn_and_searched(tmp_path, how):
    data = iris().sample(fraction=1, shuffle=True, seed=1).with_row_index("row")
    data = data.with_columns(day=pl.col("row") // 4, who=pl.col("row") * 7 % 31).drop("row")
    split = {"folds": 3, "columns": iris().columns, **how}
    found, _, numbers, _ = searched(
        tmp_path, data, DEPTHS, judged=True, trials=2, estimator=TREE, random_state=0, sample=60, split=split
    )
    assert numbers["validation"]["accuracy"] == pytest.approx(found["best"]["score"])


def test_trials_that_fail_are_told_and_others_go_on(tmp_path):
    found, _ = searched(tmp_path, iris(), {"max_depth": [-1, 3]}, trials=5, estimator=TREE, random_state=0)
    failed = [trial for trial in found["trials"] if "failed" in trial]
    assert 0 < len(failed) < 5
    assert all("max_depth" in trial["failed"] for trial in failed)
    assert found["best"]["params"] == {"max_depth": 3}


@pytest.mark.parametrize(
    ("space", "given", "message"),
    [
        ({"depth": [1, 2]}, {}, r"models\.m\.train\.search\.space: with .*unknown param 'depth'; Decision.* takes: "),
        ({"max_depth": [-1]}, {}, r"models\.m\.train\.search: none of 4 trials could be scored: .*max_depth"),
        ({"max_depth": [1]}, {"metric": "auc"}, r"search\.metric = 'auc': write one of accuracy, balanced_accuracy"),
        ({"max_depth": [1]}, {"metric": "r2"}, r"search\.metric = 'r2': write one of accuracy"),
        ({"inner__C": [1]}, {}, r"space\.inner__C: params has no estimator 'inner'; write it there as \{estimator"),
        ({"prepare__pca__n_components": [1]}, {}, r"prepare has no step 'pca'; list its steps there"),
        ({"prepare": ["autos"]}, {}, r"search\.space\.prepare: 'autos' is none of auto, minimal, none"),
        (
            {"max_depth": [1]},
            {"split": {"folds": 900}},
            r"train\.search: .*cannot be split for it: .*change .*m\.split",
        ),
    ],
)
def test_what_cannot_be_searched_is_refused_with_the_fix(tmp_path, space, given, message):
    with pytest.raises(StageError, match=message) as refusal:
        searched(tmp_path, iris(), space, **{"estimator": TREE, **given})
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("{low: 3, high: 1}", r"space\.x: low = 3 is not below high = 1"),
        ("{low: 0, high: 1, log: true}", r"space\.x: log: true is for a low above 0"),
        ("{low: 1, high: 2, step: 3}", r"space\.x: step = 3 is not between 0 and high - low = 1"),
        ("{low: .nan, high: 1}", r"space\.x: low = nan is not below"),
        ("{low: 1}", r"train\.search\.space\.x\.high is missing; add it"),
        (
            "{low: 1, hi: 2}",
            r"unknown key 'models\.m\.train\.search\.space\.x\.hi'.*allowed there: low, high, log, step",
        ),
        ("{low: a, high: 2}", r"space\.x\.low = 'a'"),
        ("[]", r"space\.x: List should have at least 1 item"),
        ("7", r"space\.x = 7: write \{low: 0\.01, high: 10\}, .* or a list of choices"),
    ],
)
def test_a_mistake_in_a_space_is_named_with_its_place(tmp_path, written, said):
    content = yaml.safe_dump(config(estimator=TREE) | {"reproducible": False})
    text = content.replace("    train:\n", f"    train:\n      search: {{space: {{x: {written}}}}}\n")
    (tmp_path / "params.yaml").write_text(text)
    with pytest.raises(StageError) as refusal:
        load_params(tmp_path / "params.yaml")
    assert re.search(said, str(refusal.value)), refusal.value


def test_numbers_are_read_as_dvc_reads_them(tmp_path):
    text = yaml.safe_dump(config(estimator=RIDGE)).replace("      params: {}\n", "      params: {alpha: 1e-3}\n")
    (tmp_path / "params.yaml").write_text(text)
    assert load_params(tmp_path / "params.yaml").models["m"].train.params == {"alpha": 0.001}


def test_whole_and_broken_numbers_and_steps_are_tried_as_they_are_written(tmp_path):
    space = {
        "max_depth": {"low": 2, "high": 8, "step": 3},
        "min_samples_leaf": {"low": 0.1, "high": 0.35, "step": 0.1},
        "max_features": {"low": 1, "high": 4, "log": True},
    }
    found, _ = searched(tmp_path, iris(), space, trials=12, estimator=TREE, random_state=0)
    tried = [trial["params"] for trial in found["trials"]]
    assert {one["max_depth"] for one in tried} <= {2, 5, 8}
    assert {round(one["min_samples_leaf"], 9) for one in tried} <= {0.1, 0.2, 0.3}
    assert {type(one["max_features"]) for one in tried} == {int}


def test_the_names_of_metrics_are_those_that_are_measured(tmp_path):
    features, target = table.read(_written(tmp_path, iris()), "species", "split@m")
    model = DecisionTreeClassifier(max_depth=2).fit(features, target)
    found = metrics.measure(metrics.predict(model, features, target))
    assert set(metrics.OF_CLASSES) == {name for name in found if not name.endswith(("_low", "_high"))} - {"rows"}
    assert found["accuracy"] == accuracy_score(target, model.predict(features))
    features, target = table.read(_written(tmp_path, diabetes()), "progression", "split@m")

    predictions = metrics.predict(Ridge().fit(features, target), features, target)
    found = metrics.measure(predictions)
    assert set(metrics.OF_NUMBERS) == {name for name in found if not name.endswith(("_low", "_high"))} - {"rows"}
    assert found["r2"] == r2_score(target, predictions.predicted)
    assert set(baseline(predictions, target)) == set(metrics.OF_NUMBERS)


def _written(folder, data):
    data.write_parquet(folder / "t.parquet")
    return folder / "t.parquet"
