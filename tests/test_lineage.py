"""Which data made this version, and what was made of this data."""

import shutil

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dovetail.render.commits import shortened
from dovetail.repo.dvc_files import parse_lock
from dovetail.repo.workspace import open_workspace
from dovetail.values.lineage import FileRef, Lineage, StageRecord, closure
from dovetail.values.scored import Scored


def test_up_from_a_version_to_its_raw_data(registered):
    answer = registered.json("lineage", "m")
    head = registered.run("git", "rev-parse", "HEAD").stdout.strip()
    # The commit that wrote the lock with these bytes: it was made before registering.
    trained = registered.run("git", "log", "-1", "--format=%H", "--diff-filter=A", "--", "dvc.lock").stdout.strip()
    assert trained in [commit["sha"] for commit in answer["commits"]]
    assert head
    assert (answer["model"], answer["version"], answer["aliases"]) == ("m", 1, ["staging"])
    assert answer["artifact"]["verified"] is True
    assert [stage["name"] for stage in answer["stages"]] == ["train"]
    (data,) = answer["data"]
    assert (data["path"], data["role"], data["available"]) == ("data.csv", "training", ["cache"])
    assert answer["params"] == {"train.w": "7"}
    assert answer["metrics"]["accuracy"] == 0.7
    assert "mlflow" in answer["environment"]["packages"]


def test_it_answers_for_an_uncommitted_version_and_links_the_commit_as_soon_as_there_is_one(small):
    small.write("params.yaml", "train: {w: 8}\n")
    small.run("dvc", "repro", "-q", "register")
    assert small.json("lineage", "m/1")["commits"] == []
    sha = small.commit("afterwards")
    assert [commit["sha"] for commit in small.json("lineage", "m/1")["commits"]] == [sha]


def test_it_answers_for_an_experiments_run(registered):
    registered.run("dvc", "exp", "run", "-q", "--temp", "-n", "nine", "-S", "train.w=9")
    run = next(r for r in registered.store().runs() if r.info.run_name == "nine")
    answer = registered.json("lineage", f"runs:/{run.info.run_id}")
    assert (answer["version"], answer["params"]) == (None, {"train.w": "9"})
    assert len(answer["commits"]) == 1


def test_it_answers_the_same_after_the_view_was_rebuilt(registered):
    before = registered.json("lineage", "m@staging")
    (registered.root / "mlflow.db").unlink()
    shutil.rmtree(registered.root / "mlruns")
    registered.run("dovetail", "sync")
    after = registered.json("lineage", "m@staging")
    same = ("fingerprint", "stages", "data", "params", "metrics", "commits", "version")
    assert {key: after[key] for key in same} == {key: before[key] for key in same}


@pytest.mark.slow
def test_down_from_data_by_path_and_by_an_older_digest(registered):
    old = registered.json("lineage", "data.csv")
    assert [(v["model"], v["version"], v["aliases"]) for v in old["versions"]] == [("m", 1, ["staging"])]
    registered.write("data.csv", "a,b\n1,2\n")
    registered.run("dvc", "add", "-q", "data.csv")
    registered.run("dvc", "repro", "-q", "register")
    new = registered.json("lineage", "data.csv")
    assert new["md5"] != old["md5"]
    assert [v["version"] for v in new["versions"]] == [2]
    assert [v["version"] for v in registered.json("lineage", old["md5"])["versions"]] == [1]


def test_down_from_data_to_the_files_that_it_led_to(registered, tmp_path):
    version = registered.json("lineage", "m/1")
    for name, md5 in (("of-it", version["artifact"]["md5"]), ("of another", "0" * 32)):
        said = Scored("m", 1, md5, "", None, "part.parquet", "1" * 32)
        pq.write_table(pa.table({"x": [1]}).replace_schema_metadata(said.metadata()), tmp_path / f"{name}.parquet")
    pq.write_table(pa.table({"x": [1]}), tmp_path / "no answer.parquet")
    for ref in ("data.csv", version["data"][0]["md5"], "m@staging", str(tmp_path / "of-it.parquet")):
        assert registered.json("lineage", ref, "--scored", str(tmp_path))["scored_files"] == [
            str(tmp_path / "of-it.parquet")
        ]
    assert "scored_files" not in registered.json("lineage", "data.csv")


