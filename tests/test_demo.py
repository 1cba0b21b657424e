"""`dovetail demo`: a table becomes a project, a staged model, a promoted and watched one, as a user would type it.

What it leaves is the project of the reference's examples.
"""

import json
import re
import shlex
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from documents import blocks
from project import ROOT, Project, isolate

from dovetail.cli import main
from dovetail.errors import UserError
from dovetail.scaffold import demo

sys.path.insert(0, str(ROOT / "scripts"))
import reference


@pytest.fixture(scope="module")
def played(tmp_path_factory):
    """What the demo said, and the project that it left."""
    with pytest.MonkeyPatch.context() as patch:
        isolate(tmp_path_factory, patch)
        folder = tmp_path_factory.mktemp("demo")
        proxy = {"http_proxy": "http://127.0.0.1:9", "no_proxy": ""}  # not for a server on this machine
        here = Project(folder, {"MLFLOW_TRACKING_URI": "http://127.0.0.1:9/nobody", **proxy})  # not the demo's store
        said = here.run("dovetail", "demo", "--into", "played").stdout
    reference.write_labelled(folder / "played/apples")
    return SimpleNamespace(said=said, project=Project(folder / "played/apples"))


@pytest.mark.slow
def test_the_demo_plays_the_tour_and_says_what_happens(played):
    said, made = played.said, played.project
    commands = [line.split()[1:3] for line in said.splitlines() if line.startswith("$ ")]
    assert commands == [
        ["dovetail", "new"], ["dvc", "repro"], ["git", "add"], ["git", "commit"], ["dovetail", "status"],
        ["dovetail", "promote"], ["dovetail", "history"], ["dovetail", "serve"], ["curl", "-s"],
        ["dovetail", "monitor"], ["dovetail", "lineage"],
    ]  # fmt: skip
    for line in (
        "    apples: run ", "    apples@production is version 1, tag apples#production#1", '    {"predictions": [',
        "      DRIFT  weight (g) ", "    apples/1 @production @staging", f"  cd {made.root}",
    ):  # fmt: skip
        assert f"\n{line}" in said, line
    assert max(len(line) for line in said.splitlines() if str(made.root.parent) not in line) <= 120
    assert "weight (g)" in (made.root / "build/drift.html").read_text()
    (model,) = made.json("status")["models"]
    assert (model["production"]["version"], model["staging"]["version"], model["in_sync"]) == (1, 1, True)
    assert made.json("doctor")["problems"] == []
    assert json.loads((made.root / "metrics/apples.json").read_text())["accuracy"] > 0.7
    assert "data/raw/apples.csv.dvc" in made.run("git", "ls-files").stdout
    assert made.run("dvc", "data", "status", "--json").stdout.strip() in ("{}", "")
    assert made.run("git", "status", "--porcelain").stdout == ""


@pytest.mark.slow
def test_the_examples_of_the_reference_run(played):
    """Those of a server are read by its parser: the demo started one."""
    for name, said in reference.texts()["commands"].items():
        codes = {2} if said.get("refused") else {1} if said.get("drifts") or said.get("unwritten") else {0}
        for example in said["examples"]:
            words = shlex.split(example)
            command = main.commands[words[1]]
            command.make_context(words[1], words[2:])
            assert command.name == name
            if not said.get("runs_on") and name != "demo":
                done = played.project.run(*words, code=None)
                assert done.returncode in codes, f"{example}\n{done.stdout}{done.stderr}"


@pytest.mark.slow
def test_the_python_of_the_reference_runs(played):
    programs = [
        text for language, text in blocks("docs/reference/python.md") if language == "python" and "import " in text
    ]
    assert programs
    for program in programs:
        assert played.project.run("python", "-c", program).stdout.strip()


@pytest.mark.slow
def test_the_answers_of_the_reference_have_those_keys(played):
    """After the examples; what is shown of a list is an entry of it."""
    shapes = json.loads(reference.SHAPES.read_text())
    assert list(shapes) == list(reference.ANSWERS)
    for typed in ("status", "history apples", "lineage data/raw/apples.csv", "init"):
        answer = json.loads(played.project.run("dovetail", *shlex.split(typed), "--json", code=None).stdout)
        assert reference.shape(answer).split(",")[0] == shapes[typed].split(",")[0]


@pytest.mark.slow
def test_dvcs_own_page_of_plots_needs_no_network(played):
    """DVC draws what is no picture by scripts of a public server."""
    played.project.run("dvc", "plots", "show", "-o", "page")
    page = (played.project.root / "page/index.html").read_text()
    assert "http" not in page
    assert "<script" not in page
    named = re.findall(r'<img src="([^"]+)"', page)
    assert {Path(name).name.rpartition("_")[2] for name in named} >= {"confusion.png", "importance.png", "roc.png"}
    assert all((played.project.root / "page" / name).is_file() for name in named)
    shutil.rmtree(played.project.root / "page")


def test_the_reference_is_what_the_code_says():
    """Else: python scripts/reference.py."""
    for name, text in reference.pages().items():
        assert (reference.FOLDER / name).read_text() == text, name


def test_the_demo_says_which_extras_it_lacks(tmp_path, monkeypatch):
    monkeypatch.setattr(demo, "_NEEDED", {"nowhere": "pipeline", "json": "serve"})
    with pytest.raises(UserError, match="needs the extras pipeline"):
        demo.demo(demo.DemoRequest(tmp_path / "played"), print)
    assert not (tmp_path / "played").exists()


def test_a_folder_with_something_in_it_stays_as_it_is(tmp_path):
    (tmp_path / "mine").touch()
    with pytest.raises(UserError, match="already exists and is not empty"):
        demo.demo(demo.DemoRequest(tmp_path), print)
