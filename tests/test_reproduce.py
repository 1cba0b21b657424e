"""The same again from commit and data, or why not; and the user's own files, cache and store stay as they are."""

import json
import os
import platform
import re
import shutil
import signal
import subprocess
import time
from importlib.metadata import version
from pathlib import Path

import commands
import pytest
from next_commands import ends
from project import BIN, facts

from dovetail.repo.worktree import own_code
from dovetail.reproduction.by_value import Sameness
from dovetail.reproduction.verdict import ChangedInput, Output, cause, changed_metrics, verdict
from dovetail.values.environment import Change, Environment, changes
from dovetail.values.tag_keys import Reproduction


def trained(project, code, *replaced):
    """The project with other training code, trained and committed; no MLflow is needed for `HEAD:m`."""
    project.replace("train.py", "\nrows = ", f"\n{code}\nrows = ")
    if replaced:
        project.replace("train.py", *replaced)
    project.run("dvc", "repro", "-q", "train")
    return project.commit("other code")


def light(project):
    """Let `train.py` write the bytes that it has written before, with other rows in the model where `w` is no longer 7.

    It needs no scikit-learn then, which takes a second to be imported: for what tries many settings that count on
    import, so that the fork server has none of them.
    """
    made = (project.root / "out/m.joblib").read_bytes()
    assert made.count(b"1,2") == 1
    file = project.root / "train.py"
    begin, _, rest = file.read_text().partition("model = ")
    _, dumped, end = rest.partition('joblib.dump(model, "out/m.joblib")\n')
    assert dumped
    begin = begin.replace("joblib, yaml\nfrom sklearn.dummy import DummyRegressor", "hashlib, yaml")
    assert "joblib" not in begin
    file.write_text(f"""{begin}rows_ = "1,2" if w == 7 else hashlib.md5(repr(w).encode()).hexdigest()[:3]
made = bytes.fromhex("{made.hex()}").replace(b"1,2", rows_.encode())
pathlib.Path("out/m.joblib").write_bytes(made)
{end}""")


def everything(project):
    """All of the user's: files, git's refs, worktrees and index, DVC's cache, and what MLflow shows."""
    apart = (".dvc/tmp", "mlflow.db")
    files = {
        str(f.relative_to(project.root)): f.read_bytes()
        for f in sorted(project.root.rglob("*"))
        if f.is_file() and not str(f.relative_to(project.root)).startswith(apart)
    }
    git = [
        project.run("git", "--no-optional-locks", *asked).stdout
        for asked in (["status", "--porcelain"], ["worktree", "list"])
    ]
    left = [entry.name for entry in project.root.glob(".dvc/tmp/reproduce/*")]
    shown = project.store() if (project.root / "mlflow.db").exists() else None
    runs = [(r.info.run_id, r.data.tags, r.data.metrics) for r in shown.runs()] if shown else None
    return files, git, left, runs, shown and (shown.aliases(), len(shown.versions()))


def test_a_version_is_identical_is_tagged_and_nothing_else_changes(registered):
    registered.write("params.yaml", "train: {w: 9}\n")
    registered.write("train.py", "raise SystemExit('the dirty one')\n")
    registered.write("notes.txt", "mine\n")
    before = everything(registered)
    answer = registered.json("reproduce", "m")
    assert (answer["verdict"], answer["model"], answer["version"]) == ("identical", "m", 1)
    assert [o["path"] for o in answer["outputs"]] == ["out/m.joblib", "out/metrics.json", "out/plots"]
    assert all(o["identical"] and o["expected"] == o["actual"] for o in answer["outputs"])
    assert answer["environment"] == {**answer["environment"], "identical": True, "changed": []}
    assert registered.run("git", "show", f"{answer['commit']}:dvc.lock").stdout.count(answer["outputs"][0]["expected"])
    assert 0 < answer["stages"][0]["seconds"] < answer["seconds"]
    (version,) = registered.store().versions()
    tagged = Reproduction.parse(facts(version))
    assert (tagged.verdict, tagged.env_changed) == ("identical", "nothing")
    assert tagged.env_md5 == facts(version)["dovetail.env.md5"] == answer["environment"]["md5"]
    assert everything(registered) == before


