"""Every `next:` is typed: after it, the same command does not say the same again."""

import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import next_steps
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from next_commands import ends, following, typed
from project import Project, retag
from serving import Server

from dovetail.errors import Untrusted
from dovetail.repo.workspace import open_workspace
from dovetail.serving.trust_file import TrustRequest, write_trust
from dovetail.tracking.connection import Tracking
from dovetail.values.scored import Scored
from dovetail.values.tag_keys import MODEL_MD5

ROOT = Path(__file__).resolve().parents[1]


def edited_metric(project):
    project.replace("out/metrics.json", "0.7", "0.9")


def changed_source(project):
    project.write("data.csv", "a,b\n1,2\n3,4\n5,6\n")


def another(project):
    project.write("params.yaml", "train: {w: 8}\n")
    project.run("dvc", "repro", "-q", "train")


def another_version(project):
    project.write("params.yaml", "train: {w: 8}\n")
    project.run("dvc", "repro", "-q")


def version_on_a_branch(project):
    project.run("git", "switch", "-qc", "retrain/m/now")
    another_version(project)
    project.commit("another")
    project.run("git", "switch", "-q", "main")
    project.run("dvc", "checkout", "-q")


def taken_back_in_git(project):
    another_version(project)
    project.commit("another")
    project.run("git", "revert", "--no-edit", "HEAD")
    project.run("dvc", "checkout", "-q")


def no_model(project):
    (project.root / "out/m.joblib").unlink()


def no_store(project):
    shutil.copytree(project.root / "mlruns/receipts", project.root / "receipts")
    shutil.rmtree(project.root / "mlruns")
    (project.root / "mlflow.db").unlink()
    (project.root / "mlruns").mkdir()
    (project.root / "receipts").rename(project.root / "mlruns/receipts")


def unpushed(project):
    project.run("dvc", "remote", "add", "-q", "-d", "store", str(project.root.parent / "remote"))


def moved_by_hand(project):
    project.store().client.set_registered_model_alias("m", "production", 1)


def moved_against_the_ledger(project):
    project.run("dovetail", "promote", "m")
    project.store().client.delete_registered_model_alias("m", "production")


def no_lock(project):
    (project.root / "dvc.lock").unlink()


def receipt_is_a_folder(project):
    receipt = project.root / "mlruns/receipts/m.json"
    receipt.unlink()
    (receipt / "within").mkdir(parents=True)


def no_metric(project):
    (project.root / "out/metrics.json").unlink()


def no_version(project):
    project.run("dovetail", "promote", "m")
    project.store().client.delete_registered_model("m")


def no_artifacts(project):
    shutil.rmtree(project.root / "mlruns/m")


def no_database(project):
    (project.root / "mlflow.db").write_bytes(b"garbage" * 999)


def deleted_model(project):
    (model,) = project.store().models()
    project.store().client.delete_logged_model(model.model_id)


def run_elsewhere(project):
    """A run of a declared model, deleted, whose files are not in this repository."""
    client = project.store().client
    project.replace("dvc.yaml", "artifacts:\n", "artifacts:\n  n: {path: out/n.joblib, type: model}\n")
    run = client.create_run(client.create_experiment("n", f"file://{project.root.parent}/elsewhere"))
    client.log_text(run.info.run_id, "text", "file.txt")
    client.delete_run(run.info.run_id)


def other_number(project):
    project.run("dovetail", "promote", "m")
    said = project.run("git", "tag", "-l", "--format=%(contents)", "m#production#1").stdout
    file = project.write("../message", said.replace("Dovetail-Version: 1", "Dovetail-Version: 3"))
    project.run("git", "tag", "-f", "--cleanup=whitespace", "-F", str(file), "m#production#1", "m#production#1^{}")


def committed_alone(project):
    another(project)
    project.commit("another")


def no_digest(project):
    project.write("data.csv.dvc", "outs:\n- {md5: a digest, size: 16, path: data.csv}\n")


def dangling_link(project):
    (project.root / "out/plots/more").symlink_to("nowhere")


def copied_without_files(project):
    shutil.copytree(project.root, project.root.with_name("copy"), symlinks=True)
    project.root = project.root.with_name("copy")
    shutil.rmtree(project.root / "mlruns")


def no_model_declared(project):
    text = (project.root / "dvc.yaml").read_text()
    project.write("dvc.yaml", text.partition("  register:")[0])


def moved_by_hand_after_a_promotion(project):
    another_version(project)
    project.commit("another")
    project.run("dovetail", "promote", "m")
    moved_by_hand(project)


def _scored(project):
    project.write("../rows.csv", "a\n")


def forged_tag(project):
    project.run("dovetail", "promote", "m")
    retag(project.store().client, "m", 1, model_md5="0" * 32)
    _scored(project)


