"""Labelled rows come back to the data: on a branch, through the pipeline, before the gates; nothing else changes."""

import json
import os
import pickle
import shutil
import signal
import subprocess
import time

import commands
import pyarrow as pa
import pyarrow.parquet
import pytest
from project import Project, small_project
from templates import made_once

from dovetail.errors import MissingFile, UserError
from dovetail.render.retrain import retrained as retrained_text
from dovetail.repo.workspace import open_workspace
from dovetail.retraining.remove_key import remove_key
from dovetail.retraining.retrain import RetrainRequest, retrain
from dovetail.serving.log.prediction_log import PredictionLog, Served
from dovetail.tracking import connection
from dovetail.tracking.connection import Tracking
from dovetail.values.documents import Unreadable

pytestmark = pytest.mark.slow

NEW = "a,b\n5,6\n7,8\n"
# As slow as the file SLOW says, after having told its process group.
SLOW = """
import os, time
if os.path.exists(os.environ.get("SLOW", "")):
    open(os.environ["SLOW"], "w").write(str(os.getpgid(0)))
    time.sleep(60)
"""


def state(project):
    """All that is the user's: branches, tags, HEAD, the working tree, its data, MLflow's versions and aliases."""
    asked = (["for-each-ref"], ["rev-parse", "HEAD"], ["status", "--porcelain"])
    store = project.store()
    return (
        [project.run("git", *command).stdout for command in asked],
        {file: file.read_bytes() for file in project.root.iterdir() if file.is_file() and file.suffix != ".db"},
        store.aliases(),
        [version.version for version in store.versions()],
    )


def left(project):
    return [path.name for path in (project.root / ".dvc/tmp/retrain").iterdir()]


def at(project, branch, path):
    return project.run("git", "show", f"{branch}:{path}").stdout


def rows_of_model(project, branch):
    """What the model of a branch was trained on, by its metrics in git."""
    return json.loads(at(project, branch, "out/metrics.json"))["size"]["rows"]


@pytest.fixture(scope="session")
def _retrained(tmp_path_factory):
    def make(folder):
        project = small_project(folder / "small")
        project.run("dvc", "remote", "add", "-q", "-d", "store", str(folder / "remote"))
        project.run("dvc", "repro", "-q")
        project.commit("trained")
        project.run("dvc", "push", "-q")
        project.run("dovetail", "promote", "m")
        before = state(project)
        (folder / "new.csv").write_text(NEW)
        answer = project.json("retrain", "m", "--with", "../new.csv")
        (folder / "told").write_bytes(pickle.dumps((before, answer)))

    folder = made_once(tmp_path_factory, "retrained", make)
    return folder / "small", *pickle.loads((folder / "told").read_bytes())


@pytest.fixture
def retrained(_retrained, tmp_path):
    root, before, answer = _retrained
    shutil.copytree(root, tmp_path / "small", symlinks=True)
    connection.relocate_store(tmp_path / "small")
    shutil.copytree(root.parent / "remote", tmp_path / "remote")  # what one test pushes, no other one has
    (tmp_path / "small/.dvc/config.local").write_text(f"['remote \"store\"']\n    url = {tmp_path / 'remote'}\n")
    (tmp_path / "new.csv").write_text(NEW)
    return Project(tmp_path / "small"), before, answer


@pytest.fixture
def new(tmp_path):
    (tmp_path / "new.csv").write_text(NEW)
    return "../new.csv"


