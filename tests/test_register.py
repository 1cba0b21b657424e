"""`register` is a projection: what MLflow shows follows from git and DVC, once, whatever happens in between."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import pytest
from project import TWO_MODELS, facts

import dovetail
from dovetail.errors import UserError
from dovetail.registration import register, script_uris
from dovetail.repo.workspace import open_workspace

# Every write to MLflow, in the order in which `register` does them, then the receipt.
STEPS = [
    "create_experiment", "create_run", "log_batch", "log_inputs", "writing", "copy:1", "writing:2",
    "create_logged_model", "writing:3", "copy:2", "writing:4", "finalize_logged_model", "log_outputs", "update_run",
    "create_registered_model", "create_model_version", "set_registered_model_alias", "_write_receipt",
]  # fmt: skip


def md5(file):
    return hashlib.md5(Path(file).read_bytes()).hexdigest()


def test_a_registration_shows_run_version_alias_and_the_very_bytes(small):
    small.run("dvc", "repro", "register")
    shown = small.store()
    (run,), (version,) = shown.runs(), shown.versions()
    model_md5 = md5(small.root / "out/m.joblib")
    assert run.info.status == "FINISHED"
    assert run.data.params == {"train.w": "7"}
    assert run.data.metrics == {"accuracy": 0.7, "size.rows": 2.0}
    assert [(i.dataset.name, i.dataset.digest) for i in run.inputs.dataset_inputs] == [
        ("data.csv", md5(small.root / "data.csv"))
    ]
    assert facts(run)["dovetail.data.data.csv"] == md5(small.root / "data.csv")
    assert version.tags["dovetail.model.md5"] == model_md5 == run.data.tags["dovetail.model.md5"]
    assert version.run_id == run.info.run_id
    assert shown.aliases() == {"m": {"staging": 1}}
    stored = list((small.root / "mlruns").rglob("m.joblib"))
    assert [md5(file) for file in stored] == [model_md5]
    assert [f.path for f in shown.client.list_artifacts(run.info.run_id, "out/plots")] == ["out/plots/p.csv"]


def test_the_receipt_holds_the_fingerprint_and_nothing_of_this_machine(small):
    small.run("dvc", "repro", "register")
    receipt = json.loads((small.root / "mlruns/receipts/m.json").read_text())
    (run,) = small.store().runs()
    assert receipt == {"fingerprint": run.data.tags["dovetail.fingerprint"]}


APART = """
import sys
from functools import partial
from dovetail.registration.register import _projections
from dovetail.repo.workspace import open_workspace
from dovetail.system.processes import in_parallel

with open_workspace() as workspace:
    (one,) = in_parallel(partial(_projections, workspace, ()), lambda: None)
    assert "dvc.repo" not in sys.modules, "it was read here"
    (ref,) = one.lineage.data
    print(one.run.metrics["accuracy"], ref.path, one.subject.rows(ref, one.lineage))
