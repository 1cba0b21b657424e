"""Promotion on evidence, a ledger in git, one step back: what must hold when something goes wrong as well."""

import json
import os
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import pandas as pd
import pytest
import templates
from mlflow.models import Model, ModelSignature
from mlflow.types.schema import ColSpec, Schema
from next_commands import alternatives, following, typed
from project import copy_of, facts
from templates import version
from tracking_server import tracking_server

from dovetail.promotion.history import HistoryAnswer
from dovetail.promotion.promote import PromoteAnswer
from dovetail.promotion.rollback import RollbackAnswer
from dovetail.render.promote import moved
from dovetail.tracking.store import Described

KILLED = Path(__file__).with_name("kill_at.py")
EVIL = """
import joblib, os
class Evil:
    def __reduce__(self):
        return os.system, ("touch {marker}",)
joblib.dump(Evil(), "out/m.joblib")
"""


@pytest.fixture
def made(tmp_path_factory, tmp_path):
    """Two committed versions, the newer one staged."""
    return copy_of(templates.versions(tmp_path_factory), tmp_path / "small")


def gates(answer):
    return {gate["name"]: gate["passed"] for gate in answer["gates"]}


def ours(project):
    """The tags of the ledger."""
    return [tag for tag in project.run("git", "tag").stdout.split() if tag.startswith("m")]


@pytest.mark.slow
def test_promoted_and_taken_back_as_gto_reads_it_and_as_history_tells(made):
    first = made.json("promote", "m", "--version", "1", "--reason", "the first")
    assert (first["promoted"], first["from"], first["to"], first["tag"]) == (True, None, 1, "m#production#1")
    second = made.json("promote", "m")
    assert (second["version"], second["from"], second["tag"]) == (2, 1, "m#production#2")
    assert made.store().aliases() == {"m": {"staging": 2, "production": 2}}
    assert made.json("promote", "m")["tag"] == "m#production#2"  # again: nothing new
    back = made.json("rollback", "m", "--reason", "it was slow")
    assert (back["version"], back["from"], back["tag"], back["alias_moved"]) == (1, 2, "m#production#3", True)
    assert made.store().aliases()["m"]["production"] == 1
    refused = made.json("rollback", "m", code=2)
    assert "has no earlier version to roll back to" in refused["error"]["message"]

    events = made.json("history", "m")["events"]
    assert [(e["kind"], e["version"], e["from"]) for e in events] == [
        ("rollback", 1, 2), ("promote", 2, 1), ("promote", 1, None),
    ]  # fmt: skip
    assert [e["reason"] for e in events] == ["it was slow", "", "the first"]
    assert "Ada Tester" in events[0]["actor"]
    assert {gate["name"] for gate in events[1]["evidence"]["gates"]} >= {
        "provenance.commit",
        "pickle.names",
        "accuracy",
    }
    run = next(v.run_id for v in made.store().versions() if int(v.version) == 2)
    kept = made.store().client.download_artifacts(run, "promotions/production-2.json")
    assert made.run("sha256sum", kept).stdout.split()[0] == events[1]["evidence"]["sha256"]
    assert json.loads(Path(kept).read_text())["evidence"]["metrics"]["accuracy"] == 0.8

    assert "m#production#3" in made.run("gto", "history", "m", "--plain").stdout
    assert "v1.0.0" in made.run("gto", "show", "m#production", "--plain").stdout

    first, second = (version.description for version in made.store().versions())
    assert "**Promoted to production** on " in first
    assert ", `m#production#3`: “it was slow”" in first
    assert "**Made production again by a rollback** on " in first
    assert "**Promoted to production** on " in second
    assert "**Taken back from production** on " in second


def test_a_version_is_tagged_once_however_many_commits_hold_it(made):
    made.json("promote", "m")
    made.write("data.csv.dvc", (made.root / "data.csv.dvc").read_text())
    lock = (made.root / "dvc.lock").read_text()
    made.write("dvc.lock", lock.replace("schema:", "# written again\nschema:"))
    made.commit("the same model in another commit")
    assert made.json("promote", "m")["already"] is True
    assert made.json("promote", "m", "--to", "live", "--yes")["tag"] == "m#live#2"
    assert ours(made) == ["m#live#2", "m#production#1", "m@v2.0.0"]