def test_rows_come_to_a_branch_with_a_candidate_and_production_stays(retrained):
    project, before, answer = retrained
    assert answer["rows"] == {"added": 2, "before": 2, "after": 4}
    assert answer["passed"]
    assert answer["version"] == 2
    assert "champion" in [gate["name"] for gate in answer["gates"]]
    assert answer["next"][-1] == "dovetail promote m --version 2"
    branch = answer["branch"]
    assert project.run("git", "rev-parse", branch).stdout.strip() == answer["commit"]
    assert rows_of_model(project, branch) == 4
    assert answer["data"]["b"] in at(project, branch, "data.csv.dvc")
    assert answer["data"]["a"] in at(project, "main", "data.csv.dvc")
    cached = project.root / f".dvc/cache/files/md5/{answer['data']['b'][:2]}/{answer['data']['b'][2:]}"
    assert cached.read_text() == "a,b\n1,2\n3,4\n5,6\n7,8\n"
    after = state(project)
    assert [line for line in after[0][0].splitlines() if branch not in line] == before[0][0].splitlines()
    assert after[0][1:] == before[0][1:]
    assert after[1] == {project.root / file.name: content for file, content in before[1].items()}
    assert before[2] == {"m": {"staging": 1, "production": 1}}
    assert after[2] == {"m": {"staging": 2, "production": 1}}
    assert left(project) == []


def test_the_candidate_can_be_explained_compared_rebuilt_and_checked_out(retrained):
    project, _, answer = retrained
    explained = project.json("lineage", "m/2")
    assert [commit["sha"] for commit in explained["commits"]] == [answer["commit"]]
    assert [entry["md5"] for entry in explained["data"]] == [answer["data"]["b"]]
    (changed,) = [entry for entry in project.json("diff", "m/1", "m/2")["data"] if entry["path"] == "data.csv"]
    assert changed["b"]["md5"] == answer["data"]["b"]
    assert project.json("reproduce", "m/2")["verdict"] == "identical"
    project.run("git", "checkout", "-q", answer["branch"])
    project.run("dvc", "checkout", "-q")
    assert project.run("dvc", "status", "train").stdout.strip() == "Data and pipelines are up to date."
    (shown,) = project.json("status", code=1)["models"]
    assert (shown["workspace"]["version"], shown["staging"]["version"], shown["production"]["version"]) == (2, 2, 1)
    assert [problem for problem in shown["problems"] if "push" not in str(problem)] == []


def test_data_that_is_not_pushed_yet_is_no_fault_of_the_candidate(retrained):
    project, _, answer = retrained
    assert answer["later"] == [gate["name"] for gate in answer["gates"] if not gate["passed"]] == ["provenance.data"]
    assert answer["next"][0] == f"git merge {answer['branch']}"
    project.run("bash", "-c", answer["next"][1])
    assert project.json("promote", "m", "--version", "2", "--dry-run")["passed"]


def test_one_at_a_time_with_a_pause_and_no_row_twice(retrained):
    project, _, first = retrained
    before = state(project)
    early = project.json("retrain", "m", "--with", "../new.csv", code=1)
    assert first["commit"][:8] in early["refused"]
    assert "--pause 0" in early["next"][0]
    assert "may begin" in project.json("retrain", "m", "--with", "../new.csv", "--pause", "1e12", code=1)["refused"]
    lacking = project.json("retrain", "m", "--with", "none.csv", code=2)["error"]
    assert lacking["message"] == "none.csv is not there"
    problems = {one["what"]: one["next"] for one in project.json("status", code=1)["models"][0]["problems"]}
    ahead = f"the workspace is version 1, @staging is version 2, made on {first['branch']}"
    assert problems[ahead] == f"git merge {first['branch']} && dvc checkout"
    again = project.json("retrain", "m", "--with", "../new.csv", "--pause", "0", code=1)
    assert first["branch"] in again["refused"]
    project.run("git", "merge", "-q", first["branch"])
    project.run("git", "branch", "-q", "-D", first["branch"])
    project.run("dvc", "checkout", "-q")
    assert "nothing new" in project.json("retrain", "m", "--with", "../new.csv", "--pause", "0", code=1)["refused"]
    assert first["commit"][:8] in project.json("retrain", "m", "--with", "../new.csv", code=1)["refused"]
    assert state(project)[2:] == before[2:]


def test_a_source_file_in_git_stays_there(small, new):
    small.run("dvc", "remove", "data.csv.dvc")
    small.write("data.csv", "a,b\r\n1,2\r\n3,4")
    small.commit("data in git")
    answer = small.json("retrain", "m", "--with", new, "--workers", "2")
    branch = answer["branch"]
    assert (
        subprocess.run(["git", "show", f"{branch}:data.csv"], cwd=small.root, capture_output=True, check=True).stdout
        == b"a,b\r\n1,2\r\n3,4\r\n5,6\r\n7,8\r\n"
    )
    assert rows_of_model(small, branch) == 4
    assert "data.csv.dvc" not in small.run("git", "ls-tree", "--name-only", branch).stdout