def test_a_commits_model_is_found_by_content(registered):
    assert registered.json("lineage", "HEAD:m")["version"] == 1


def test_a_changed_artifact_is_not_verified(registered):
    (stored,) = (registered.root / "mlruns").rglob("m.joblib")
    stored.write_bytes(b"something else")
    assert registered.json("lineage", "m")["artifact"]["verified"] is False


def test_for_people_it_is_a_tree_and_a_diagram(registered):
    text = registered.run("dovetail", "lineage", "m").stdout
    assert "m/1 @staging" in text
    assert "← data.csv" in text
    diagram = registered.run("dovetail", "lineage", "m", "--mermaid").stdout
    assert diagram.startswith("flowchart LR\n")
    assert "d0[(data.csv)] --> s1[train]" in diagram


def test_of_many_commits_that_hold_the_same_bytes_the_newest_and_the_first_are_shown():
    def shown(count):
        return [*shortened([{"sha": number} for number in reversed(range(count))], lambda commit: str(commit["sha"]))]

    assert (shown(0), shown(3)) == ([], ["2", "1", "0"])
    assert shown(40) == ["39", "and 38 commits between that hold the same bytes; all: --json", "0"]


@pytest.mark.parametrize(
    ("ref", "says"),
    [
        ("nothing", "no model or data 'nothing'; it has: m, data.csv"),
        ("m/7", "m has no version 7; it has: 1"),
        ("m@production", "m has no alias 'production'; it has: staging"),
        ("runs:/abc", "has no run 'abc'"),
        ("v9:m", "git has no revision 'v9'; it has: workspace, HEAD, main"),
        ("0" * 32, "knows md5"),
    ],
)
def test_what_is_unknown_is_said_together_with_what_there_is(registered, ref, says):
    done = registered.run("dovetail", "lineage", ref, code=2)
    assert says in done.stderr
    assert done.stderr.count("\n") == 1


LOCK = """schema: '2.0'
stages:
  a:
    cmd: make a
    deps: [{path: ../raw.csv, md5: '1', size: 3}]
    params: {params.yaml: {a.k: 1}}
    outs: [{path: dir, md5: 2.dir, size: 4}]
  b:
    cmd: [one, two]
    deps: [{path: dir/part.csv, md5: '3'}, {path: b.py, md5: '4'}]
    outs: [{path: model, md5: '5'}]
"""


def test_a_lock_in_a_subfolder_speaks_of_paths_from_the_root():
    records = parse_lock(LOCK, "sub")
    assert set(records) == {"sub/dvc.yaml:a", "sub/dvc.yaml:b"}
    assert records["sub/dvc.yaml:a"].deps == (FileRef("raw.csv", "1", 3),)
    assert records["sub/dvc.yaml:b"].cmd == "one\ntwo"
    assert [s.name for s in closure(records, ["sub/model"])] == ["sub/dvc.yaml:a", "sub/dvc.yaml:b"]


@pytest.mark.parametrize("text", ["<<<<<<< HEAD\nschema: 1\n=======\n", "stages: 3", "stages: {a: {deps: []}}"])
def test_what_is_no_lock_is_refused(text):
    with pytest.raises(ValueError, match=r"."):
        parse_lock(text)


def lineage(**changes):
    stage = {
        "name": "t",
        "cmd": "c",
        "deps": (FileRef("d.csv", "1"),),
        "params": {"p": 1},
        "outs": (FileRef("m", "2"),),
    }
    return Lineage("m", FileRef("m", "2"), (StageRecord(**{**stage, **changes}),))


def test_the_fingerprint_follows_content_and_nothing_else():
    same = lineage(deps=(FileRef("d.csv", "1", size=99),)).fingerprint
    assert lineage().fingerprint == same
    for change in (
        {"cmd": "x"},
        {"params": {"p": 2}},
        {"deps": (FileRef("d.csv", "9"),)},
        {"outs": (FileRef("m", "9"),)},
    ):
        assert lineage(**change).fingerprint != same


def test_a_lineage_survives_json():
    assert Lineage.from_json(lineage().as_json()) == lineage()


