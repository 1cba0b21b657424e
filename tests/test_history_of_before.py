"""Commits from before a repository adopted Dovetail: what they trained becomes versions by today's entry."""

import pytest
from project import DVC_YAML, small_project

pytestmark = pytest.mark.slow


def test_commits_without_an_entry_become_versions_by_todays_where_their_lock_has_the_path(tmp_path):
    project = small_project(tmp_path / "small")
    before = DVC_YAML[: DVC_YAML.index("  register:")]
    for w in (7, 8):
        project.write("dvc.yaml", before)
        project.write("params.yaml", f"train: {{w: {w}}}\n")
        project.run("dvc", "repro", "-q")
        project.commit(f"w = {w}, nothing adopted")
    project.write("dvc.yaml", DVC_YAML)
    project.write("params.yaml", "train: {w: 9}\n")
    project.run("dvc", "repro", "-q", "train")
    project.commit("adopted")
    answer = project.json("sync", "--all")
    assert answer["problems"] == []
    assert answer["versions"]["created"] == 3
    shown = project.store()
    runs = {run.info.run_id: run.data.metrics["accuracy"] for run in shown.runs()}
    assert [runs[version.run_id] for version in shown.versions()] == [0.7, 0.8, 0.9]
    assert shown.aliases() == {"m": {"staging": 3}}
    assert project.json("sync", "--all")["versions"] == {"created": 0, "present": 3}