def changed_bytes(project):
    (stored,) = (project.root / "mlruns/m").rglob("m.joblib")
    stored.write_bytes(stored.read_bytes() + b"more")
    _scored(project)


def changed_loader(project):
    (stored,) = (project.root / "mlruns/m").rglob("joblib_model.py")
    stored.write_text(stored.read_text() + "#")
    _scored(project)


def moved_and_rows(project):
    moved_by_hand_after_a_promotion(project)
    _scored(project)


def lost_with_scored_rows(project):
    (version,) = project.store().versions()
    said = Scored("m", 1, version.tags[MODEL_MD5], "", None, "x", "1" * 32)
    pq.write_table(pa.table({"a": [1]}).replace_schema_metadata(said.metadata()), project.root / "../scored.parquet")
    project.store().client.delete_registered_model("m")


def other_package(project):
    project.run("dovetail", "promote", "m")
    said = project.run("git", "tag", "-l", "--format=%(contents)", "m#production#1").stdout
    file = project.write("../message", re.sub("(Dovetail-Package: )[0-9a-f]+", rf"\g<1>{'0' * 64}", said))
    project.run("git", "tag", "-f", "--cleanup=whitespace", "-F", str(file), "m#production#1", "m#production#1^{}")


def data_that_nothing_keeps(project):
    project.write("../rows.csv", "a,b\n5,6\n")
    project.run("git", "rm", "-q", "data.csv.dvc")
    project.run("git", "commit", "-qm", "data.csv.dvc is gone")


def registered_by_nobody(project):
    project.write("../rows.csv", "a,b\n5,6\n")
    other_tool = "cmd: mkdir -p mlruns/receipts && touch mlruns/receipts/m.json"
    project.replace("dvc.yaml", "cmd: dovetail register m", other_tool)
    project.commit("registered by another tool")


def another_metric_lost(project):
    project.write("train.py", (project.root / "train.py").read_text() + 'open("out/more.json", "w").write("{}")\n')
    project.replace("dvc.yaml", "metrics: [", "metrics: [{out/more.json: {cache: false}}, ")
    project.run("dvc", "repro", "-q")
    project.commit("another metric")
    (project.root / "out/more.json").unlink()


PREDICT = "predict {} --data ../rows.csv --out ../out"  # it brings a version as a server does, which costs more


def nothing(project):
    del project


@dataclass(frozen=True)
class Case:
    """What is broken, which command says so and in which words; which of the alternatives of `next` is typed."""

    broken: object
    command: str
    said: str
    alternative: int = 0


CASES = [
    Case(edited_metric, "status", "out/metrics.json (md5"),
    Case(edited_metric, "status", "out/metrics.json (md5", 1),
    Case(edited_metric, "promote m", "out/metrics.json (md5"),
    Case(changed_source, "status", "data.csv (other values, md5"),
    Case(changed_source, "status", "data.csv (other values, md5", 1),
    Case(another, "status", "model is not registered"),
    Case(another, "promote m --dry-run", "is not registered yet"),
    Case(another_version, "status", "no commit contains the dvc.lock"),
    Case(another_version, "promote m", "no commit holds it"),
    Case(version_on_a_branch, "status", "made on retrain/m/now"),
    Case(taken_back_in_git, "status", "the workspace is version 1, @staging is version 2"),
    Case(no_model, "status", "out/m.joblib is not there"),
    Case(no_store, "status", "does not have it"),
    Case(unpushed, "status", "not in the remote"),
    Case(moved_by_hand, "status", "it was moved by hand"),
    Case(moved_against_the_ledger, "status", "names nothing in MLflow"),
    Case(nothing, "history m", "no tag here names"),
    Case(no_lock, "status", "dvc.lock does not record"),
    Case(receipt_is_a_folder, "register m", "is a folder"),
    Case(unpushed, "promote m --dry-run", "not in the remote"),
    Case(no_store, "show m", "no model 'm'"),
    Case(no_store, "report m", "no model 'm'"),
    Case(no_store, "diff m/1 HEAD", "there is no MLflow store"),
    Case(no_metric, "register", "out/metrics.json is not there"),
    Case(no_version, "status", "no version with the bytes"),
    Case(no_artifacts, "lineage m/1", "lineage.json of run"),
    Case(no_database, "status", "file is not a database"),
    Case(deleted_model, "gc", "mlflow gc would delete"),
    Case(another_version, "gc", "it is in no commit: its data"),
    Case(run_elsewhere, "gc", "they stay there"),
    Case(other_number, "doctor", "Dovetail-Version is 3"),
    Case(committed_alone, "lineage HEAD:m", "shows no run of"),
    Case(no_digest, "status", "data.csv.dvc cannot be read"),
    Case(dangling_link, "register m", "out/plots cannot be read"),
    Case(copied_without_files, "status", "is a copy"),
    Case(moved_and_rows, PREDICT.format("m@production"), "is version 1 in MLflow"),
    Case(forged_tag, PREDICT.format("m@production"), "is version 1 in MLflow"),
    Case(changed_bytes, PREDICT.format("m/1"), "is not what was registered"),
    Case(changed_loader, PREDICT.format("m/1"), "is not what MLflow's tag of the version names"),
    Case(lost_with_scored_rows, "lineage ../scored.parquet", "which MLflow does not have"),
    Case(other_package, "sync --repair", "its package is not the one that"),
    Case(data_that_nothing_keeps, "retrain m --with ../rows.csv --dry-run", "neither git nor DVC"),
    Case(registered_by_nobody, "retrain m --with ../rows.csv", "MLflow has no version of m"),
    Case(another_metric_lost, "register m", "out/more.json is not there"),
    Case(another_metric_lost, "register m", "out/more.json is not there", 1),
    Case(another_version, "reproduce m/2", "no commit holds"),
    Case(no_model_declared, "diff HEAD", "no model is named"),
    Case(no_model_declared, "report", "no models are declared"),
]


