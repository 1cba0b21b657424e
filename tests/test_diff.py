"""What differs between two versions, commits, experiments or the workspace."""

import json
import re
import shutil
from collections import Counter

import polars as pl
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from project import TRAIN, Project
from templates import made_once

import dovetail
from dovetail.compare.data_diff import DataFile, compare_contents
from dovetail.compare.diff import compare as library_call
from dovetail.compare.model_state import ModelState
from dovetail.render.diff import text
from dovetail.render.diff_markdown import markdown
from dovetail.repo.git import Git
from dovetail.repo.ledger import PROMOTE, Ledger, Note
from dovetail.repo.ledger_write import write
from dovetail.repo.workspace import open_workspace
from dovetail.tracking import connection
from dovetail.values import documents
from dovetail.values.environment import Environment, pinned
from dovetail.values.lineage import FileRef, Lineage, StageRecord

KINDS = ("data", "params", "code", "metrics", "environment")
INTERVALS = """
w = yaml.safe_load(open("params.yaml"))["train"]["w"] / 10
spread = {"accuracy": w, "accuracy_low": w - 0.2, "accuracy_high": w + 0.1, "size": {"rows": len(rows)}}
spread["recall@10"] = w / 2
json.dump(spread, open("out/metrics.json", "w"))
"""


@pytest.fixture(scope="session")
def history(_small_template, tmp_path_factory):
    """Two commits that differ in all respects, the first one registered, and an experiment on the second. Only read."""

    def make(folder):
        project = Project(folder / "small")
        shutil.copytree(_small_template, project.root, symlinks=True)
        project.replace("dvc.yaml", "data.csv]", "data.csv, lookup.csv, parts]")
        project.write("train.py", TRAIN + INTERVALS)
        project.write("requirements.lock", "numpy==1.0\nold==1\n")
        project.write("lookup.csv", "key,value\nx,1\n")  # kept by git alone
        # Not a relative one: DVC 3.67 takes it from / when it pushes the data of other commits.
        project.run("dvc", "remote", "add", "-q", "-d", "store", str(folder / "remote"))
        for name in "abc":
            project.write(f"parts/{name}.txt", name)
        project.run("dvc", "add", "-q", "parts")
        project.run("dvc", "repro", "-q", "register")
        project.commit("one")
        project.write("data.csv", "a,b,c\n3,9,x\n1,2,x\n5,6,x\n")
        project.write("lookup.csv", "key,value\nx,2\ny,3\n")
        project.write("parts/b.txt", "changed")
        project.write("parts/d.txt", "new")
        (project.root / "parts/a.txt").unlink()
        project.run("dvc", "add", "-q", "data.csv", "parts")
        project.write("params.yaml", "train: {w: 8, note: 'a|b `c`'}\n")
        project.write("train.py", TRAIN + INTERVALS + "\n")
        project.replace("dvc.yaml", "cmd: python train.py", "cmd: python -B train.py")
        project.replace("dvc.yaml", "min: 0.5", "min: 0.4")
        project.write("requirements.lock", "numpy==2.0\nnew==1\n")
        project.run("dvc", "repro", "-q", "train")
        project.commit("two")
        project.run("dvc", "push", "-q", "--all-commits")
        project.run("dvc", "exp", "run", "-q", "--temp", "-n", "nine", "-S", "train.w=9")

    return Project(made_once(tmp_path_factory, "differences", make) / "small")


@pytest.fixture
def copy(history, tmp_path):
    """The history, to be changed."""
    shutil.copytree(history.root, tmp_path / "copy", symlinks=True)
    connection.relocate_store(tmp_path / "copy")
    return Project(tmp_path / "copy")


def differing(answer):
    """The kinds of differences that there are."""
    return {kind for kind in KINDS if answer[kind]}


def by(key, entries):
    return {entry[key]: entry for entry in entries}


