"""`dovetail demo`: a table becomes a project, a staged model, a promoted and watched one, as a user would type it."""

import json

import pytest
from project import Project

from dovetail.errors import UserError
from dovetail.scaffold import demo


@pytest.mark.slow
def test_the_demo_plays_the_tour_and_says_what_happens(tmp_path):
    here = Project(tmp_path, {"MLFLOW_TRACKING_URI": "http://127.0.0.1:9/nobody"})  # not its store
    said = here.run("dovetail", "demo", "--into", "played").stdout
    made = Project(tmp_path / "played/apples")
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
    assert max(len(line) for line in said.splitlines() if str(tmp_path) not in line) <= 120
    assert "weight (g)" in (made.root / "build/drift.html").read_text()
    (model,) = made.json("status")["models"]
    assert (model["production"]["version"], model["staging"]["version"], model["in_sync"]) == (1, 1, True)
    assert made.json("doctor")["problems"] == []
    assert json.loads((made.root / "metrics/apples.json").read_text())["accuracy"] > 0.7
    assert "data/raw/apples.csv.dvc" in made.run("git", "ls-files").stdout
    assert made.run("dvc", "data", "status", "--json").stdout.strip() in ("{}", "")
    assert made.run("git", "status", "--porcelain").stdout == ""


def test_the_demo_says_which_extras_it_lacks(tmp_path, monkeypatch):
    monkeypatch.setattr(demo, "_NEEDED", {"nowhere": "pipeline", "json": "serve"})
    with pytest.raises(UserError, match="needs the extras pipeline"):
        demo.demo(demo.DemoRequest(tmp_path / "played"), print)
    assert not (tmp_path / "played").exists()


def test_a_folder_with_something_in_it_stays_as_it_is(tmp_path):
    (tmp_path / "mine").touch()
    with pytest.raises(UserError, match="is there, and not empty"):
        demo.demo(demo.DemoRequest(tmp_path), print)