def test_a_dry_run_changes_nothing_and_a_refusal_says_why(made):
    assert made.json("promote", "m", "--dry-run")["promoted"] is False
    made.write("params.yaml", "train: {w: 9}\n")
    made.run("dvc", "repro", "-q")
    answer = made.json("promote", "m", code=1)
    assert (answer["promoted"], answer["version"]) == (False, 3)
    assert [name for name, passed in gates(answer).items() if not passed] == ["provenance.commit"]
    text = made.run("dovetail", "promote", "m", "--force", "--reason", "now", code=1).stdout
    assert "no commit holds it" in text
    assert "next: git add -A && git commit" in text
    assert ours(made) == []
    assert made.store().aliases()["m"] == {"staging": 3}


def test_against_its_gates_only_with_a_reason_and_for_ever_shown_as_such(made):
    version(made, 3)
    answer = made.json("promote", "m", code=1)
    assert gates(answer)["accuracy"] is False
    assert "--reason" in made.json("promote", "m", "--force", code=2)["error"]["next"]
    forced = made.json("promote", "m", "--force", "--reason", "the old one leaks")
    assert (forced["promoted"], forced["forced"]) == (True, True)
    shown = made.run("dovetail", "history", "m").stdout
    assert "AGAINST accuracy" in shown
    assert "the old one leaks" in shown


def test_code_that_is_not_what_trained_the_model_is_no_provenance(made):
    made.write("train.py", (made.root / "train.py").read_text() + "# later\n")
    made.commit("not what dvc.lock says")
    made.run("git", "commit", "-q", "--allow-empty", "-m", "lock")
    lock = (made.root / "dvc.lock").read_text()
    made.write("dvc.lock", lock + "\n")
    made.commit("the lock beside other code")
    answer = made.json("promote", "m", code=1)
    assert "train.py" in next(g["detail"] for g in answer["gates"] if g["name"] == "provenance.commit")


def test_from_a_dirty_tree_and_a_detached_head_the_commit_is_what_counts(made):
    made.run("git", "checkout", "-q", "--detach", "HEAD~1")
    made.run("dvc", "checkout", "-q")
    made.write("notes.txt", "mine")
    made.write("data.csv.dvc", (made.root / "data.csv.dvc").read_text() + "\n")
    answer = made.json("promote", "m")
    assert (answer["version"], answer["promoted"]) == (1, True)
    assert made.run("git", "rev-parse", "m#production#1^{}").stdout == made.run("git", "rev-parse", "HEAD").stdout


def test_a_remote_that_lost_an_object_is_found_before_it_matters(made, tmp_path):
    made.run("dvc", "remote", "add", "-q", "-d", "store", str(tmp_path / "remote"))
    made.run("dvc", "push", "-q")
    md5 = made.run("md5sum", "data.csv").stdout.split()[0]
    lost = tmp_path / "remote/files/md5" / md5[:2] / md5[2:]
    lost.unlink()
    answer = made.json("promote", "m", code=1)
    (gate,) = [g for g in answer["gates"] if not g["passed"]]
    assert (gate["name"], "data.csv" in gate["detail"]) == ("provenance.data", True)
    made.run("dvc", "push", "-q")
    assert made.json("promote", "m")["promoted"] is True


@pytest.mark.slow
def test_a_pickle_that_runs_a_command_is_refused_wherever_a_model_is_read(small, tmp_path):
    marker = tmp_path / "pwned"
    small.write("train.py", (small.root / "train.py").read_text() + EVIL.format(marker=marker))
    small.run("dvc", "repro", "-q")
    small.commit("evil")
    (done,) = small.json("register", "m")
    answer = small.json("promote", "m", "--version", "1", "--dry-run", code=1)
    for found in (done["gates"], answer["gates"]):
        (gate,) = [g for g in found if not g["passed"]]
        assert (gate["name"], "posix.system" in gate["detail"]) == ("pickle.names", True)
        assert gate["next"].endswith("pickle: {allow: [posix.system]}")
    assert small.store().aliases() == {"m": {}}
    served = small.run("dovetail", "serve", "m/1", "--port", "0", code=None)
    assert served.returncode
    assert "posix.system" in served.stderr
    load = "import mlflow; mlflow.pyfunc.load_model('models:/m/1')"
    done = small.run(sys.executable, "-c", load, code=1, MLFLOW_TRACKING_URI=f"sqlite:///{small.root}/mlflow.db")
    assert "the model names posix.system, which the table of names does not allow" in done.stderr
    assert not marker.exists()