def test_a_commits_model_needs_no_mlflow_and_makes_none(small):
    before = everything(small)
    answer = small.json("reproduce", "HEAD:m")
    assert (answer["verdict"], answer["version"], answer["problems"]) == ("identical", None, [])
    assert everything(small) == before
    assert not (small.root / "mlflow.db").exists()


@pytest.mark.slow
def test_an_undeclared_input_is_found_out(registered):
    light(registered)
    trained(registered, 'import os\nw += int(os.environ.get("EXTRA", 0))')
    registered.run("dvc", "repro", "-q", "register")
    answer = registered.json("reproduce", "HEAD:m", code=1, EXTRA="2")
    assert answer["verdict"] == "different"
    assert answer["first_difference"]["path"] == "out/m.joblib"
    assert answer["metrics"]["changed"] == [{"name": "accuracy", "expected": 0.7, "actual": 0.9}]
    assert answer["cause"]["kind"] == "undeclared input"
    (version,) = registered.store().versions()
    assert "dovetail.reproduce.verdict" not in facts(version)  # the same bytes, but made by other code
    assert registered.json("reproduce", "HEAD:m")["verdict"] == "identical"


def test_a_stage_that_never_makes_the_same_is_found_out(small):
    trained(small, "import uuid\nw += uuid.uuid4().int % 1000 / 1e6")
    answer = small.json("reproduce", "HEAD:m", code=1)
    assert (answer["verdict"], answer["cause"]["kind"]) == ("different", "nondeterminism")


def test_other_bytes_with_the_same_metrics(small):
    trained(small, "import uuid", "rows_ = rows", "rows_ = uuid.uuid4().hex")
    answer = small.json("reproduce", "HEAD:m")
    assert answer["verdict"] == "same-metrics"
    assert [o["path"] for o in answer["outputs"] if not o["identical"]] == ["out/m.joblib"]
    assert (answer["metrics"], answer["cause"]["kind"]) == ({"identical": True, "changed": []}, "nondeterminism")


@pytest.mark.slow
def test_other_bytes_of_the_same_model(registered):
    trained(registered, "import os", "rows_ = rows", "rows_, model.n_jobs = rows, os.getpid()")
    registered.run("dvc", "repro", "-q", "register")
    answer = registered.json("reproduce", "m/2")
    assert answer["verdict"] == "identical-model"
    (differing,) = [output for output in answer["outputs"] if not output["identical"]]
    assert (differing["path"], differing["same_value"]) == ("out/m.joblib", True)
    assert "other bytes, the same value: out/m.joblib" in registered.run("dovetail", "reproduce", "m/2").stdout
    shutil.rmtree(registered.root / ".dvc/cache")  # the version's tag still says what it is
    registered.run("dvc", "add", "-q", "data.csv")
    assert registered.json("reproduce", "m/2")["verdict"] == "identical-model"
    assert Reproduction.parse(facts(registered.store().versions()[1])).verdict == "identical-model"


def test_another_model_that_predicts_the_same_and_tables_written_in_another_way(judged):
    judged.replace("train.py", "random_state=0", "random_state=0, min_impurity_decrease=os.getpid() * 1e-15")
    judged.replace("train.py", "import joblib", "import os, joblib")
    judged.replace("split.py", "import csv", "import csv, os, pandas")
    judged.replace("dvc.yaml", "outs: [train.csv, test.csv]", "outs: [train.csv, test.csv, test.parquet]")
    written = '\npandas.read_csv("test.csv").to_parquet("test.parquet", row_group_size=1 + os.getpid() % 50)\n'
    judged.write("split.py", (judged.root / "split.py").read_text() + written)
    judged.run("dvc", "repro", "-q")
    judged.commit("other code")
    answer = judged.json("reproduce", "HEAD:m")
    assert answer["verdict"] == "same-predictions"
    same = {output["path"]: output["same_value"] for output in answer["outputs"] if not output["identical"]}
    assert same.pop("m.joblib") is False
    assert same in ({"test.parquet": True}, {})  # {}: by chance as many rows in a group