def test_two_commits(history):
    answer = history.json("diff", "HEAD~1", "HEAD")
    assert [answer[side]["kind"] for side in "ab"] == ["commit", "commit"]
    assert answer["b"]["commit"] == history.run("git", "rev-parse", "HEAD").stdout.strip()
    data = by("path", answer["data"])
    assert set(data) == {"data.csv", "lookup.csv", "parts"}
    table = data["data.csv"]
    assert (table["role"], table["why"]) == ("training", None)
    assert (table["a"]["rows"], table["b"]["rows"]) == (2, 3)
    assert table["b"]["columns"] == {"a": "int64", "b": "int64", "c": "string"}
    assert table["rows"] == {"added": 1, "removed": 0, "changed": 1, "key": ["a"]}
    assert table["columns"] == {"added": ["c"], "removed": [], "retyped": []}
    assert data["lookup.csv"]["rows"] == {"added": 1, "removed": 0, "changed": 1, "key": ["key"]}
    assert data["parts"]["files"] == {"added": ["d.txt"], "removed": ["a.txt"], "changed": ["b.txt"]}
    params = {entry["name"]: (entry["a"], entry["b"]) for entry in answer["params"]}
    assert params == {"train.w": ("7", "8"), "train.note": (None, "a|b `c`"), "gates.accuracy.min": ("0.5", "0.4")}
    assert by("path", answer["code"]).keys() == {"train.py", None}
    assert {"path": None, "stage": "train", "a": "python train.py", "b": "python -B train.py"} in answer["code"]
    metrics = by("name", answer["metrics"])
    assert set(metrics) == {"accuracy", "recall_10", "size.rows"}
    assert (metrics["accuracy"]["a"], metrics["accuracy"]["b"]) == (0.7, 0.8)
    assert metrics["accuracy"]["delta"] == pytest.approx(0.1)
    assert metrics["accuracy"]["interval"]["b"] == pytest.approx([0.6, 0.9])
    assert metrics["accuracy"]["overlap"] is True
    packages = {entry["name"]: (entry["a"], entry["b"]) for entry in answer["environment"]}
    assert packages == {"numpy": ("1.0", "2.0"), "old": ("1", None), "new": (None, "1")}
    assert [(gate["limit"], gate["passed"], gate["value"]) for gate in answer["gates"]] == [
        ("accuracy ≥ 0.4", True, 0.8)
    ]


def test_between_revisions_mlflow_is_not_even_imported(history):
    script = """
import sys
from dovetail.compare.diff import DiffRequest, diff
from dovetail.repo.workspace import open_workspace
from dovetail.tracking.connection import Tracking
with open_workspace() as workspace:
    for states in (("HEAD~1", "nine"), ("HEAD:m", "workspace")):
        diff(workspace, Tracking(workspace.store_root), DiffRequest(*states))
print([name for name in ("mlflow", "pandas", "pyarrow") if name in sys.modules])
"""
    done = history.run("python", "-c", script, MLFLOW_TRACKING_URI="http://127.0.0.1:9")
    assert done.stdout == "['pyarrow']\n"


def test_by_default_it_compares_what_is_relied_on_with_what_lies_there(history):
    answer = history.json("diff")
    assert (answer["a"]["kind"], answer["a"]["version"], answer["a"]["aliases"]) == ("version", 1, ["staging"])
    assert (answer["b"]["kind"], answer["b"]["dirty"]) == ("workspace", False)
    assert differing(answer) == set(KINDS) - {"environment"}
    assert answer["same"]["environment"] > 100
    assert history.json("diff", "m@staging", "workspace:m")["data"] == answer["data"]


def test_a_version_is_its_commit_and_a_run_its_experiment(history):
    version = history.json("diff", "m/1", "HEAD~1")
    assert differing(version) == {"environment"}  # what was installed, and what the commit pins
    assert {entry["name"] for entry in version["environment"]} == {"numpy", "old"}
    assert version["a"]["commit"] == version["b"]["commit"]  # though the next lock names the model too, by `register`
    assert version["a"]["fingerprint"] == version["b"]["fingerprint"]
    run = next(run for run in history.store().runs() if run.info.run_name == "nine")
    answer = history.json("diff", f"runs:/{run.info.run_id}", "nine")
    assert [answer[side]["kind"] for side in "ab"] == ["run", "experiment"]
    assert differing(answer) <= {"environment"}
    assert answer["same"]["metrics"] == 3


