"""A project copied or moved with its store: the copy never writes to the original's files, nor deletes one of them."""

import shutil

import pytest
from project import Project

from dovetail.tracking.relocate import former_roots, relocate
from dovetail.tracking.trash import is_outside


def files(folder):
    return {file.relative_to(folder): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def copied(project, target):
    shutil.copytree(project.root, target, symlinks=True)
    return Project(target)


@pytest.mark.slow
def test_a_copy_is_noticed_before_anything_is_written_or_deleted_and_sync_makes_it_its_own(registered, tmp_path):
    small = registered
    run = small.store().runs()[0].info.run_id
    small.store().client.delete_run(run)  # what a clean-up would take
    before = files(small.root / "mlruns")
    copy = copied(small, tmp_path / "copy")
    for command in (["register"], ["gc", "--force"], ["status"], ["promote", "m"], ["lineage", "m"]):
        done = copy.run("dovetail", *command, code=3)
        assert f"is a copy: it names the files in {small.root}" in done.stderr
        assert done.stderr.endswith("next: dovetail sync\n")
        assert len(done.stderr.splitlines()) == 1
    assert copy.json("status", code=3)["error"]["kind"] == "ForeignStore"
    (found,) = [one for one in copy.json("doctor", code=1)["problems"] if one["next"] == "dovetail sync"]
    assert found["what"] == "MLflow's store names another folder"

    assert copy.json("sync")["mended"] == [str(small.root)]
    copy.run("dovetail", "register")
    copy.run("dovetail", "gc", "--force")
    copy.run("dovetail", "status", code=None)
    assert files(small.root / "mlruns") == before
    assert files(copy.root / "mlruns") != before
    small.run("dovetail", "status", code=None)


def test_a_moved_project_is_noticed_too(registered, tmp_path):
    registered.root.rename(tmp_path / "moved")
    moved = Project(tmp_path / "moved")
    done = moved.run("dovetail", "register", code=3)
    assert f"was moved: it names files in {registered.root}, which is gone; next: dovetail sync" in done.stderr
    assert not registered.root.exists()
    moved.run("dovetail", "sync")
    moved.run("dovetail", "register")


def store(root, places, first=1, runs=()):
    import sqlite3

    (root / "mlruns").mkdir(parents=True)
    with sqlite3.connect(root / "mlflow.db") as connection:
        connection.execute("create table experiments (experiment_id integer, artifact_location text)")
        connection.execute("create table runs (experiment_id integer)")
        connection.executemany("insert into experiments values (?, ?)", enumerate(places, first))
        connection.executemany("insert into runs values (?)", [(number,) for number in runs])
    return root / "mlflow.db"


def test_a_store_is_its_own_under_each_name_of_its_folder(tmp_path):
    root = tmp_path / "with space"
    (tmp_path / "link").symlink_to(root)
    file = store(root, [(root / "mlruns/m").as_uri(), str(root / "mlruns/m"), f"{tmp_path}/link/mlruns/m", "s3://b/m"])
    assert former_roots(file, root) == former_roots(tmp_path / "link/mlflow.db", tmp_path / "link") == []
    assert relocate(file, root) == []


def test_another_folder_that_tracks_in_this_store_is_no_former_root(tmp_path):
    (tmp_path / "other/mlruns").mkdir(parents=True)
    assert former_roots(store(tmp_path / "root", [f"file://{tmp_path}/other/mlruns/m"]), tmp_path / "root") == []


def test_a_subfolder_that_a_script_ran_in_is_no_former_root(tmp_path):
    root = tmp_path / "root"
    assert former_roots(store(root, [f"file://{root}/sub/mlruns/1"]), root) == []


def test_mlflows_default_experiment_names_a_root_only_if_it_has_runs(tmp_path):
    """MLflow gives it the folder that it was made in, wherever the store is."""
    place = [f"file://{tmp_path}/cwd/mlruns/0"]
    assert former_roots(store(tmp_path / "root", place, first=0), tmp_path / "root") == []
    (named,) = former_roots(store(tmp_path / "used", place, first=0, runs=[0]), tmp_path / "used")
    assert named.path == f"{tmp_path}/cwd"


@pytest.mark.parametrize(
    ("location", "outside"),
    [
        ("file://{root}/mlruns/m/1", False), ("{root}/mlruns/m/1", False), ("file://{root}/../other/mlruns", True),
        ("/elsewhere/mlruns", True), ("{root}/link/m", True), ("mlflow-artifacts:/1", False), ("s3://bucket/m", False),
    ],
)  # fmt: skip
def test_gc_touches_no_file_outside_of_its_root(tmp_path, location, outside):
    root = tmp_path / "root"
    root.mkdir()
    (root / "link").symlink_to(tmp_path)
    assert is_outside(location.format(root=root), root) is outside
