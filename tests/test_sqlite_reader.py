"""MLflow's SQLite store, read without MLflow: the same answers, or MLflow is asked."""

import shutil
import sqlite3
import sys
from pathlib import Path

import mlflow
import pytest

from dovetail.repo.workspace import open_workspace
from dovetail.tracking.connection import Tracking
from dovetail.tracking.sqlite_reader import FORMS, EmptyReader, SqliteReader, reader
from dovetail.values.lineage import FileRef
from dovetail.values.tag_keys import MODEL_MD5

LOOKS = """
import sys
from dovetail.cli import main
sys.argv = ["dovetail", *sys.argv[1:]]
try:
    main()
finally:
    heavy = {"mlflow", "pandas", "sqlalchemy"} & set(sys.modules)
    print(sorted(heavy), file=sys.stderr)
"""


@pytest.fixture
def stores(registered):
    """One project's store read both ways, with more in it than Dovetail puts there."""
    tracking = Tracking(registered.root)
    with tracking.store() as asked:
        client = asked.client
        client.create_registered_model("other")
        client.create_model_version("other", "nothing:/nowhere")
        client.delete_model_version("other", "1")
        client.create_model_version("other", "nothing:/nowhere", tags={MODEL_MD5: "1" * 32})
        client.set_registered_model_alias("m", "Blue-1", "1")
        client.register_prompt("a_prompt", "Hello")
        run = client.create_run("0", tags={"odd": "é\n'"})
        client.log_metric(run.info.run_id, "loss", float("nan"))
        client.log_metric(run.info.run_id, "most", float("inf"))
        client.log_metric(run.info.run_id, "most", 2.5, step=3)
        client.log_param(run.info.run_id, "p", "1")
        client.delete_run(run.info.run_id)
        client.log_text(run.info.run_id, "text\n", "notes/é 1.txt")
    with Tracking(registered.root).reading() as read:
        assert isinstance(read.client, SqliteReader)
        yield asked, read, run.info.run_id


def test_both_ways_give_the_same_answers(stores):
    asked, read, odd = stores

    def answers(store):
        (version,) = store.versions("m")
        return {
            "models": store.models(),
            "versions": [store.versions(name) for name in ("m", "other", "a_prompt", "none")],
            "aliases": [store.aliases(name) for name in ("m", "other", "a_prompt", "none")],
            "found": [store.find_version(name, version.md5) for name in ("m", "other")],
            "of bytes": store.versions_of_bytes({version.md5, "1" * 32}),
            "runs": [repr(store.run(run_id)) for run_id in (version.run_id, odd, "none")],
            "texts": [store.text(version.run_id, name) for name in ("environment.txt", "lineage.json", "none")],
            "odd": store.text(odd, "notes/é 1.txt"),
            "lineage": store.lineage(version.run_id),
            "stored": store.stored_md5(version.run_id, FileRef("out/m.joblib", "")),
            "served": store.served_md5(version),
        }

    first, second = answers(asked), answers(read)
    for kind, answer in first.items():
        assert second[kind] == answer, kind
    assert first["stored"] == first["found"][0].md5


@pytest.mark.parametrize("place", ["its own", "clone"])
def test_commands_that_look_import_no_mlflow(registered, place):
    for file in registered.root.glob("mlruns/m/*/artifacts/environment.txt"):
        file.unlink()  # nor to say that a file is not there: a run that `sync` made has none
    commands = [["status"], ["lineage", "m"], ["diff", "m@staging", "workspace:m"]]
    if place == "clone":  # which has no store, nor is one made to say so
        (registered.root / "mlflow.db").unlink()
        shutil.rmtree(registered.root / "mlruns")
        commands = [["status"], ["list"], ["show", "m"], ["lineage", "data.csv"]]
    for command in commands:
        done = registered.run(sys.executable, "-c", LOOKS, *command, plain=True, code=None)
        assert "Traceback" not in done.stderr
        assert done.stderr.splitlines()[-1] == "[]", command
    assert (registered.root / "mlflow.db").exists() == (place == "its own")


@pytest.mark.slow
def test_where_there_is_no_store_the_answers_are_those_of_a_new_one(tmp_path, monkeypatch):
    def answers(store):
        return {
            "models": store.models(),
            "versions": store.versions("m"),
            "aliases": store.aliases("m"),
            "found": store.find_version("m", "1" * 32),
            "of bytes": store.versions_of_bytes({"1" * 32}),
            "runs": [*store.runs_with_data("1" * 32), *store.live_runs("1" * 32), store.find_run("0", "1" * 32)],
            "outdated": store.outdated_tags(["m"]),
        }

    (tmp_path / "new").mkdir()
    with Tracking(tmp_path).reading() as read, Tracking(tmp_path / "new").store() as asked:
        assert isinstance(read.client, EmptyReader)
        assert answers(read) == answers(asked)
        (known,), (made,) = read.client.search_experiments(), asked.client.search_experiments()
        assert (known.experiment_id, known.name) == (made.experiment_id, made.name)
    monkeypatch.delenv("MLFLOW_TRACKING_URI")  # which MLflow was told of the store that was made
    with Tracking(tmp_path).reading() as read:
        assert read.run("none") is None  # what MLflow has to be asked, a store of its own is made for
        made = Path(mlflow.get_tracking_uri().removeprefix("sqlite:///"))
        assert made.exists()
    assert mlflow.get_tracking_uri() == f"sqlite:///{tmp_path}/mlflow.db"
    assert not made.parent.exists()
    assert not (tmp_path / "mlflow.db").exists()
    monkeypatch.setenv("MLFLOW_REGISTRY_URI", f"sqlite:///{tmp_path}/new/mlflow.db")
    with Tracking(tmp_path).reading() as read:
        assert not isinstance(read.client, EmptyReader)


def test_the_installed_mlflow_has_a_form_that_is_known(stores):
    asked, *_ = stores
    with sqlite3.connect(asked.uri.removeprefix("sqlite:///")) as file:
        assert {form for (form,) in file.execute("select version_num from alembic_version")} <= FORMS


def test_where_it_cannot_know_mlflow_is_asked(registered, tmp_path, monkeypatch):
    file = tmp_path / "mlflow.db"
    shutil.copy(registered.root / "mlflow.db", file)
    assert reader(file, list)
    monkeypatch.setenv("MLFLOW_REGISTRY_URI", "http://elsewhere")
    assert reader(file, list) is None
    monkeypatch.delenv("MLFLOW_REGISTRY_URI")
    with sqlite3.connect(file) as other:
        other.execute("update alembic_version set version_num = 'newer'")
    assert reader(file, list) is None
    file.write_text("no database")
    assert reader(file, list) is None
    assert reader(tmp_path / "none", list) is None
    with open_workspace(registered.root) as workspace, Tracking(workspace.store_root).reading() as store:
        assert store.experiment("m")  # what the reader lacks
