"""Commits from before a repository adopted Dovetail: what they trained becomes versions by today's entry."""

import shutil

import pytest
from project import DVC_YAML, small_project

import dovetail
from dovetail.errors import UnknownModel

pytestmark = pytest.mark.slow


@pytest.fixture
def old(tmp_path):
    """A repository with three commits from before its entry, two of them trained, and one that adopts Dovetail."""
    project = small_project(tmp_path / "small")
    project.write("dvc.yaml", DVC_YAML[: DVC_YAML.index("  register:")])
    project.run("git", "commit", "-qa", "--amend", "-m", "nothing trained")
    for w in (7, 8):
        project.write("params.yaml", f"train: {{w: {w}}}\n")
        project.run("dvc", "repro", "-q")
        project.commit(f"w = {w}, nothing adopted")
    project.write("dvc.yaml", DVC_YAML)
    project.write("params.yaml", "train: {w: 9}\n")
    project.run("dvc", "repro", "-q", "train")
    project.commit("adopted")
    return project


def test_commits_without_an_entry_become_versions_by_todays_where_their_lock_has_the_path(old):
    answer = old.json("sync", "--all")
    assert answer["problems"] == []
    assert answer["versions"]["created"] == 3
    shown = old.store()
    runs = {run.info.run_id: run.data.metrics["accuracy"] for run in shown.runs()}
    assert [runs[version.run_id] for version in shown.versions()] == [0.7, 0.8, 0.9]
    assert shown.aliases() == {"m": {"staging": 3}}
    assert old.json("sync", "--all")["versions"] == {"created": 0, "present": 3}


def test_older_commits_that_become_versions_later_leave_staging_where_it_is(old):
    old.run("dovetail", "register", "m")
    answer = old.json("sync", "--all")
    assert (answer["versions"]["created"], answer["aliases"]) == (2, [])
    assert old.store().aliases() == {"m": {"staging": 1}}
    assert old.json("sync", "--all")["versions"] == {"created": 0, "present": 3}


@pytest.mark.filterwarnings("ignore:.*Any type hint is inferred as AnyType:UserWarning")  # of mlflow.pyfunc's import
def test_every_verb_reads_such_a_commit_by_todays_entry(old):
    old.run("git", "tag", "-am", "by plain GTO", "m#production#1", "HEAD~1")
    repo = dovetail.open(old.root)
    compared = repo.diff("HEAD~1", "workspace")
    assert [(one.name, one.a.value, one.b.value) for one in compared.metrics] == [("accuracy", 0.8, 0.9)]
    assert repo.reproduce("HEAD~2:m").verdict == "identical"
    assert repo.sync(everything=True).problems == ()
    shown = repo.lineage("HEAD~1:m")
    assert (shown.version, shown.aliases, len(shown.commits)) == (2, ("production",), 1)
    moved = repo.promote("m", version=1, dry_run=True)
    gates = {gate.name: gate for gate in moved.gates}
    assert gates["accuracy"].limit == "accuracy ≥ 0.5"  # those that are declared today
    assert gates["provenance.commit"].passed
    old.run("git", "tag", "before", "HEAD~1")
    shutil.rmtree(old.root / "mlruns")
    (old.root / "mlflow.db").unlink()
    assert dovetail.open(old.root).gc().delete == ()


def test_a_commit_that_never_had_the_model_names_those_that_have_it(old):
    repo = dovetail.open(old.root)
    for asked in (lambda: repo.diff("HEAD~3", "workspace"), lambda: repo.reproduce("HEAD~3:m")):
        with pytest.raises(UnknownModel, match="has no model 'm'") as refused:
            asked()
        found = old.run("sh", "-c", refused.value.next_command.removeprefix("a commit since: ")).stdout
        named = [line.partition(" ")[2] for line in found.splitlines()]
        assert named == ["w = 7, nothing adopted"]