@pytest.mark.slow
def test_the_loader_reads_what_the_gates_allow_and_no_other_module(small):
    small.write("mine.py", "class Mine:\n    def predict(self, rows):\n        return [1] * len(rows)\n")
    small.replace("train.py", "joblib.dump(model", "from mine import Mine; joblib.dump(Mine()")
    small.run("dvc", "repro", "-q")
    load = "import mlflow; print(mlflow.pyfunc.load_model('models:/m/1').predict([[0], [0]]))"
    env = {"MLFLOW_TRACKING_URI": f"sqlite:///{small.root}/mlflow.db", "PYTHONPATH": str(small.root)}
    refused = small.run(sys.executable, "-c", load, code=1, **env)
    assert "the model names mine.Mine, which the table of names does not allow" in refused.stderr
    small.replace("dvc.yaml", "accuracy: {min: 0.5}", "accuracy: {min: 0.5}, pickle: {allow: [mine]}")
    small.json("register", "m", PYTHONPATH=str(small.root))
    assert small.run(sys.executable, "-c", load, **env).stdout.strip() == "[1, 1]"
    assert [facts(v)["dovetail.pickle.allow"] for v in small.store().versions()] == ["mine"]


def test_a_tampered_artifact_is_refused_and_never_read(made, tmp_path):
    marker = tmp_path / "pwned"
    (stored,) = [f for f in (made.root / "mlruns").rglob("m.joblib") if f.read_bytes() == bytes_of(made)]
    made.run(sys.executable, "-c", EVIL.format(marker=marker).replace("out/m.joblib", str(stored)))
    answer = made.json("promote", "m", code=1)
    (gate,) = [g for g in answer["gates"] if not g["passed"]]
    assert (gate["name"], "it was not read" in gate["detail"]) == ("pickle.digest", True)
    assert not marker.exists()


def bytes_of(project):
    return (project.root / "out/m.joblib").read_bytes()


@pytest.mark.slow
def test_killed_between_any_two_steps_nothing_is_lost_and_the_next_run_completes(made):
    for step in ("log_text", "tag", "alias_tag", "set_registered_model_alias"):
        made.killed(step, "promote", "m")
    assert ours(made) == ["m#production#1", "m@v2.0.0"]
    assert "production" not in made.store().aliases()["m"]
    (model,) = made.json("status", code=1)["models"]
    assert "m#production#1 says version 2" in model["problems"][0]["what"]
    assert made.json("sync")["aliases"] == [{"model": "m", "alias": "production", "from": None, "to": 2}]
    assert made.json("status")["models"][0]["in_sync"] is True
    made.json("promote", "m", "--version", "1")
    for step in ("tag", "set_registered_model_alias"):
        made.killed(step, "rollback", "m")
    assert made.json("history", "m")["events"][0]["kind"] == "rollback"
    made.json("sync")
    assert made.store().aliases()["m"]["production"] == 2


MEETING = """
import os, time
from pathlib import Path
from dovetail.cli import main
from dovetail.promotion import promote
gather, place = promote.gather, Path(os.environ["MEET"])

def meet(*args, **named):
    (place / str(os.getpid())).touch()
    while len(list(place.iterdir())) < 2:
        time.sleep(0.01)
    return gather(*args, **named)

promote.gather = meet
main()
"""


@pytest.mark.slow
def test_two_at_once_one_wins_and_the_other_is_told(made, tmp_path_factory):
    tmp_path = tmp_path_factory.mktemp("meet")  # both have chosen when the gates run
    both = [
        subprocess.Popen(
            [sys.executable, "-c", MEETING, "promote", "m", "--version", number], cwd=made.root,
            env={**os.environ, **made.env, "MEET": str(tmp_path)}, stderr=subprocess.PIPE, text=True,
        )
        for number in "12"
    ]  # fmt: skip
    told = [process.communicate()[1] for process in both]
    assert sorted(process.returncode for process in both) == [0, 3]
    (late,) = (line for line in told if "moved while the gates ran" in line)
    assert "moved while" not in typed(made, following(late, "moved while")[0]).stderr
    assert len([tag for tag in ours(made) if "#" in tag]) == 2  # one by the winner, one by what was typed