def test_an_experiment_by_its_name(history):
    answer = history.json("diff", "HEAD", "nine")
    assert [(entry["name"], entry["b"]) for entry in answer["params"]] == [("train.w", "9")]
    assert (answer["b"]["experiment"], differing(answer)) == ("nine", {"params", "metrics"})
    assert history.json("lineage", "nine:m")["params"]["train.w"] == "9"


def test_for_people(history):
    shown = history.run("dovetail", "diff", "HEAD~1", "HEAD").stdout
    for line in (
        "  data.csv (training): 2 → 3 rows; 1 added, 1 changed (by a); column c added; md5",
        "  train.w: 7 → 8\n",
        "  command of train: python train.py → python -B train.py\n",
        "  accuracy: 0.7 [0.5, 0.8] → 0.8 [0.6, 0.9] (+0.1, intervals overlap)\n",
        "  numpy: 1.0 → 2.0\n",
        "  passed: accuracy ≥ 0.4 (accuracy = 0.8)\n",
        "the same on both sides: 0 data, 0 params, 0 code, 0 metrics, 0 packages\n",
    ):
        assert line in shown
    same = history.run("dovetail", "diff", "nine", "nine").stdout.splitlines()
    assert same[-1] == "no differences; the same on both sides: 3 data, 3 params, 2 code, 3 metrics, 2 packages"


def test_for_a_pull_request(history):
    comment = history.run("dovetail", "diff", "HEAD~1", "HEAD", "--markdown").stdout
    assert comment.startswith("<!-- dovetail diff m -->\n### `HEAD~1:m (")
    assert "| `accuracy` | `0.7 [0.5, 0.8]` | `0.8 [0.6, 0.9]` | `+0.1` | overlap |\n" in comment
    assert "| ✅ | `accuracy ≥ 0.4` | `accuracy = 0.8` |  |\n" in comment
    assert "| `train.note` |  | ``a\\|b `c` `` |\n" in comment.replace("`` a", "``a")
    assert "<details><summary>packages: 3</summary>\n\n| package | before | after |\n" in comment
    assert_tables(comment)


def assert_tables(comment):
    """Every row of a table has as many cells as its head, as GitHub counts them."""
    for block in re.findall(r"(?:^\|.*\n?)+", comment, re.MULTILINE):
        cells = {len(re.findall(r"(?<!\\)\|", line)) for line in block.splitlines()}
        assert len(cells) == 1, block


@pytest.mark.slow
def test_what_was_made_again_but_not_committed(copy):
    copy.write("params.yaml", "train: {w: 3, note: 'a|b `c`'}\n")
    copy.run("dvc", "repro", "-q", "train")
    answer = copy.json("diff", "HEAD")
    assert (answer["b"]["dirty"], differing(answer) - {"environment"}) == (True, {"params", "metrics"})
    assert answer["gates"][0]["passed"] is False
    assert "FAILED: accuracy ≥ 0.4 (accuracy = 0.3)" in copy.run("dovetail", "diff", "HEAD").stdout


def cached(project, md5):
    return project.root / f".dvc/cache/files/md5/{md5[:2]}/{md5[2:]}"


def test_bytes_that_are_nowhere_leave_their_digests_and_the_reason(copy):
    (before,) = (entry for entry in copy.json("diff", "HEAD~1", "HEAD")["data"] if entry["path"] == "data.csv")
    copy.run("dvc", "remote", "remove", "-q", "store")
    for side in "ab":
        cached(copy, before[side]["md5"]).unlink()
    (entry,) = (entry for entry in copy.json("diff", "HEAD~1", "HEAD")["data"] if entry["path"] == "data.csv")
    assert (entry["a"]["md5"], entry["a"]["rows"], entry["rows"]) == (before["a"]["md5"], None, None)
    assert "neither in the cache nor in a remote" in entry["why"]
    assert entry["b"]["rows"] == 3  # these lie in the workspace
    copy.write("data.csv", "other\n")
    (entry,) = (entry for entry in copy.json("diff", "HEAD~1", "HEAD")["data"] if entry["path"] == "data.csv")
    assert (entry["b"]["rows"], entry["why"].count("neither in the cache")) == (None, 2)