@pytest.mark.slow
def test_it_is_rebuilt_under_the_threads_that_were_recorded(registered, monkeypatch):
    """The model depends on how many threads there are, as HistGradientBoosting's and LightGBM's do."""
    light(registered)
    trained(registered, 'import os\nw += int(os.environ.get("OMP_NUM_THREADS", 0)) / 100')
    registered.run("dvc", "repro", "-q", "-f", "train", "register", OMP_NUM_THREADS="3")
    registered.commit("three threads")
    answer = registered.json("reproduce", "m/2", OMP_NUM_THREADS="1")
    assert answer["verdict"] == "identical"
    assert answer["settings"]["OMP_NUM_THREADS"] == "3"
    for name in commands.THREADS:  # the suite sets them
        monkeypatch.delenv(name)
    said = registered.run("dovetail", "reproduce", "m/2").stdout
    assert "identical" in said
    assert "computed as recorded: OMP_NUM_THREADS=3" in said


@pytest.mark.slow
def test_on_another_architecture_it_says_which_digests_differ_and_why(registered):
    """The stage computes otherwise where SIMULATED is not what it was, as another CPU does."""
    code = 'import os\nw += float(os.environ.get("SIMULATED", 0)) / 100'
    light(registered)
    trained(registered, code)
    registered.run("dvc", "repro", "-q", "-f", "train", "register", SIMULATED="1")
    registered.commit("made on aarch64")
    run_id = registered.store().versions()[1].run_id
    (recorded,) = registered.root.glob(f"mlruns/*/{run_id}/artifacts/environment.txt")
    recorded.write_text(re.sub("# computing machine: .*", "# computing machine: aarch64", recorded.read_text()))
    answer = registered.json("reproduce", "m/2", code=1)
    differing = {output["path"] for output in answer["outputs"] if not output["identical"]}
    assert differing == {"out/m.joblib", "out/metrics.json", "out/plots"}
    why = f"it was computed on aarch64, this is {platform.machine()}: the last bits of numbers can differ"
    assert answer["unavailable"] == why
    assert (answer["cause"]["kind"], why in answer["cause"]["detail"]) == ("machine", True)
    said = registered.run("dovetail", "reproduce", "m/2", code=1).stdout
    assert said.count(why) == 1
    assert all(path in said for path in differing)


@pytest.mark.parametrize(
    ("variable", "value", "kind"), [("OMP_NUM_THREADS", "1", "threads"), ("OPENBLAS_CORETYPE", "Nehalem", "kernel")]
)
def test_the_setting_that_nothing_recorded_is_found_by_trying(small, variable, value, kind, monkeypatch):
    monkeypatch.delenv(variable, raising=False)  # the suite sets it
    code = f'import os\nw += sum(map(ord, os.environ.get("{variable}", ""))) / 1e4'
    light(small)
    small.replace("train.py", "\nrows = ", f"\n{code}\nrows = ")
    small.run("dvc", "repro", "-q", "train", **{variable: value})
    small.commit("made elsewhere")
    answer = small.json("reproduce", "HEAD:m", code=1)
    assert (answer["verdict"], answer["cause"]["kind"]) == ("different", kind)
    assert f"makes the recorded bytes with {variable}={value}" in answer["cause"]["detail"]
    assert f"set {variable}={value}" in answer["cause"]["next"]


def test_the_first_file_that_is_another_in_a_folder_is_named(small):
    light(small)
    trained(small, "import os", 'f"x,y\\n1,{w}\\n"', 'os.environ.get("EXTRA", "x")')
    answer = small.json("reproduce", "HEAD:m", EXTRA="z")
    assert (answer["verdict"], answer["first_difference"]["path"]) == ("identical-model", "out/plots/p.csv")


@pytest.mark.slow
def test_a_changed_environment_is_named_and_tagged(registered, tmp_path):
    def with_version(version):
        (tmp_path / version / f"fake-{version}.dist-info").mkdir(parents=True)
        (tmp_path / version / f"fake-{version}.dist-info/METADATA").write_text(f"Name: fake\nVersion: {version}\n")
        return str(tmp_path / version)

    one, two = with_version("1"), with_version("2")
    registered.replace("train.py", "\nrows", '\nimport importlib.metadata as i\nw += int(i.version("fake"))\nrows')
    registered.run("dvc", "repro", "-q", "register", PYTHONPATH=one)
    registered.commit("depends on a package")
    answer = registered.json("reproduce", "m/2", code=1, PYTHONPATH=two)
    assert answer["environment"]["changed"] == [{"name": "fake", "expected": "1", "actual": "2"}]
    assert (answer["cause"]["kind"], answer["cause"]["detail"]) == ("environment", "fake 1 → 2")
    tagged = Reproduction.parse(facts(registered.store().versions()[1]))
    assert (tagged.verdict, tagged.env_changed) == ("different", "fake 1 → 2")
    assert registered.json("reproduce", "m/2", PYTHONPATH=one)["verdict"] == "identical"
    tagged = Reproduction.parse(facts(registered.store().versions()[1]))
    assert (tagged.verdict, tagged.env_changed) == ("identical", "nothing")