def test_where_git_may_not_tag_nothing_changes(made):
    hook = made.write(".git/hooks/reference-transaction", "#!/bin/sh\ngrep -q refs/tags && exit 1\nexit 0\n")
    hook.chmod(0o755)
    refused = made.json("promote", "m", code=3)["error"]
    assert refused["kind"] == "TagRefused"
    assert ours(made) == []
    assert "production" not in made.store().aliases()["m"]
    assert hook.name in typed(made, alternatives(refused["next"])[0]).stdout
    hook.unlink()
    assert made.json("promote", "m")["promoted"]


@pytest.mark.slow
def test_a_server_that_dies_before_the_alias_moves_leaves_a_tag_that_sync_follows(made, tmp_path):
    with tracking_server(tmp_path, f"sqlite:///{made.root}/mlflow.db") as server:
        victim = f"-{server.process.pid}"
        env = {"MLFLOW_TRACKING_URI": server.uri, "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1", "VICTIM": victim}
        done = made.killed("set_registered_model_alias", "promote", "m", code=3, **env)
    assert "the tag m#production#1 is made, MLflow's alias was not moved" in done.stderr
    typed(made, following(done.stderr, "was not moved")[0])
    assert made.store().aliases()["m"]["production"] == 2
    assert made.json("promote", "m")["already"]


def test_a_rollback_that_moved_the_alias_says_so_though_mlflow_takes_no_description(made):
    made.json("promote", "m", "--version", "1")
    made.json("promote", "m")
    with closing(sqlite3.connect(made.root / "mlflow.db")) as store:
        store.execute(
            "CREATE TRIGGER refused BEFORE UPDATE OF description ON model_versions BEGIN SELECT RAISE(ABORT, 'no'); END"
        )
        store.commit()
    back = made.json("rollback", "m")
    assert (back["alias_moved"], bool(back["problem"]), back["next"]) == (True, True, "dovetail sync")
    assert made.store().aliases()["m"]["production"] == back["version"] == 1
    assert "MLflow's descriptions stay behind: " in moved(back)


@pytest.mark.slow
def test_with_mlflow_gone_back_and_history_work_and_sync_brings_aliases_and_numbers(made):
    made.write("params.yaml", "train: {w: 9}\n")  # version 3, in no commit: nobody can bring it back
    made.run("dvc", "repro", "-q")
    version(made, 6)
    made.json("promote", "m", "--version", "1")
    made.json("promote", "m", "--version", "4")
    (made.root / "mlflow.db").unlink()
    shutil.rmtree(made.root / "mlruns")
    back = made.json("rollback", "m")
    assert (back["version"], back["promoted"], back["alias_moved"]) == (1, True, False)
    assert [e["version"] for e in made.json("history", "m")["events"]] == [1, 4, 1]
    assert not (made.root / "mlflow.db").exists()
    made.json("sync")
    shown = made.store()
    assert [int(v.version) for v in shown.versions()] == [1, 2, 4]
    assert shown.aliases() == {"m": {"production": 1, "staging": 4}}


def test_what_was_named_at_a_time(made):
    made.json("promote", "m", "--version", "1")
    time = made.json("history", "m")["events"][0]["time"]
    made.json("promote", "m")
    assert [e["version"] for e in made.json("history", "m", "--at", time)["events"]] == [1]
    today = datetime.now().astimezone().date()
    for at, seen in (
        ("2000-01-01", []),
        ("0001-01-01", []),
        (f"{today:%Y-%m-%d}", [2]),
        (f"{today:%Y%m%d}", [2]),
        ("9999-12-31", [2]),
    ):
        assert [e["version"] for e in made.json("history", "m", "--at", at)["events"]] == seen, at
    assert "is not a time" in made.json("history", "m", "--at", "noon", code=2)["error"]["message"]