def test_bytes_come_from_the_remote(copy):
    shutil.rmtree(copy.root / ".dvc/cache")
    (copy.root / "data.csv").unlink()
    (entry,) = (entry for entry in copy.json("diff", "HEAD~1", "HEAD")["data"] if entry["path"] == "data.csv")
    assert (entry["rows"]["changed"], entry["why"]) == (1, None)


def test_data_with_the_same_digest_is_not_asked_for(copy):
    copy.run("dvc", "remote", "remove", "-q", "store")
    shutil.rmtree(copy.root / ".dvc/cache")
    answer = copy.json("diff", "HEAD", "nine")
    assert (answer["data"], answer["same"]["data"]) == ([], 3)


def test_where_there_is_no_store_the_promotions_in_git_say_what_production_is(copy):
    """As in a job that has cloned the repository and no more."""
    (copy.root / "mlflow.db").unlink()
    first = copy.run("git", "rev-parse", "HEAD~1").stdout.strip()
    lock = yaml.safe_load(copy.run("git", "show", f"{first}:dvc.lock").stdout)
    md5 = next(out["md5"] for out in lock["stages"]["train"]["outs"] if out["path"] == "out/m.joblib")
    write(Git(copy.root), Ledger(), ("m", "production"), first, Note(PROMOTE, 1, None, md5))
    answer = copy.json("diff", "m", "HEAD")
    assert (answer["a"]["commit"], answer["a"]["aliases"]) == (first, ["production"])
    assert [metric["a"] for metric in answer["metrics"] if metric["name"] == "accuracy"] == [0.7]
    assert "dovetail sync" in copy.run("dovetail", "diff", "m@staging", code=2).stderr
    assert not (copy.root / "mlflow.db").exists()


@pytest.fixture
def two_models(small):
    small.replace("dvc.yaml", "artifacts:\n", "artifacts:\n  twin: {path: out/m.joblib, type: model}\n")
    return small


def test_two_models_can_be_compared_and_it_says_so(two_models):
    answer = two_models.json("diff", "workspace:m", "workspace:twin")
    assert (answer["a"]["model"], answer["b"]["model"]) == ("m", "twin")
    assert "two models are compared: m and twin" in answer["notes"]
    assert two_models.json("diff", "HEAD:m", "workspace")["b"]["model"] == "m"


def test_where_several_models_are_declared_and_none_is_named_it_goes_over_all(two_models):
    answer = two_models.json("diff", "HEAD")  # where twin is not declared yet
    assert [(one["a"]["ref"], one["b"]["ref"]) for one in answer["models"]] == [("HEAD:m", "workspace:m")]
    assert [one["what"] for one in answer["problems"]] == ["twin"]
    two_models.commit("both")
    answer = two_models.json("diff", "HEAD")
    assert [one["b"]["ref"] for one in answer["models"]] == ["workspace:m", "workspace:twin"]
    assert two_models.run("dovetail", "diff", "HEAD", "--markdown").stdout.count("<!-- dovetail diff") == 2


@pytest.mark.parametrize(
    ("refs", "says"),
    [
        (["nothing"], "no model or revision 'nothing'; it has: m, "),
        (["v9:m"], "git has no revision 'v9'; it has: workspace, HEAD, nine, main"),
        (["m/7"], "m has no version 7; it has: 1"),
        (["m@production"], "m has no alias 'production'; it has: staging"),
        (["HEAD:other"], "has no model 'other'; it has: m"),
        (["HEAD~2:m", "HEAD:m/1"], "has no model 'm.1'; it has: m"),
    ],
)
def test_what_is_unknown_is_said_in_one_line(history, refs, says):
    done = history.run("dovetail", "diff", *refs, code=2)
    assert says in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_branch_may_look_like_a_version(copy):
    copy.run("git", "branch", "feature/3", "HEAD~1")
    assert copy.json("diff", "feature/3", "HEAD")["a"]["kind"] == "commit"