FETCH = {"fetch.py": 'open("data.csv", "w").write("a,b\\n1,2\\n3,4\\n")\n'}
PLAIN = "  fetch: {cmd: python fetch.py, deps: [fetch.py], outs: [data.csv]} # from outside\n"
EACH = """  fetch:
    foreach: ${sources}
    do: {cmd: python fetch.py, deps: [fetch.py], params: ["sources.${key}"], outs: ["${item.raw}"]}
"""
SOURCES = "sources:\n  # one, and no other\n  d: {raw: data.csv}  # read once\n"


@pytest.mark.parametrize(("stage", "params"), [(PLAIN, ""), (EACH, SOURCES)], ids=["plain", "foreach"])
def test_what_was_read_from_outside_becomes_a_file_that_dvc_keeps(small, new, stage, params):
    small.run("dvc", "remove", "data.csv.dvc")
    for name, text in FETCH.items():
        small.write(name, text)
    small.replace("dvc.yaml", "stages:\n", f"stages:\n{stage}")
    small.write("params.yaml", f"train: {{w: 7}} # kept\n{params}")
    small.run("dvc", "repro", "-q", "train")
    small.commit("read from outside")
    answer = small.json("retrain", "m", "--with", new)
    branch = answer["branch"]
    assert rows_of_model(small, branch) == 4
    assert answer["data"]["b"] in at(small, branch, "data.csv.dvc")
    assert "fetch" not in at(small, branch, "dvc.lock")
    assert "# kept" in at(small, branch, "params.yaml")
    assert ("# one, and no other" in at(small, branch, "params.yaml")) == bool(params)
    assert ("fetch" in at(small, branch, "dvc.yaml")) == bool(params)
    small.run("git", "checkout", "-q", branch)
    small.run("dvc", "checkout", "-q")
    assert small.run("dvc", "status", "train").stdout.strip() == "Data and pipelines are up to date."
    assert (small.root / "data.csv").read_text().count("\n") == 5


def test_imported_data_is_refused(small, new, tmp_path):
    (tmp_path / "elsewhere.csv").write_text("a,b\n1,2\n3,4\n")
    small.run("dvc", "remove", "data.csv.dvc")
    small.run("dvc", "import-url", "-q", "--force", str(tmp_path / "elsewhere.csv"), "data.csv")
    small.commit("imported")
    error = small.json("retrain", "m", "--with", new, code=2)["error"]
    assert "elsewhere.csv" in error["message"]
    assert "dvc update data.csv.dvc" in error["next"]


def test_a_folder_gets_a_file_more(small, tmp_path):
    small.run("dvc", "remove", "data.csv.dvc")
    (small.root / "data.csv").unlink()
    (small.root / "data").mkdir()
    pa.parquet.write_table(pa.table({"a": [1, 3], "b": ["x", "y"]}), small.root / "data/first.parquet")
    small.run("dvc", "add", "-q", "data")
    small.replace("dvc.yaml", "train.py, data.csv", "train.py, data")
    small.replace(
        "train.py",
        'open("data.csv").read().splitlines()[1:]',
        '__import__("pyarrow.parquet").parquet.read_table("data").to_pylist()',
    )
    small.run("dvc", "repro", "-q", "train")
    small.commit("a folder")
    (tmp_path / "new.jsonl").write_text('{"a": 5, "b": "z"}\n')
    answer = small.json("retrain", "m", "--with", "../new.jsonl")
    assert answer["rows"] == {"added": 1, "before": 2, "after": 3}
    assert rows_of_model(small, answer["branch"]) == 3
    small.run("git", "checkout", "-q", answer["branch"])
    small.run("dvc", "checkout", "-q")
    kept, added = sorted((small.root / "data").iterdir(), reverse=True)
    assert (kept.name, pa.parquet.read_schema(added)) == ("first.parquet", pa.parquet.read_schema(kept))