@pytest.mark.slow
def test_an_assignment_by_plain_gto_is_followed_and_shown_as_made_without_gates(made):
    made.run("gto", "register", "m", "HEAD", "--version", "v0.3.1")
    made.run("gto", "assign", "m", "HEAD", "--stage", "prod")
    assert made.json("sync")["aliases"] == [{"model": "m", "alias": "prod", "from": None, "to": 2}]
    (event,) = made.json("history", "m")["events"]
    assert (event["kind"], event["semver"], event["evidence"]) == ("assign", "v0.3.1", {})
    assert "made without gates" in made.run("dovetail", "history", "m").stdout
    assert made.json("promote", "m", "--to", "live", "--yes")["tag"] == "m#live#2"
    assert ours(made) == ["m#live#2", "m#prod#1", "m@v0.3.1"]  # their version number is kept
    made.run("gto", "deprecate", "m", "v0.3.1", "prod")
    assert made.json("sync")["aliases"] == [{"model": "m", "alias": "prod", "from": 2, "to": None}]


def test_the_champion_is_what_the_ledger_says_not_where_somebody_moved_the_alias(made):
    made.json("promote", "m", "--version", "1")
    made.store().client.delete_registered_model_alias("m", "production")
    assert made.json("promote", "m", "--dry-run")["from"] == 1
    made.store().client.set_registered_model_alias("m", "production", "2")
    assert made.json("promote", "m")["from"] == 1


def test_an_alias_moved_by_hand_is_reported_and_put_back(made):
    made.store().client.set_registered_model_alias("m", "production", "1")
    (model,) = made.json("status", code=1)["models"]
    assert "no tag records it: it was moved by hand" in model["problems"][0]["what"]
    made.json("promote", "m")
    made.store().client.set_registered_model_alias("m", "production", "1")
    (model,) = made.json("status", code=1)["models"]
    assert model["problems"][0]["next"] == "dovetail sync"
    assert made.json("sync")["aliases"] == [{"model": "m", "alias": "production", "from": 1, "to": 2}]


@pytest.mark.slow
def test_the_champion_is_met_on_the_same_rows(judged):
    assert judged.json("promote", "m")["promoted"] is True
    judged.write(
        "params.yaml", "wrong: 9\ngates: {champion: {target: label}, slices: {group: {metric: accuracy, min: 0.9}}}\n"
    )
    judged.run("dvc", "repro", "-q")
    judged.commit("worse")
    answer = judged.json("promote", "m", code=1)
    failed = {gate["name"]: gate for gate in answer["gates"] if not gate["passed"]}
    assert set(failed) == {"champion", "slices.group"}
    assert failed["champion"]["value"] < -0.2
    assert failed["champion"]["detail"].endswith("60 rows)")
    judged.write("params.yaml", "wrong: 9\ngates: {champion: {target: label, margin: 0.9}}\n")
    judged.run("dvc", "repro", "-q")
    judged.commit("allowed to be worse")
    assert judged.json("promote", "m", "--dry-run")["passed"] is True
    for file in (judged.root / "mlruns").rglob("m.joblib"):
        if file.read_bytes() != (judged.root / "m.joblib").read_bytes():
            file.unlink()  # the champion's
    answer = judged.json("promote", "m", code=1)
    (gate,) = [gate for gate in answer["gates"] if not gate["passed"]]
    assert "not compared with version 1" in gate["detail"]
    assert "--force" in gate["next"]


@pytest.mark.slow
def test_the_champion_is_met_on_the_rows_of_a_folder_of_parts(judged):
    judged.replace("split.py", '("test", rows[:60])', '("test/1", rows[:25]), ("test/2", []), ("test/3", rows[25:60])')
    judged.replace("split.py", "import csv", "import csv, os\nos.makedirs('test', exist_ok=True)")
    judged.replace("dvc.yaml", "outs: [train.csv, test.csv]", "outs: [train.csv, test]")
    judged.replace("dvc.yaml", "deps: [judge.py, test.csv", "deps: [judge.py, test")
    judged.replace("judge.py", 'read_csv("test.csv")', 'concat(map(pandas.read_csv, ["test/1.csv", "test/3.csv"]))')
    judged.run("dvc", "repro", "-q")
    judged.commit("the test part in parts")
    assert judged.json("promote", "m")["promoted"] is True
    judged.write("params.yaml", "wrong: 9\ngates: {champion: {target: label}}\n")
    judged.run("dvc", "repro", "-q")
    judged.commit("worse")
    (gate,) = [gate for gate in judged.json("promote", "m", code=1)["gates"] if not gate["passed"]]
    assert gate["name"] == "champion"
    assert gate["detail"].endswith("60 rows)")