def test_code_that_was_not_committed_is_named(small):
    small.replace("train.py", "\nrows = ", "\nw += 1\nrows = ")
    small.run("dvc", "repro", "-q", "train")
    small.run("git", "commit", "-qm", "the lock without the code", "dvc.lock", "out")
    answer = small.json("reproduce", "HEAD:m", code=1)
    assert (answer["verdict"], answer["cause"]["kind"]) == ("different", "changed input")
    assert [i["path"] for i in answer["inputs"]] == ["train.py"]


def test_a_param_that_was_not_committed_is_named(small):
    small.write("params.yaml", "train: {w: 8}\n")
    small.run("dvc", "repro", "-q", "train")
    small.run("git", "commit", "-qm", "the lock without the param", "dvc.lock", "out")
    answer = small.json("reproduce", "HEAD:m", code=1)
    assert answer["inputs"] == [{"stage": "train", "path": "train.w", "expected": "8", "actual": "7"}]
    assert answer["cause"]["kind"] == "changed input"


def test_the_commit_that_has_the_code_too_is_chosen(registered):
    registered.replace("train.py", "\nrows = ", "\nw += 1\nrows = ")
    registered.run("dvc", "repro", "-q", "register")
    registered.run("git", "commit", "-qm", "the lock without the code", "dvc.lock", "out")
    head = registered.commit("the code")
    answer = registered.json("reproduce", "m/2")
    assert (answer["verdict"], answer["commit"], answer["inputs"]) == ("identical", head, [])


@pytest.mark.slow
def test_what_is_missing_is_listed_and_comes_from_the_remote_without_filling_the_cache(small, tmp_path):
    small.write("folder/a.txt", "a")
    small.write("folder/b.txt", "b")
    small.run("dvc", "add", "-q", "folder")
    small.replace("dvc.yaml", "deps: [train.py, data.csv]", "deps: [train.py, data.csv, folder]")
    small.replace("dvc.yaml", "[{out/metrics.json: {cache: false}}]", "[out/metrics.json]")
    small.run("git", "rm", "-q", "--cached", "out/metrics.json")
    light(small)
    trained(small, 'import os\nw += len(open("folder/b.txt").read() + os.environ.get("EXTRA", ""))')
    small.run("dvc", "remote", "add", "-q", "-d", "store", str(tmp_path / "remote"))
    small.run("dvc", "push", "-q")
    small.commit("with a remote")
    shutil.rmtree(small.root / ".dvc/cache")
    before = everything(small)
    assert small.json("reproduce", "HEAD:m")["verdict"] == "identical"
    answer = small.json("reproduce", "HEAD:m", code=1, EXTRA="x")
    assert answer["metrics"]["changed"] == [{"name": "accuracy", "expected": 0.8, "actual": 0.9}]
    assert everything(small) == before
    shutil.rmtree(tmp_path / "remote/files")
    answer = small.json("reproduce", "HEAD:m", code=1)
    assert answer["verdict"] == "impossible"
    assert [m["what"].split()[0] for m in answer["missing"]] == ["data.csv", "folder"]
    assert answer["outputs"] == []
    assert answer["environment"]["identical"] is None  # nothing was run


def test_a_stage_that_misses_what_nobody_declared_is_impossible(small):
    small.write("secret.txt", "1")
    small.write(".gitignore", "/mlflow.db*\n/mlruns/\n/secret.txt\n")
    trained(small, 'w += int(open("secret.txt").read())')
    answer = small.json("reproduce", "HEAD:m", code=1)
    assert answer["verdict"] == "impossible"
    assert "secret.txt" in answer["missing"][0]["why"]
    assert "Traceback" in answer["output"]
    assert answer["environment"]["md5"]
    done = small.run("dovetail", "reproduce", "HEAD:m", code=1)
    assert "missing: stage train: exit code 1" in done.stdout