"""


def test_the_repository_is_read_while_mlflow_is_imported(small):
    small.run("dvc", "repro", "register")
    assert small.run(sys.executable, "-c", APART).stdout.split() == ["0.7", "data.csv", "2"]


def test_forced_and_repeated_registrations_double_nothing(small):
    small.run("dvc", "repro", "register")
    small.run("dvc", "repro", "--force")
    answer = small.json("register")
    assert [(one["run_created"], one["version_created"], one["version"]) for one in answer] == [(False, False, 1)]
    assert small.store().counts() == (1, 1)


@pytest.mark.slow
def test_deleted_store_is_filled_by_the_next_repro_once_the_receipt_is_gone(small):
    small.run("dvc", "repro", "register")
    before = small.store().runs()[0].data.tags["dovetail.fingerprint"]
    small.run("rm", "-rf", "mlruns", "mlflow.db")
    small.run("dvc", "repro", "register")
    assert small.store().runs()[0].data.tags["dovetail.fingerprint"] == before
    assert small.store().counts() == (1, 1)


@pytest.mark.slow
def test_a_gate_that_fails_keeps_staging_where_it_was(small):
    small.run("dvc", "repro", "register")
    small.replace("params.yaml", "w: 7", "w: 3")
    small.run("dvc", "repro", "train")
    (answer,) = small.json("register")
    assert answer["version"] == 2
    assert [(g["passed"], g["value"]) for g in answer["gates"]] == [(False, 0.3)]
    assert small.store().aliases() == {"m": {"staging": 1}}


@pytest.mark.slow
def test_an_older_commit_finds_its_old_version_and_does_not_pull_staging_back(small):
    small.run("dvc", "repro", "register")
    old = small.commit("one")
    small.replace("params.yaml", "w: 7", "w: 9")
    small.run("dvc", "repro", "register")
    small.commit("two")
    small.run("git", "checkout", "-q", old)
    small.run("dvc", "checkout", "-q")
    small.run("dvc", "repro", "register")
    assert small.json("register")[0]["version"] == 1
    assert small.store().counts() == (2, 2)
    assert small.store().aliases() == {"m": {"staging": 2}}


@pytest.mark.slow
def test_an_experiment_in_a_temporary_folder_is_a_run_in_the_real_store_and_no_version(small):
    small.run("dvc", "repro", "register")
    small.commit("one")
    small.run("dvc", "exp", "run", "--temp", "-n", "higher", "-S", "train.w=8")
    small.run("dvc", "exp", "run", "-n", "lower", "-S", "train.w=6")
    shown = small.store()
    experiments = {facts(r).get("dovetail.dvc.experiment"): r for r in shown.runs()}
    assert set(experiments) == {None, "higher", "lower"}
    assert experiments["higher"].data.params == {"train.w": "8"}
    assert experiments["higher"].info.run_name == "higher"
    assert experiments["higher"].info.artifact_uri.startswith((small.root / "mlruns").as_uri())
    assert len(shown.versions()) == 1
    assert len(shown.models()) == 3
    default = shown.client.get_experiment("0").artifact_location
    assert str(small.root) in default


@pytest.mark.slow
def test_an_applied_experiment_becomes_a_version_by_register_typed_by_hand(small):
    small.run("dvc", "repro", "register")
    small.commit("one")
    small.run("dvc", "exp", "run", "-n", "higher", "-S", "train.w=8")
    (answer,) = small.json("register")
    assert (answer["run_created"], answer["version"], answer["version_created"]) == (False, 2, True)
    assert small.store().counts() == (2, 2)


def test_a_first_registration_inside_a_temporary_experiment_makes_a_store_that_survives_it(small):
    small.commit("nothing registered yet") if small.run("git", "status", "--porcelain").stdout else None
    small.run("dvc", "exp", "run", "--temp", "-n", "first", "-S", "train.w=8")
    shown = small.store()
    assert [run.info.run_name for run in shown.runs()] == ["first"]
    assert str(small.root) in shown.client.get_experiment("0").artifact_location


def test_a_run_id_inherited_from_mlflow_run_is_left_alone(small):
    small.run("dvc", "repro", "register", MLFLOW_RUN_ID="0" * 32, MLFLOW_EXPERIMENT_ID="0")
    (run,) = small.store().runs()
    assert run.info.run_id != "0" * 32


def test_a_relative_tracking_uri_means_the_real_root(small):
    small.run("dvc", "exp", "run", "--temp", "-S", "train.w=8", MLFLOW_TRACKING_URI="sqlite:///mlflow.db")
    assert small.store().counts() == (1, 0)


def test_without_a_commit_there_is_no_commit_tag(small):
    small.run("rm", "-rf", ".git")
    small.run("git", "init", "-q")
    small.run("dovetail", "register")
    told = facts(small.store().runs()[0])
    assert not [tag for tag in told if "commit" in tag]
    assert told["Commit"] == "none yet"


@pytest.mark.slow
def test_killed_before_each_step_in_turn_it_completes_and_nothing_is_doubled(small):
    for step in STEPS:
        small.killed(step, "register")
        assert not (small.root / "mlruns/receipts/m.json").exists(), step
    (answer,) = small.json("register")
    shown = small.store()
    (run,), (version,) = shown.runs(), shown.versions()
    assert (answer["version"], version.run_id) == (1, run.info.run_id)
    assert run.info.status == "FINISHED"
    assert run.data.params == {"train.w": "7"}
    assert run.data.metrics == {"accuracy": 0.7, "size.rows": 2.0}
    assert len(shown.client.get_metric_history(run.info.run_id, "accuracy")) == 1
    assert len(run.inputs.dataset_inputs) == 1
    assert [(m.status, m.tags["dovetail.model.md5"]) for m in shown.models()] == [
        ("READY", md5(small.root / "out/m.joblib"))
    ]
    assert [m.model_id for m in run.outputs.model_outputs] == [m.model_id for m in shown.models()]
    assert shown.aliases() == {"m": {"staging": 1}}


@pytest.mark.slow
def test_two_at_once_make_one_run_and_one_version(small):
    both = [
        subprocess.Popen([Path(sys.executable).with_name("dovetail"), "register"], cwd=small.root) for _ in range(2)
    ]
    assert [process.wait() for process in both] == [0, 0]
    assert small.store().counts() == (1, 1)


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda p: (p.root / "out/m.joblib").unlink(), "out/m.joblib is not there"),
        (lambda p: p.write("out/m.joblib", "other"), "is not what dvc.lock records"),
        (lambda p: p.write("out/metrics.json", "{"), "is not what dvc.lock records"),
        (lambda p: p.write("dvc.lock", "<<<<<<< HEAD\n" + "a: b\n=======\n"), "dvc.lock"),
        (lambda p: p.replace("dvc.yaml", "min: 0.5", "minimum: 0.5"), "minimum"),
    ],
    ids=["model missing", "model not recorded", "metrics not recorded", "conflict in dvc.lock", "misspelt gate"],
)
def test_what_cannot_be_registered_is_refused_in_one_line_and_mlflow_is_untouched(small, spoil, says):
    spoil(small)
    done = small.run("dovetail", "register", code=2)
    assert says in done.stderr
    assert done.stderr.count("\n") == 1
    assert "next: " in done.stderr
    assert not (small.root / "mlflow.db").exists()
    assert not (small.root / "mlruns").exists()


def test_an_error_is_one_json_document_when_asked_for(small):
    answer = small.json("register", "nope", code=2)
    assert answer["error"]["kind"] == "UnknownModel"
    assert "it has: m" in answer["error"]["message"]


def test_outside_a_repository_the_next_command_is_named(tmp_path, small):
    done = small.run("dovetail", "register", code=2, cwd=tmp_path)
    assert "git init && dvc init" in done.stderr


def test_a_server_that_does_not_answer_is_exit_code_3(small):
    done = small.run("dovetail", "register", code=3, MLFLOW_TRACKING_URI="http://user:secret@127.0.0.1:9",
                     MLFLOW_HTTP_REQUEST_MAX_RETRIES="0")  # fmt: skip
    assert "127.0.0.1:9" in done.stderr
    assert "secret" not in done.stderr
    assert "Traceback" not in done.stderr


def test_params_of_a_register_stage_are_read_only_where_its_model_has_no_entry(judged):
    judged.replace("dvc.yaml", 'gates: "${gates}"', "gates: {accuracy: {min: 0.1}}")
    judged.replace("params.yaml", "gates: {champion: {target: label}}", "gates: 1")
    with open_workspace(judged.root) as workspace:
        assert workspace.tree.model("m").gates == {"accuracy": {"min": 0.1}}
    judged.replace("dvc.yaml", "  m: {path: m.joblib,", "  other: {path: card.json,")
    with open_workspace(judged.root) as workspace, pytest.raises(UserError, match="gates is 1"):
        workspace.tree.model("m")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*Any type hint is inferred as AnyType:UserWarning")
def test_each_script_is_read_once_and_before_others_wait_for_the_lock(small, monkeypatch):
    small.write("code/a.py", "import train\n")
    small.write("dvc.yaml", TWO_MODELS)
    small.run("dvc", "repro", "-q")
    done, lock = [], register.write_lock
    monkeypatch.setattr(script_uris, "_source", lambda file: done.append(file.name) or file.read_text())
    monkeypatch.setattr(register, "write_lock", lambda root: done.append("locked") or lock(root))
    dovetail.open(small.root).register()
    assert sorted(done[:-1]) == ["a.py", "train.py"]
    assert done[-1] == "locked"