def test_each_next_step_is_typed_or_says_why_it_is_not():
    said, held = set(next_steps.said()), next_steps.table()
    assert not said - held.keys(), "to be added to next_steps.yaml: python tests/next_steps.py"
    assert not held.keys() - said, "said no more: to be taken out of next_steps.yaml"
    assert len(next_steps.rows()) == len(held), "listed twice"
    kinds = yaml.safe_load(next_steps.TABLE.read_text())
    assert kinds["tried"]["steps"]
    assert "untried" not in kinds, "type it in a test, or say why none can"
    assert all(Path(ROOT, "tests", test).is_file() for test in held.values() if test not in kinds)


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.broken.__name__}-{case.command}-{case.alternative}")
def test_what_comes_next_ends_what_was_said(registered, case):
    case.broken(registered)
    assert ends(registered, case.command, case.said, case.alternative).returncode in (0, 1)


def test_what_replaces_a_command_that_was_refused_is_taken(registered):
    said = registered.run("dovetail", "promote", "m", "--force", code=2).stderr
    typed(registered, following(said, "--force without a reason")[0])
    assert registered.store().aliases()["m"]["production"] == 1


@pytest.mark.slow
def test_one_sync_ends_what_commands_say_without_a_store(registered):
    no_store(registered)
    _scored(registered)
    commands = ("reproduce m/7", "ui nosuch --no-browser", "monitor m/7", PREDICT.format("m/1"))
    missing = f"sqlite:///{registered.root}/mlflow.db"
    for command in commands:
        said = registered.run("dovetail", *command.split(), code=None).stderr
        assert said.count("\n") == 1
        assert following(said, missing) == ["dovetail sync"]
    typed(registered, "dovetail sync")
    for command in commands:
        assert missing not in registered.run("dovetail", *command.split(), code=None).stderr


@pytest.mark.slow
def test_serving_ends_what_waits_for_answers(registered):
    registered.run("dovetail", "promote", "m")
    waiting = {"monitor m": "was ever logged", "retrain m --with feedback": "no served m has written a prediction log"}
    for command, said in waiting.items():
        refused = registered.run("dovetail", *command.split(), code=2).stderr
        assert following(refused, said) == ["dovetail serve m"]
    with Server(registered, ref="m") as server:
        assert server.predict({"dataframe_split": {"columns": ["a"], "data": [[1]]}}).status == 200
        server.end()
    for command, said in waiting.items():
        assert said not in registered.run("dovetail", *command.split(), code=None).stderr


def test_a_trust_file_of_an_alias_that_is_behind_its_tag_waits_for_sync(registered, tmp_path):
    moved_against_the_ledger(registered)

    def vouch():
        with open_workspace(registered.root) as workspace:
            write_trust(workspace, Tracking(registered.root), TrustRequest("m", "production", tmp_path / "trust"))

    with pytest.raises(Untrusted, match="names no version in MLflow") as refusal:
        vouch()
    typed(registered, refusal.value.next_command)
    vouch()
    assert "m@production" in (tmp_path / "trust").read_text()


def test_a_folder_that_is_no_repository_is_made_one(tmp_path):
    ends(Project(tmp_path), "status", "is not inside a DVC repository")


def test_a_run_whose_version_was_deleted_gets_one(registered):
    (run,) = registered.store().runs()
    registered.store().client.delete_model_version("m", "1")
    ends(registered, f"monitor runs:/{run.info.run_id}", "is a run without a version")