# States made by hand: the diff of two states asks nothing else.


def compare(a, b):
    return library_call(a, b).as_json()


PATHS = st.sampled_from(["a.csv", "b.csv", "dir", "x.py", "y.sql"])
DIGESTS = st.sampled_from(["1", "2", "3.dir"])
NUMBERS = st.sampled_from([0.0, 0.5, 1.0, 12345.0, float("nan"), float("inf")])
SIDES = st.builds(
    lambda model, cmd, deps, params, metrics, packages, gates: ModelState(
        "ref",
        "commit",
        Lineage(
            model,
            FileRef("m", "0"),
            (StageRecord("t", cmd, tuple(FileRef(*dep) for dep in deps.items()), params, (FileRef("m", "0"),)),),
        ),
        metrics=metrics,
        environment=packages,
        gates=gates,
    ),
    st.sampled_from(["m", "n"]),
    st.sampled_from(["run", "run | tee `log`"]),
    st.dictionaries(PATHS, DIGESTS),
    st.dictionaries(st.sampled_from(["p", "q.r"]), st.integers(0, 2) | st.lists(st.integers(0, 1)) | st.just("a|b")),
    st.dictionaries(st.sampled_from(["f1", "f1_low", "f1_high", "loss", "loss_low"]), NUMBERS),
    st.none()
    | st.builds(
        Environment, st.sampled_from([None, "3.11"]), st.dictionaries(st.sampled_from("kl"), st.sampled_from("12"))
    ),
    st.none() | st.just({"f1": {"min": 0.5}}),
)


def exchanged(entry):
    """The entry as the diff the other way round has it."""
    change = {"delta": None if entry["delta"] is None else 0.0 - entry["delta"]} if "delta" in entry else {}
    interval = {"interval": {"a": entry["interval"]["b"], "b": entry["interval"]["a"]}} if "interval" in entry else {}
    return {**{k: v for k, v in entry.items() if k != "role"}, "a": entry["b"], "b": entry["a"], **change, **interval}


def ordered(entries):
    return sorted(json.dumps({k: v for k, v in e.items() if k != "role"}, sort_keys=True) for e in entries)


@given(SIDES, SIDES)
@settings(max_examples=150, deadline=None)
def test_the_other_way_round_it_says_the_same_and_it_can_always_be_shown(a, b):
    there, back = compare(a, b), compare(b, a)
    for kind in KINDS:
        assert ordered(there[kind]) == ordered(exchanged(entry) for entry in back[kind])
    assert there["same"] == back["same"]
    json.dumps({kind: there[kind] for kind in KINDS}, allow_nan=False)
    for entry in there["data"]:
        shown = {which: entry[which] and {**entry[which], "rows": None} for which in "ab"}
        entry.update(rows=None, columns=None, files=None, why="lost | found", **shown)
    assert text(there).splitlines()[-1].startswith(("the same on both sides", "no differences"))
    assert_tables(markdown(there))


@given(SIDES)
@settings(max_examples=50, deadline=None)
def test_a_side_does_not_differ_from_itself(side):
    answer = compare(side, side)
    assert differing(answer) == set()
    assert sum(answer["same"].values()) > 0


def side(metrics=None, stages=(), **rest):
    return ModelState("here", "commit", Lineage("m", FileRef("m", "0"), tuple(stages)), metrics=metrics or {}, **rest)


def test_an_interval_belongs_to_its_metric_and_is_a_difference_of_its_own():
    a = side({"r2": 0.5, "r2_low": 0.4, "r2_high": 0.6, "mae_low": 1.0})
    b = side({"r2": 0.5, "r2_low": 0.45, "r2_high": 0.55, "mae_low": 2.0})
    r2, alone = compare(a, b)["metrics"]
    assert (r2["name"], r2["delta"], r2["overlap"]) == ("r2", 0.0, True)
    assert r2["interval"] == {"a": (0.4, 0.6), "b": (0.45, 0.55)}
    assert (alone["name"], alone["interval"]["a"]) == ("mae_low", None)
    apart = side({"r2": 0.9, "r2_low": 0.8, "r2_high": 1.0})
    assert compare(a, apart)["metrics"][0]["overlap"] is False