def test_a_gate_that_refuses_leaves_the_branch_and_moves_nothing(small, new):
    small.replace("dvc.yaml", "accuracy: {min: 0.5}", "size.rows: {max: 3}")
    small.commit("a gate")
    answer = small.json("retrain", "m", "--with", new, code=1)
    assert answer["passed"] is False
    assert [gate["name"] for gate in answer["gates"] if not gate["passed"]] == ["size.rows"]
    assert small.run("git", "rev-parse", answer["branch"]).stdout.strip() == answer["commit"]
    assert small.store().aliases() == {"m": {}}


def test_a_stage_that_fails_leaves_nothing_behind(small, new):
    small.write("train.py", 'raise SystemExit("no rows of that kind, please")\n')
    small.commit("picky")
    before = state(small)
    error = small.json("retrain", "m", "--with", new, code=2)["error"]
    assert error["kind"] == "PipelineFailed"
    assert "no rows of that kind" in error["message"]
    assert "'train'" in error["message"]
    assert state(small) == before
    assert left(small) == []


def begin(project, slow, *, plain=False):
    """A retraining that has come as far as the training script."""
    slow.write_text("")
    environment = {**os.environ, "PATH": commands.path(plain=plain), "SLOW": str(slow)}
    command = ["dovetail", "retrain", "m", "--with", "../new.csv", "--json"]
    process = subprocess.Popen(command, cwd=project.root, env=environment, stdout=subprocess.PIPE, text=True)
    for _ in range(3000):
        if slow.read_text():
            return process, int(slow.read_text())
        time.sleep(0.1)
    process.kill()
    raise AssertionError("it never came to train")


def test_interrupted_or_killed_it_leaves_all_as_it_was_and_another_waits(small, new, tmp_path):
    small.write("train.py", SLOW + (small.root / "train.py").read_text())
    small.commit("slow")
    before, slow = state(small), tmp_path / "slow"
    process, _ = begin(small, slow)
    assert small.json("retrain", "m", "--with", new, code=3)["error"]["kind"] == "Busy"
    process.send_signal(signal.SIGINT)
    assert json.loads(process.communicate()[0])["error"]["kind"] == "Interrupted"
    assert process.returncode == 130
    assert (state(small), left(small)) == (before, [])
    process, group = begin(small, slow, plain=True)
    process.kill()
    process.communicate()
    os.killpg(group, signal.SIGKILL)  # what the killed one had started
    assert state(small) == before
    slow.unlink()
    small.killed("take_branch", "retrain", "m", "--with", new)  # the model is registered by then
    assert (state(small)[0], small.store().counts()) == (before[0], (1, 1))
    assert small.json("retrain", "m", "--with", new)["version"] == 1
    assert (small.store().counts(), left(small)) == ((1, 1), [])


RENAMED = "meta: {retrain: {columns: {x: a, y: b}, label: y}, "


def predict(project, request, asked, labels):
    """What `dovetail serve` remembers of a request, and of the labels that came for it."""
    log = PredictionLog(project.root / "monitoring/m", flush_seconds=600)
    log.served(Served(request, time.time(), 1, "predict", {"x": asked}, json.dumps(["6"] * len(asked)).encode()))
    log.labelled(request, labels, time.time())
    log.close()


@pytest.fixture
def fed(small):
    """A project whose model calls its columns otherwise, and was asked about three rows; two have labels."""
    small.replace("dvc.yaml", "meta: {", RENAMED)
    small.commit("renamed")
    predict(small, "p", [5, 7, 9], ["6", None, "10"])
    return small


def ask(project, data="feedback", **options):
    with open_workspace(project.root) as workspace:
        tracking = Tracking(workspace.store_root)
        return retrain(workspace, tracking, RetrainRequest("m", str(data), **options)).as_json()