@pytest.mark.slow
def test_whole_numbers_of_a_column_that_may_be_missing_are_predicted_from(judged):
    """As pandas reads a test set in which none is missing."""
    card = (judged.root / "judge.py").read_text().replace('"int64", "nullable": False', '"float64", "nullable": True')
    judged.write("judge.py", card.replace("[5, 3]", "[5, None]"))
    judged.write("params.yaml", (judged.root / "params.yaml").read_text().replace("wrong: 0", "wrong: 1"))
    judged.run("dvc", "repro", "-q")
    judged.commit("columns that may be missing")
    assert gates(judged.json("promote", "m"))["serving.loads"]


@pytest.mark.parametrize("values", [[1, 2], [True, False], [True, None], [1.5, None], ["text", "1"]])
def test_what_the_signature_has_as_floats_is_given_as_floats_if_it_is_a_number_or_a_boolean(values):
    signature = ModelSignature(Schema([ColSpec("double", "u", required=False), ColSpec("string", "v")]))
    table = pd.DataFrame({"u": values, "v": ["a", "b"]})
    given = Described(Model(signature=signature), None, ("u", "v"), ("u",)).given(table)
    assert (given["u"].dtype == "float64") == ("text" not in values)
    assert list(given["v"]) == ["a", "b"]
    without = Described(Model(), None, (), ()).given(table)
    pd.testing.assert_frame_equal(without, table)


@pytest.mark.slow
def test_ten_rows_tell_nothing(judged):
    judged.replace("split.py", "rows[:60]", "rows[:10]")
    judged.run("dvc", "repro", "-q")
    judged.commit("ten rows")
    judged.json("promote", "m")
    judged.write("params.yaml", "wrong: 3\ngates: {champion: {target: label}}\n")
    judged.run("dvc", "repro", "-q")
    judged.commit("other")
    answer = judged.json("promote", "m", code=1)
    (gate,) = [gate for gate in answer["gates"] if not gate["passed"]]
    assert gate["detail"].startswith("10 rows are too few to tell it from version 1")
    assert gate["next"] == "a larger test part, or champion: {min_rows: 10}"


def test_history_and_rollback_need_neither_dvc_nor_mlflow(small):
    code = """
import sys
from dovetail.cli import main
for command, code in (("history", 0), ("rollback", 2)):
    try:
        main([command, "m"])
    except SystemExit as end:
        assert end.code == code, end.code
print([name for name in ("dvc", "mlflow") if name in sys.modules])
"""
    small.run("git", "tag", "-a", "-m", "one", "m@v1.0.0")
    small.run("git", "tag", "-a", "-m", "one", "m#staging#1")
    done = small.run(sys.executable, "-c", code)
    assert "m@production has no earlier version to roll back to: no tag names it" in done.stderr
    assert done.stdout.splitlines()[-1] == "[]"


def test_answers_show_the_thing_and_the_outcome_in_one_line():
    promoted = PromoteAnswer("iris", "production", 3, 2, "c" * 40, promoted=True, passed=True, forced=False,
                             dry_run=False, already=False, tag="iris#production#2", gates=())  # fmt: skip
    assert repr(promoted) == "<PromoteAnswer iris/3 → production: promoted>"
    assert repr(replace(promoted, promoted=False, passed=False)) == "<PromoteAnswer iris/3 → production: refused>"
    assert repr(RollbackAnswer("iris", "production", 2, 3, "iris#production#3", alias_moved=True, problem=None)) == (
        "<RollbackAnswer iris/2 → production: rolled back>"
    )
    assert repr(HistoryAnswer("iris", ())) == "<HistoryAnswer iris: 0 events>"