def test_a_gate_is_held_against_b_and_a_gate_that_moved_is_a_param():
    a = side({"recall@10": 0.5}, gates={"recall@10": {"min": 0.6}})
    b = side({"recall_10": 0.5}, gates={"recall@10": {"min": 0.4}})
    assert [gate["passed"] for gate in compare(a, b)["gates"]] == [True]
    assert compare(a, b)["params"] == [{"name": "gates.recall@10.min", "a": "0.6", "b": "0.4"}]
    assert compare(a, side(gates=None))["params"] == []
    undescribed = compare(a, side(gates={"signature": {}, "pickle": {}}, has_card=False))["gates"]
    assert [(gate["name"], gate["passed"]) for gate in undescribed] == [("signature", False)]  # of pickle ask `promote`


def test_a_pipeline_that_was_run_in_part_is_noted():
    train = StageRecord("train", "t", (FileRef("d.csv", "1"),), {}, (FileRef("m", "new"),))
    judge = StageRecord("judge", "j", (FileRef("m", "old"),), {}, (FileRef("metrics.json", "2"),))
    assert (
        "here: judge read m before it was last made: dvc repro judge"
        in compare(side(stages=(train, judge)), side())["notes"]
    )


def test_packages_are_compared_where_both_sides_know_theirs():
    a, b = side(environment=Environment("3.11", {"k": "1"})), side(environment=Environment("3.12", {"k": "1"}))
    assert compare(a, b)["environment"] == [{"name": "python", "a": "3.11", "b": "3.12"}]
    pins = side(environment=Environment(None, {"k": "2", "gone": "1"}))
    assert compare(pins, side(environment=Environment("3.11", {"k": "1", "more": "1"})))["environment"] == [
        {"name": "k", "a": "2", "b": "1"},
        {"name": "gone", "a": "1", "b": None},
    ]
    assert compare(a, side(environment=None))["environment"] == []


def test_pins_are_read_as_pip_reads_them():
    text = (
        "# Python 3.11.7\n\n--index-url x\nNumPy==2.4.1  # why\nskops[rich]==0.16\nruamel.yaml==0.19.0rc1\nopen>=1\n"
        "other==1 ; python_version < '3'\nsame == 2.*; python_version > '3'\nlocal==1.0+cpu\n-e .\nbad==1.0foo\n"
    )
    found = pinned(text)
    assert found.python == "3.11.7"
    assert found.packages == {
        "numpy": "2.4.1", "skops": "0.16", "ruamel-yaml": "0.19.0rc1", "same": "2.*", "local": "1.0+cpu"
    }  # fmt: skip


def test_a_table_that_is_written_otherwise_is_told_from_one_in_another_order(small, tmp_path):
    rows = pl.DataFrame({"key": [1, 2, 3], "text": ["a", None, "b"]})
    written = {
        "plain": rows.write_parquet,
        "otherwise": lambda file: rows.write_parquet(file, compression="snappy", row_group_size=1),
        "reversed": lambda file: rows.reverse().write_parquet(file),
    }
    refs = {}
    for name, put in written.items():
        put(small.root / "t.parquet")
        small.run("dvc", "add", "-q", "t.parquet")
        with open_workspace(small.root) as workspace:
            refs[name] = workspace.storage.hash("t.parquet")
    with open_workspace(small.root) as workspace:
        plain, otherwise, other_order = (DataFile(refs[name], None) for name in written)
        same = [compare_contents(workspace, tmp_path, plain, other).same_value for other in (otherwise, other_order)]
    assert same == [True, False]


def test_a_document_is_parsed_once_however_many_ask_for_it(registered, monkeypatch):
    parsed, decode = Counter(), documents.decoded
    monkeypatch.setattr(documents, "decoded", lambda content: parsed.update([content]) or decode(content))
    dovetail.open(registered.root).diff("m")
    assert parsed
    assert [content for content, times in parsed.items() if times > 1] == []