def test_a_version_without_a_commit(registered):
    registered.write("params.yaml", "train: {w: 8}\n")
    registered.run("dvc", "repro", "-q", "register")
    done = registered.run("dovetail", "reproduce", "m/2", code=2)
    assert "no commit holds out/m.joblib" in done.stderr
    assert "git commit" in done.stderr
    registered.run("git", "checkout", "-q", ".")
    registered.run("dvc", "checkout", "-q")
    answer = registered.json("reproduce", "m/2", code=1)
    assert (answer["verdict"], answer["commit"], answer["version"]) == ("impossible", None, 2)
    assert Reproduction.parse(facts(registered.store().versions()[1])).verdict == "impossible"


@pytest.mark.slow
def test_an_experiments_run_is_rebuilt_too(registered):
    registered.run("dvc", "exp", "run", "-q", "--temp", "-n", "nine", "-S", "train.w=9")
    run = next(r for r in registered.store().runs() if r.info.run_name == "nine")
    answer = registered.json("reproduce", f"runs:/{run.info.run_id}")
    assert (answer["verdict"], answer["version"]) == ("identical", None)
    assert "nothing that m answered" in ends(registered, f"monitor runs:/{run.info.run_id}", "without a version").stderr


@pytest.mark.parametrize(
    ("ref", "says"),
    [
        ("v9:m", "git has no revision 'v9'"),
        ("HEAD:x", "no model 'x'"),
        ("workspace:m", "is not a commit"),
        ("m", "dovetail sync"),
    ],
)
def test_what_is_unknown_is_said(small, ref, says):
    assert says in small.run("dovetail", "reproduce", ref, code=2).stderr


def test_every_kind_of_stage_runs_where_and_how_dvc_runs_it(small):
    """A working directory, several commands, a dvc.yaml in a subfolder, code in a folder, a frozen stage."""
    small.write("lib/code.py", "import sys\nprint(sys.argv[1])\n")
    small.write(
        "sub/dvc.yaml", "stages:\n  a:\n    cmd: [mkdir made, 'echo $DVC_STAGE > made/one', cp ../data.csv made/two]\n"
        "    deps: [../data.csv]\n    outs: [made]\n",
    )  # fmt: skip
    small.replace(
        "dvc.yaml", "stages:\n", "stages:\n  b:\n    wdir: sub\n"
        "    cmd: python ../lib/code.py $(cat made/one) > b.txt\n"
        "    deps: [made, ../lib]\n    outs: [{b.txt: {cache: false}}]\n"
        "  f:\n    cmd: date +%N > frozen.txt\n    deps: [lib]\n    outs: [frozen.txt]\n    frozen: true\n",
    )  # fmt: skip
    small.replace("dvc.yaml", "deps: [train.py, data.csv]", "deps: [train.py, data.csv, sub/b.txt, frozen.txt]")
    small.write("frozen.txt", "1\n")
    small.run("dvc", "commit", "-q", "-f", "f")
    trained(small, 'w += len(open("sub/b.txt").read() + open("frozen.txt").read())')
    answer = small.json("reproduce", "HEAD:m")
    assert (answer["verdict"], answer["frozen"], answer["inputs"]) == ("identical", ["f"], [])
    made = [(o["stage"], o["path"]) for o in answer["outputs"]]
    assert {("sub/dvc.yaml:a", "sub/made"), ("b", "sub/b.txt")} < set(made)
    assert "frozen.txt" not in [path for _, path in made]


MEETING = """
import os, pathlib, sys, time
mine, other = (pathlib.Path(sys.argv[1] + name) for name in sys.argv[2:])
mine.touch()
until = time.monotonic() + 120
while not other.exists() and time.monotonic() < until:
    time.sleep(0.02)
if failing := os.environ.get("FAILING"):
    sys.exit(1) if failing == mine.name else time.sleep(600)
pathlib.Path(mine.name + ".txt").write_text(str(other.exists()))
"""


def meeting(project, tmp_path):
    """Two stages that the model waits for, each of which ends when it has seen that the other has begun."""
    project.write("meet.py", MEETING)
    stages = "".join(
        f"  {one}:\n    cmd: python meet.py {tmp_path}/ {one} {other}\n    deps: [meet.py]\n    outs: [{one}.txt]\n"
        for one, other in (("a", "b"), ("b", "a"))
    )
    project.replace("dvc.yaml", "stages:\n", f"stages:\n{stages}")
    project.replace("dvc.yaml", "deps: [train.py, data.csv]", "deps: [train.py, data.csv, a.txt, b.txt]")
    (tmp_path / "b").touch()
    trained(project, 'w += len(open("a.txt").read() + open("b.txt").read())')
    for mark in ("a", "b"):
        (tmp_path / mark).unlink()


