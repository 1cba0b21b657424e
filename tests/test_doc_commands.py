"""The documents' commands run, in the order of the page, and print what the page shows."""

import re

import joblib
import pytest
import yaml
from documents import (
    DOCUMENTS,
    FENCED,
    assert_shows,
    blocks,
    clone_with_environment,
    commands_of,
    folder_with_commands,
    follow,
)
from project import ROOT

from stages import clean, split, train
from stages.common.params import Params

CHURN = {
    "prepare.py": """
import pathlib, random, pandas as pd
draw = random.Random(0).random
rows = pd.DataFrame({"calls": [i % 7 for i in range(400)], "tenure": [60 * draw() for _ in range(400)]})
rows["churned"] = (rows.calls > 3).map({True: "yes", False: "no"})
pathlib.Path("out").mkdir(exist_ok=True)
rows[:300].to_csv("out/train.csv", index=False)
rows[300:].to_csv("out/test.csv", index=False)
""",
    "train.py": """
import joblib, pandas as pd
from sklearn.tree import DecisionTreeClassifier
train = pd.read_csv("out/train.csv")
model = DecisionTreeClassifier(max_depth=1, random_state=0).fit(train[["calls", "tenure"]], train.churned)
joblib.dump(model, "out/model.joblib")
""",
    "evaluate.py": """
import json, joblib, pandas as pd
test = pd.read_csv("out/test.csv")
json.dump({"accuracy": joblib.load("out/model.joblib").score(test[["calls", "tenure"]], test.churned)},
          open("metrics.json", "w"))
""",
    "dvc.yaml": """
stages:
  prepare: {cmd: python prepare.py, deps: [prepare.py], outs: [out/train.csv, out/test.csv]}
  train: {cmd: python train.py, deps: [train.py, out/train.csv], outs: [out/model.joblib]}
  evaluate:
    cmd: python evaluate.py
    deps: [evaluate.py, out/model.joblib, out/test.csv]
    metrics: [{metrics.json: {cache: false}}]
""",
}
README = ["README.md"]
REFERENCE_PROJECT = [
    "docs/tutorials/tour.md",
    "docs/howto/somebody-moved-an-alias.md",
    "docs/howto/mlflow-is-lost.md",
]  # each goes on where the one before it ended
ADOPTION = ["docs/howto/adopt-a-repository.md"]
NOT_RUN = {  # the kinds of `sh` blocks, by what stands in them
    "an installation": "pip install",
    "a server of yours": "mlflow.example.org",
    "files of yours": "labelled.csv",
    "a folder of rows of yours": "--data incoming",
    "a folder of parts of yours": "clean@visits",
    "a model of them": "split@pages",
    "a folder of your server": "/srv/iris",
    "a cluster of yours": "tcp://HOST",
    "experiments of yours": "dvc exp run --queue",
    "a server that goes on": "dovetail serve iris ",
    "a machine of yours that serves": "sudo systemctl",
}


@pytest.mark.slow
def test_the_first_five_minutes_run_and_print_what_the_readme_shows(tmp_path):
    newcomer = folder_with_commands(tmp_path / "newcomer")
    elsewhere = clone_commands()
    follow(newcomer, README, tmp_path, without=elsewhere)


@pytest.mark.slow
def test_the_tour_of_the_reference_project_runs_and_prints_what_it_shows(tmp_path):
    printed = follow(clone_with_environment(tmp_path / "dovetail"), REFERENCE_PROJECT, tmp_path)
    assert '"alias":"staging","version":"2"' in "".join(printed.split())  # what the UI was asked


@pytest.mark.slow
def test_a_repository_of_somebody_else_s_gets_to_production_as_the_page_says(tmp_path):
    project = repository_without_dovetail(tmp_path / "churn")
    follow(project, ADOPTION, tmp_path)
    project.replace("dvc.yaml", "type: model", "type: model\n    meta: {gates: {champion: {target: churned}}}")
    project.replace("train.py", "max_depth=1", "max_depth=2")
    project.run("dvc", "repro", "-q")
    project.commit("deeper")
    promoted = project.json("promote", "churn")
    assert "accuracy +0 against version 1 (interval" in promoted["gates"][-1]["detail"]