def test_a_commit_that_is_checked_out_is_not_asked_of_dvc_again_and_another_one_is(registered, monkeypatch):
    """DVC takes a quarter of a second to read a commit's pipeline."""
    from dovetail.repo import dvc_yaml
    from dovetail.repo.workspace import open_workspace

    asked, ask = [], dvc_yaml.declared
    monkeypatch.setattr(dvc_yaml, "declared", lambda repo: asked.append(repo) or ask(repo))

    def of_head():
        asked.clear()
        with open_workspace(registered.root) as workspace:
            head = workspace.at(workspace.git.commit("HEAD"))
            found = head.lineage(head.model("m")).fingerprint
            assert found == workspace.tree.lineage(workspace.tree.model("m")).fingerprint
        return len(asked) - 1  # besides the working tree

    assert of_head() == 0
    registered.write("notes.txt", "of no pipeline\n")
    assert of_head() == 0
    (registered.root / "sub").mkdir()
    other = registered.write("sub/dvc.yaml", "stages: {}\n")
    assert of_head() == 1
    other.unlink()
    registered.replace("dvc.yaml", "A small model", "Another")
    assert of_head() == 1


@pytest.mark.parametrize(
    ("changed", "asked_again"),
    [
        ({"w": 8}, False),  # what DVC reads of the two is the same
        ({"words": "Another"}, True),
        ({"gates": {"accuracy": {"min": 0.3}}}, False),  # an artifact's, read from each commit
        ({"b": {"gates": {"accuracy": {"min": 0.3}}}}, True),  # a register stage's
    ],
)
def test_a_commit_with_other_params_declares_its_own(small, monkeypatch, changed, asked_again):
    from dovetail.repo import dvc_yaml

    params = {"train": {"w": 7}, "w": 7, "words": "A model", "gates": {}, "b": {"gates": {}}}
    receipt = "outs: [{mlruns/receipts/b.json: {cache: false}}]"
    by_its_stage = f"cmd: dovetail register b, deps: [out/b.joblib], params: [b.gates], {receipt}"
    small.write(
        "dvc.yaml",
        "stages:\n  train: {cmd: cp data.csv out/m.joblib && cp data.csv out/b.joblib, deps: [data.csv], params: [w],\n"
        "    outs: [out/m.joblib, out/b.joblib]}\n"
        + (f"  register: {{{by_its_stage}}}\n" if "b" in changed else "")
        + "artifacts: {m: {path: out/m.joblib, type: model, desc: '${words}', meta: {gates: '${gates}'}}}\n",
    )
    for said in (params, params | changed):
        small.write("params.yaml", yaml.safe_dump(said))
        small.run("dvc", "repro", "-q", "train")
        small.write("mlruns/receipts/b.json", "{}")
        small.run("dvc", "commit", "-q", "-f")
        small.commit("params")
    asked, ask = [], dvc_yaml.declared
    monkeypatch.setattr(dvc_yaml, "declared", lambda repo: asked.append(repo) or ask(repo))
    with open_workspace(small.root) as workspace:
        for rev, expected in (("HEAD~1", params), ("HEAD", params | changed)):
            models = workspace.at(workspace.git.commit(rev)).declared.models
            assert (models["m"].desc, models["m"].gates) == (expected["words"], expected["gates"])
            if "b" in changed:
                assert models["b"].gates == expected["b"]["gates"]
    assert len(asked) - 1 == asked_again  # besides the working tree


def test_what_is_declared_with_variables_is_each_commits_own(small):
    small.replace("dvc.yaml", "{accuracy: {min: 0.5}}", "'${gates}'")
    small.replace("dvc.yaml", "stages:", "vars: [conf.yaml]\nstages:")
    commits = []
    for least in (0.1, 0.2, 0.3):
        small.write("conf.yaml", f"gates: {{accuracy: {{min: {least}}}}}\n")
        commits.append((small.commit("gates"), least))
    for order in (commits, commits[::-1]):
        with open_workspace(small.root) as workspace:
            for sha, least in order:
                assert workspace.at(workspace.git.commit(sha)).models["m"].gates == {"accuracy": {"min": least}}