def test_a_command_of_several_lines_and_metrics_in_a_folder_are_shown(small):
    small.replace("dvc.yaml", "    cmd: python train.py\n", "    cmd: |\n      true\n\n      python train.py\n")
    small.replace("dvc.yaml", "outs: [out/m.joblib]", "outs: [out]")
    small.replace("dvc.yaml", "    metrics: [{out/metrics.json: {cache: false}}]\n    plots: [out/plots]\n", "")
    small.replace("dvc.yaml", "artifacts:\n", "metrics: [out/metrics.json]\nartifacts:\n")
    small.replace("train.py", '{"accuracy": w / 10, "size"', '{"test": {"accuracy": w / 10}, "size"')
    small.run("git", "rm", "-rq", "--cached", "out")
    small.run("dvc", "repro", "-q")
    lines = small.run("dovetail", "lineage", "m/1").stdout.splitlines()
    assert "├─ train  true; python train.py" in lines
    assert all(line[0] in "├│└m" for line in lines)
    assert sorted(lines[-1].removeprefix("└─ ").split(", ")) == ["size.rows 2", "test.accuracy 0.7"]


def test_a_wrong_name_is_answered_with_data_and_not_with_folders_of_code(registered):
    registered.write("steps/one.py", "")
    registered.replace("dvc.yaml", "deps: [train.py, data.csv]", "deps: [train.py, data.csv, steps]")
    registered.run("git", "add", "steps")
    registered.run("dvc", "repro", "-q", "train")
    said = registered.run("dovetail", "lineage", "datta.csv", code=2).stderr
    assert "data.csv" in said
    assert "steps" not in said


def renamed(project):
    project.replace("dvc.yaml", "  train:", "  fit:")
    project.run("dvc", "repro", "-q", "fit")
    project.write("data.csv", "a,b\n5,6\n")
    project.run("dvc", "add", "-q", "data.csv")
    project.run("dvc", "repro", "-q", "fit")
    return {"fit"}


def removed(project):
    """What the first of two stages made is kept by git from now on."""
    project.replace(
        "dvc.yaml", "stages:\n", "stages:\n  prep: {cmd: cp data.csv d.csv, deps: [data.csv], outs: [d.csv]}\n"
    )
    project.replace("dvc.yaml", "[train.py, data.csv]", "[train.py, data.csv, d.csv]")
    project.run("dvc", "repro", "-q", "train")
    project.replace("dvc.yaml", "  prep: {cmd: cp data.csv d.csv, deps: [data.csv], outs: [d.csv]}\n", "")
    project.replace(".gitignore", "/d.csv\n", "")
    return {"train"}


def templated(project):
    """Of two stages that one template wrote in turn, both of which dvc.lock has."""
    text = (project.root / "dvc.yaml").read_text()
    command = "cmd: python train.py"
    indented = text.replace("  train:\n", "  train:\n    foreach: ${kinds}\n    do:\n").replace(command, f"  {command}")
    for line in ("deps: [train.py, data.csv]", "params: [train]", "outs: [out/m", "metrics: [{", "plots: [out"):
        indented = indented.replace(f"    {line}", f"      {line}")
    project.write("dvc.yaml", indented)
    for kind in ("one", "two"):
        project.write("params.yaml", f"train: {{w: 7}}\nkinds: [{kind}]\n")
        project.run("dvc", "repro", "-q", f"train@{kind}")
        project.write("data.csv", f"a,b\n5,{kind}\n")
        project.run("dvc", "add", "-q", "data.csv")
    project.run("dvc", "repro", "-q", "train@two")
    return {"train@two"}


@pytest.mark.slow
@pytest.mark.parametrize("change", [renamed, removed, templated])
def test_stages_that_are_no_more_made_nothing(small, change):
    """dvc.lock keeps their records."""
    stages = change(small)
    with open_workspace(small.root) as workspace:
        here = workspace.tree.lineage(workspace.tree.model("m"))
    small.commit("changed")
    small.run("dvc", "repro", "-q", "register")
    with open_workspace(small.root) as workspace:
        there = workspace.at(workspace.git.commit("HEAD"))
        assert {stage.name for stage in here.stages} == stages
        assert there.lineage(there.model("m")).fingerprint == here.fingerprint
    small.run("dovetail", "promote", "m", "--version", "1")
    small.run("dovetail", "status", "m")