def repository_without_dovetail(root):
    """DVC, git, scripts, a model that is called model; trained and committed."""
    project = folder_with_commands(root)
    for name, text in CHURN.items():
        project.write(name, text)
    for command in ("git init", "dvc init", "dvc repro"):
        project.run(*command.split(), "-q")
    project.commit("trained")
    return project


PARTS = "docs/howto/data-larger-than-a-machine.md"


def test_what_the_page_on_parts_types_is_there_by_then():
    keys = set()
    for language, content in blocks(PARTS):
        if language == "yaml":
            keys |= {key for half in yaml.safe_load(content).values() for key in half}
        assert {key for _, key in re.findall(r"(clean|split)@(\w+)", content)} <= keys


@pytest.mark.slow
def test_parts_are_cleaned_split_and_learned_from_as_the_page_says(tmp_path):
    first, model, in_parts = [yaml.safe_load(content) for language, content in blocks(PARTS) if language == "yaml"]
    said = yaml.safe_load((ROOT / "params.yaml").read_text()) | first | model
    said["datasets"]["visits"]["clean"]["part_rows"] = 150  # a part is two ranges
    raw, cleaned = tmp_path / "visits", tmp_path / "clean.parquet"
    raw.mkdir()
    for part in range(2):
        rows = (f"{n},{n % 9},{n % 24},{n % 7}\n" for n in range(part * 200, part * 200 + 200))
        (raw / f"{part}.csv").write_text("id,pages,hour,weekday\n" + "".join(rows))
    rejected, metrics = tmp_path / "rejected.parquet", tmp_path / "clean.json"
    params = Params.model_validate(said)
    clean.run("visits", params, raw=raw, clean=cleaned, rejected=rejected, metrics=metrics)
    assert len(list(cleaned.iterdir())) == 4
    halves = {half: tmp_path / f"{half}.parquet" for half in ("train", "test")}
    split.run("pages", params, clean=cleaned, **halves)
    for spec in ({}, in_parts):
        said["models"]["pages"] |= spec
        train.run("pages", Params.model_validate(said), train=halves["train"], model=tmp_path / "pages.joblib")
        learned = joblib.load(tmp_path / "pages.joblib")
        assert list(learned.feature_names_in_) == ["hour", "weekday"]


def clone_commands():
    """The blocks of the README that stand at the beginning of the tour, where they are run: they need a clone."""
    return [block for block in commands_of("README.md") if block in commands_of("docs/tutorials/tour.md")]


def test_every_block_of_commands_is_run_or_is_of_a_kind_that_cannot_be():
    run = {block for page in README + REFERENCE_PROJECT + ADOPTION for block in commands_of(page)}
    for file in DOCUMENTS:
        path = file.relative_to(ROOT)
        if path.as_posix() == "docs/reference/commands.md":  # test_demo.py runs these
            continue
        assert [block for block in commands_of(path) if block not in run] == [], path
        for language, block in blocks(path):
            assert language not in ("console", "shell")
            assert language != "sh" or any(mark in block for mark in NOT_RUN.values()), f"{path}: {block}"


def test_no_indented_block_hides_commands():
    for file in DOCUMENTS:
        assert [
            indent for indent, language, _ in FENCED.findall(file.read_text()) if indent and language == "bash"
        ] == []


def test_what_a_page_shows_is_compared_and_not_merely_printed():
    assert_shows("a\nrun 0123abcd made\nx   y\n", "run 6443966f made\n…\nx y\n")
    for shown in ("run 6443966f present", "x z", "x y\na"):
        with pytest.raises(AssertionError):
            assert_shows("a\nrun 0123abcd made\nx y\n", shown)