def test_stages_that_do_not_wait_for_each_other_run_side_by_side(small, tmp_path):
    meeting(small, tmp_path)
    answer = small.json("reproduce", "HEAD:m", "--workers", "2")
    assert (answer["verdict"], [stage["name"] for stage in answer["stages"]]) == ("identical", ["a", "b", "train"])
    assert [o["stage"] for o in answer["outputs"]][:3] == ["a", "b", "train"]


def test_one_that_fails_ends_those_beside_it(small, tmp_path):
    meeting(small, tmp_path)
    before, start = everything(small), time.monotonic()
    answer = small.json("reproduce", "HEAD:m", "--workers", "2", code=1, FAILING="a")
    assert (answer["verdict"], answer["missing"][0]["what"]) == ("impossible", "stage a")
    assert time.monotonic() - start < 300
    assert everything(small) == before


def test_the_code_of_the_commit_runs_whatever_the_path_says(small):
    small.write("src/ours.py", "W = 1\n")
    small.replace("dvc.yaml", "deps: [train.py,", "deps: [train.py, src/ours.py,")
    small.replace("train.py", "\nrows = ", "\nimport ours\nw += ours.W\nrows = ")
    path = str(small.root / "src")
    small.run("dvc", "repro", "-q", "train", PYTHONPATH=path)
    small.commit("own code on the path")
    small.write("src/ours.py", "W = 5\n")
    assert small.json("reproduce", "HEAD:m", PYTHONPATH=path)["verdict"] == "identical"


def started(project, mark):
    """`dovetail reproduce` in the middle of a stage; the process, and that of the stage."""
    command = [BIN / "dovetail", "reproduce", "HEAD:m", "--json"]
    env = {**os.environ, "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}", "SLEEP": "600"}
    process = subprocess.Popen(command, cwd=project.root, env=env, stdout=subprocess.PIPE, text=True)
    until = time.monotonic() + 120
    while not mark.exists() or not mark.read_text():
        assert time.monotonic() < until
        time.sleep(0.02)
    return process, int(mark.read_text())


@pytest.fixture
def sleeper(small, tmp_path):
    """A stage that says where it runs and, when asked to, sleeps."""
    mark = tmp_path / "mark"
    code = f"import os, pathlib, time\npathlib.Path({str(mark)!r}).write_text(str(os.getpid()))"
    trained(small, f"{code}\ntime.sleep(int(os.environ.get('SLEEP', 0)))")
    mark.unlink()
    return small, mark


def is_alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_in_the_middle_of_a_stage_it_leaves_nothing(sleeper, number):
    project, mark = sleeper
    before = everything(project)
    process, stage = started(project, mark)
    process.send_signal(number)
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    assert json.loads(said)["error"]["kind"] == "Interrupted"
    assert not is_alive(stage)
    assert everything(project) == before


@pytest.mark.slow
def test_what_a_killed_one_left_the_next_one_removes(sleeper):
    project, mark = sleeper
    before = everything(project)
    process, stage = started(project, mark)
    process.kill()
    process.communicate()
    os.kill(stage, signal.SIGKILL)
    assert len(everything(project)[2]) == 2  # a folder and its lock
    assert everything(project)[:2] == before[:2]
    assert project.json("reproduce", "HEAD:m")["verdict"] == "identical"
    assert everything(project) == before


@pytest.mark.slow
def test_a_script_that_tracks_itself_writes_to_a_store_of_its_own(registered):
    trained(registered, "import mlflow\nwith mlflow.start_run():\n    mlflow.log_param('w', w)")
    before = everything(registered)
    assert registered.json("reproduce", "HEAD:m")["verdict"] == "identical"
    assert everything(registered) == before