@pytest.mark.slow
def test_a_version_whose_run_was_deleted_is_promoted_and_the_doctor_says_what_repairs_it(registered):
    (run,) = registered.store().runs()
    registered.store().client.delete_run(run.info.run_id)
    registered.run("dovetail", "promote", "m")
    (found,) = registered.json("doctor", code=1)["problems"]
    registered.run("bash", "-c", found["next"])
    assert registered.json("doctor")["problems"] == []
    assert registered.store().aliases()["m"].keys() == {"production", "staging"}


def test_a_model_that_its_gates_keep_from_staging_is_told_so_and_no_command_that_changes_nothing(registered):
    registered.write("params.yaml", "train: {w: 3}\n")
    registered.run("dvc", "repro", "-q")
    registered.commit("worse")
    (model,) = registered.json("status", code=1)["models"]
    (problem,) = model["problems"]
    assert "does not pass accuracy" in problem["what"]
    assert "dovetail register" not in problem["next"]
    registered.replace("dvc.yaml", "min: 0.5", "min: 0.1")
    registered.run("dvc", "repro", "-q", "-f", "register")
    registered.commit("the gate is moved")
    assert registered.json("status")["models"][0]["staging"]["version"] == 2


def test_promote_says_first_which_version_it_took_and_why(registered):
    def first():
        return registered.run("dovetail", "promote", "m").stdout.splitlines()[0]

    assert first() == "m/1 (the workspace's model) → @production"
    no_model(registered)
    assert first().startswith("m/1 (@staging, for out/m.joblib is not there) → @production")
    answer = registered.json("promote", "m", "--version", "1")
    assert answer["chosen"] == "the version asked for"
    assert [gate["detail"] for gate in answer["gates"] if gate["name"] == "champion"] == ["it is the champion"]


def test_promote_refuses_a_workspace_that_is_not_what_dvc_recorded(registered):
    changed_source(registered)  # the model in the workspace is still the one recorded
    assert registered.json("promote", "m", "--dry-run")["version"] == 1
    edited_metric(registered)
    error = registered.json("promote", "m", code=2)["error"]
    assert error["kind"] == "StaleLock"
    assert "dovetail promote m --version N" in error["next"]
    assert registered.store().aliases() == {"m": {"staging": 1}}


def test_a_model_that_was_never_promoted_has_an_empty_history(registered):
    assert registered.json("history", "m") == {"model": "m", "at": None, "events": []}
    assert registered.json("history", "mm", code=2)["error"]["kind"] == "UnknownModel"


def test_monitoring_what_was_never_served_is_no_answer_and_leaves_no_run(registered):
    error = registered.json("monitor", "m", code=2)["error"]
    assert (error["kind"], error["next"]) == ("MissingFile", "dovetail serve m")
    assert len(registered.store().runs()) == 1


def test_what_a_stage_reads_and_nobody_has_is_said_in_our_words_with_what_was_meant(registered):
    registered.replace("params.yaml", "train:", "trian:")
    registered.replace("dvc.yaml", "train.py, data.csv]", "train.py, dta.csv]")
    found = {one["what"]: one["next"] for one in registered.json("status", code=1)["models"][0]["problems"]}
    assert found["train reads train, which is not in params.yaml, which has trian there"] == "rename trian to train"
    assert found["train reads dta.csv, which is not there and which no stage makes"] == "name data.csv instead"
    assert "train reads train, which is" in registered.run("dovetail", "doctor", code=1).stdout
    registered.run("git", "checkout", "-q", ".")
    assert registered.json("status")["models"][0]["problems"] == []


def test_an_environment_that_was_moved_or_copied_is_made_anew(tmp_path):
    for name in ("Makefile", "requirements.lock", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    mark = tmp_path / ".venv/.installed"
    mark.parent.mkdir()

    def planned(place):
        mark.write_text(f"{place}\n")
        return subprocess.run(["make", "-n", "env"], cwd=tmp_path, check=True, capture_output=True, text=True).stdout

    assert "rm -rf .venv" not in planned(tmp_path)
    assert "rm -rf .venv" in planned("/where/it/was")


def test_serving_without_its_packages_names_the_extra(registered, tmp_path):
    stub = "raise ModuleNotFoundError(\"No module named 'uvicorn'\", name='uvicorn')\n"
    (tmp_path / "stubs").mkdir()
    (tmp_path / "stubs/uvicorn.py").write_text(stub)
    done = registered.run("dovetail", "serve", "m", code=2, plain=True, PYTHONPATH=str(tmp_path / "stubs"))
    assert done.stderr == (
        "dovetail: serving needs the package uvicorn, which is not installed; next: pip install 'dovetail-ml[serve]'\n"
    )