def test_feedback_comes_back_under_the_raw_names_and_only_once(fed):
    answer = fed.json("retrain", "m", "--with", "feedback")
    assert answer["rows"]["added"] == 2
    fed.run("git", "merge", "-q", answer["branch"])
    fed.run("dvc", "checkout", "-q")
    assert (fed.root / "data.csv").read_text() == "a,b\n1,2\n3,4\n5,6\n9,10\n"
    assert "nothing new" in ask(fed, pause=0)["refused"]
    predict(fed, "q", [11], ["12"])
    assert ask(fed, dry_run=True)["rows"]["added"] == 1
    shutil.rmtree(fed.root / "monitoring/m/predictions")
    assert "nothing new" in ask(fed, pause=0)["refused"]
    shutil.rmtree(fed.root / "monitoring/m")
    with pytest.raises(MissingFile, match="dovetail serve m"):
        ask(fed, pause=0)


def test_a_label_that_does_not_fit_is_set_aside_with_its_count(fed):
    predict(fed, "q", [11, 13, 15], ["12", "many", "16"])
    answer = ask(fed, dry_run=True)
    assert (answer["rows"]["added"], answer["set_aside"]) == (4, 1)
    said = fed.run("dovetail", "retrain", "m", "--with", "feedback", "--dry-run").stdout
    assert "4 more from feedback (1 whose label does not fit are set aside)" in said


@pytest.mark.parametrize(
    ("classes", "added"),
    [(["6", "12"], ["5,6", "11,12"]), ([6, 10, 12], ["5,6", "9,10", "11,12"]), ([True, False], None)],
)
def test_a_label_that_is_no_class_of_the_model_is_set_aside(fed, classes, added):
    fed.replace(
        "train.py",
        "rows = open",
        f"json.dump({{'inputs': [], 'classes': {classes!r}}}, open('card.json', 'w'))\nrows = open",
    )
    fed.replace("dvc.yaml", "outs: [out/m.joblib]", "outs: [out/m.joblib, card.json]")
    fed.replace("dvc.yaml", "meta: {", "meta: {card: card.json, ")
    fed.run("dvc", "repro", "-q", "train")
    fed.commit("a card")
    predict(fed, "q", [11, 13], ["12", "14"])
    if added is None:
        with pytest.raises(UserError, match=r"no label of the 4 new rows of feedback fits data\.csv: '10', '12', '14'"):
            ask(fed, dry_run=True)
    else:
        answer = ask(fed, dry_run=True)
        assert (answer["rows"]["added"], answer["set_aside"]) == (len(added), 4 - len(added))


def test_a_log_with_a_broken_file_is_said_to_be_so(fed):
    (broken,) = (fed.root / "monitoring/m/predictions").glob("*.parquet")
    broken.write_bytes(b"not Parquet")
    with pytest.raises(
        MissingFile, match=rf"prediction log .* cannot be read: {broken}: Parquet magic bytes not found"
    ):
        ask(fed)


def test_feedback_that_cannot_be_brought_back_is_refused(fed):
    fed.replace("dvc.yaml", "columns: {x: a, y: b}, label: y", "label: b")
    fed.commit("no names")
    with pytest.raises(UserError, match=r"feedback lacks a; data.csv lacks x.*artifacts.m.meta.retrain.columns.*FILE"):
        ask(fed)
    fed.replace("dvc.yaml", "retrain: {label: b}, ", "")
    fed.commit("no label")
    with pytest.raises(UserError, match=r"label of m is not known.*set artifacts.m.meta.retrain.label"):
        ask(fed)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a,b\n", "holds no rows"),
        ("a\n1\n", "lacks columns: b; data.csv has a, b"),
        ("a,b,c\n1,2,3\n", "unknown there: c"),
        ("a,b\n9,1,2\n8,3,4\n", "cannot be read as a table: CSV parse error: .*Expected 2 columns, got 3"),
        ("a,b\n1,2\n3\n", "cannot be read as a table: CSV parse error: .*Expected 2 columns, got 1"),
        ("a,b\nred,2\n", "column a does not fit data.csv, which holds int64 there: .*red"),
        ("a,b\n1,2\n3,\n", "row 2 has no b, which is the label"),
    ],
)
def test_rows_that_do_not_fit_are_refused_before_anything_runs(fed, tmp_path, text, said):
    (tmp_path / "bad.csv").write_text(text)
    with pytest.raises(UserError, match=said):
        ask(fed, tmp_path / "bad.csv")


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("{labels: b}", "unknown keys .'labels'.; next: use into, columns, label"),
        ("{columns: b}", "columns is 'b'"),
        ("{label: c}", "does not have: c; next: use a, b"),
        ("{into: other.csv}", "m has no raw table 'other.csv'; it has: data.csv"),
    ],
)
def test_settings_that_mean_nothing_are_refused(fed, tmp_path, setting, said):
    (tmp_path / "new.csv").write_text(NEW)
    fed.replace("dvc.yaml", "{columns: {x: a, y: b}, label: y}", setting)
    fed.commit("wrong")
    with pytest.raises(UserError, match=said):
        ask(fed, tmp_path / "new.csv")