@pytest.mark.slow
def test_an_environment_from_the_commits_lock_file(small):
    assert "has no requirements.lock" in small.run("dovetail", "reproduce", "HEAD:m", "--fresh-env", code=2).stderr
    names = ("cloudpickle", "joblib", "narwhals", "numpy", "pyyaml", "scikit-learn", "scipy", "threadpoolctl")
    small.write("requirements.lock", "".join(f"{name}=={version(name)}\n" for name in names))
    trained(small, 'import importlib.util\nassert importlib.util.find_spec("mlflow") is None or w == 7')
    answer = small.json("reproduce", "HEAD:m", "--fresh-env")
    assert answer["verdict"] == "identical"
    assert answer["environment"] == {**answer["environment"], "identical": True, "fresh": True}
    small.write("requirements.lock", "no-such-package-of-dovetail==1\n")
    small.commit("pins that nobody has")
    before = everything(small)
    assert "no-such-package" in small.run("dovetail", "reproduce", "HEAD:m", "--fresh-env", code=3).stderr
    assert everything(small) == before


def test_a_verdict_needs_metrics_to_be_the_same_ones():
    same, other = Output("s", "a", "1", "1"), Output("s", "b", "1", "2")
    unlike = Sameness(value=False, predictions=False)
    assert verdict([same], unlike, {}, {}) == "identical"
    assert verdict([same, other], unlike, {"m": 1.0}, {"m": 1.0}) == "same-metrics"
    for expected, actual in (({}, {}), (None, None), ({"m": 1.0}, {"m": 1.0 + 2**-52}), ({"m": 1.0}, {})):
        assert verdict([same, other], unlike, expected, actual) == "different"
    for model, word in (
        (Sameness(value=True), "identical-model"),
        (Sameness(value=False, predictions=True), "same-predictions"),
    ):
        for known in ({}, None, {"m": 1.0}):
            assert verdict([same, other], model, known, known) == word
        assert verdict([same, other], model, {"m": 1.0}, {"m": 2.0}) == "different"
    assert changed_metrics({"m": float("nan")}, {"m": float("nan")}) == ()


def test_the_nearest_cause_is_named():
    changed = [ChangedInput("train", "train.py", "1", "2")]
    new = [Change("numpy", "1", "2")]
    for asked, kind in [
        ({"inputs": changed, "repeats": False, "packages": new}, "changed input"),
        ({"inputs": [], "repeats": False, "packages": new}, "nondeterminism"),
        ({"inputs": [], "repeats": True, "packages": new}, "environment"),
        ({"inputs": [], "repeats": True, "packages": []}, "undeclared input"),
    ]:
        assert cause("train", **asked, fresh_env=False).kind == kind


def test_environments_are_compared_as_far_as_they_are_known():
    full, pins = Environment("3.11.7", {"a": "1", "b": "2"}), Environment(None, {"a": "1"})
    assert changes(full, full) == changes(pins, full) == ()
    other = Environment("3.12.0", {"a": "9", "c": "3"})
    assert [c.name for c in changes(full, other)] == ["python", "a", "b", "c"]
    assert changes(pins, other) == (Change("a", "1", "9"),)


def test_the_tags_of_a_reproduction_are_read_back():
    one = Reproduction("identical", "2026-01-01T00:00:00+00:00", "0" * 32, "nothing")
    assert Reproduction.parse(one.tags()) == one
    assert Reproduction.parse({}) is None


def test_own_code_is_found_by_path_and_by_an_editable_installation(tmp_path):
    root, site = tmp_path / "root", tmp_path / "site"
    (root / "src").mkdir(parents=True)
    for name, url, editable in (("ours", root, True), ("theirs", tmp_path / "other", True), ("copied", root, False)):
        (site / f"{name}-1.dist-info").mkdir(parents=True)
        about = {"url": f"file://{url}", "dir_info": {"editable": editable}}
        (site / f"{name}-1.dist-info/direct_url.json").write_text(json.dumps(about))
    places = [str(root / "lib"), str(root / ".venv/lib"), str(tmp_path / "elsewhere"), str(site), ""]
    assert own_code(root, places, root / ".venv") == ["lib", "src"]


def test_a_model_that_nothing_makes_again_is_not_called_identical(small):
    small.run("dvc", "freeze", "train")
    small.commit("frozen")
    small.run("dvc", "repro", "-q")
    small.commit("registered")
    answer = small.json("reproduce", "m", code=1)
    assert answer["verdict"] == "impossible"
    assert answer["missing"][0]["what"] == "out/m.joblib"
    assert "its stage train is frozen" in answer["missing"][0]["why"]
    assert "dvc unfreeze train" in answer["missing"][0]["next"]