def test_a_branch_that_git_will_not_take_is_refused_beforehand(fed):
    fed.run("git", "branch", "retrain")
    with pytest.raises(UserError, match=r"a branch retrain stands in the way.*git branch -m retrain"):
        ask(fed)


def test_what_people_read(retrained):
    project, _, answer = retrained
    text = retrained_text(answer)
    assert f"data.csv: 2 rows, 2 more from new.csv; md5 {answer['data']['a'][:8]} → {answer['data']['b'][:8]}" in text
    assert f"m version 2 on {answer['branch']} passes its gates (production is version 1)" in text
    assert text.endswith("next: dovetail promote m --version 2")
    refusing = [{**gate, "passed": gate["name"] != "champion"} for gate in answer["gates"]]
    assert "does not pass champion" in retrained_text({**answer, "gates": refusing, "later": [], "passed": False})
    early = project.run("dovetail", "retrain", "m", "--with", "../new.csv", code=1).stdout
    assert "may begin at" in early
    assert "next: run the same command again then" in early


def test_a_dry_run_says_what_would_be_added(fed, tmp_path):
    (tmp_path / "new.csv").write_text("y,x\n6,5\n")
    before = state(fed)
    answer = ask(fed, tmp_path / "new.csv", dry_run=True)
    assert (answer["rows"], answer["branch"]) == ({"added": 1, "before": 2, "after": 3}, None)
    assert state(fed) == before


@pytest.mark.parametrize(
    "text",
    [
        "a: {x: 1}\na: {x: 2}\n",
        "a: &a {x: *a}\n",
        "<<<<<<< HEAD\na: {x: 1}\n=======\n>>>>>>> other\n",
        "a: {x: 2020-13-45}\n",
    ],
)
def test_no_key_is_cut_out_of_what_is_no_yaml(text):
    with pytest.raises(Unreadable):
        remove_key(text, ("a", "x"))


BLOCK = "a:\n  x: >-\n    text\n\n    more\n  # of y\n  y:\n    - 1  # one\n    - {z: 2}\n\n  w: 3 # three\n"


@pytest.mark.parametrize(
    ("text", "path", "expected"),
    [
        ("a: {x: 1, y: {z: 2}, w: 3}\n", ("a", "y"), "a: {x: 1, w: 3}\n"),
        ("a: {x: 1, w: 3} # kept\n", ("a", "w"), "a: {x: 1} # kept\n"),
        ("a: {x: 1}\n", ("a", "x"), "a: {}\n"),
        ("a: # kept\n  x: 1\nb: 2\n", ("a", "x"), "a: # kept\n  {}\nb: 2\n"),
        (BLOCK, ("a", "x"), BLOCK.replace("  x: >-\n    text\n\n    more\n", "")),
        (BLOCK, ("a", "y"), BLOCK.replace("  y:\n    - 1  # one\n    - {z: 2}\n", "")),
        (BLOCK, ("a", "w"), BLOCK.replace("  w: 3 # three\n", "")),
    ],
)
def test_a_key_is_cut_out_and_nothing_else(text, path, expected):
    assert remove_key(text, path) == expected
