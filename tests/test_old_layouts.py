"""What DVC 1 and 2 left in a repository: read in its commits, and in the working tree read or named with a command."""

import hashlib
import json
import shutil

import pytest
import yaml
from project import TRAIN, Project

import dovetail
from dovetail.errors import UserError

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings(
        "ignore:.*Any type hint is inferred as AnyType:UserWarning"
    ),  # of mlflow.pyfunc's import
]

SPLIT = """
import csv, os
os.makedirs("parts", exist_ok=True)
for name in ("parts/a.csv", "data.csv"):  # csv ends lines as Windows does: DVC 2 digested them as if it were Unix
    csv.writer(open(name, "w", newline="")).writerows([("a", "b"), (1, 2)])
"""
STAGES = """
stages:
  split: {cmd: python split.py, deps: [split.py, raw.csv], outs: [data.csv, parts]}
  train:
    cmd: python train.py
    deps: [train.py, data.csv, parts]
    params: [train]
    outs: [out/m.joblib]
    metrics: [{out/metrics.json: {cache: false}}]
"""
ENTRY = "artifacts:\n  m: {path: out/m.joblib, type: model}\n"


def digest(file):
    """What DVC 2 called its md5: of text, with the line ends of Unix."""
    content = file.read_bytes()
    return hashlib.md5(content if b"\0" in content else content.replace(b"\r\n", b"\n")).hexdigest()


class Old(Project):
    """A repository that DVC 3 ran, and whose DVC files and cache are written as older ones did."""

    def entry(self, path, **more):
        """The entry of a file or folder, its bytes put into the cache of DVC 2."""
        file = self.root / path
        if file.is_dir():
            inside = [self.entry(f"{path}/{one.name}") for one in sorted(file.iterdir()) if one.suffix == ".csv"]
            listing = [{"md5": one["md5"], "relpath": one["path"].rpartition("/")[2]} for one in inside]
            content = json.dumps(listing, sort_keys=True).encode()
            md5 = hashlib.md5(content).hexdigest() + ".dir"
        else:
            content, md5 = file.read_bytes(), digest(file)
        if file.suffix != ".py":
            kept = self.root / ".dvc/cache" / md5[:2] / md5[2:]
            kept.parent.mkdir(parents=True, exist_ok=True)
            kept.write_bytes(content)
        return {"md5": md5, "path": path, **more}

    def older(self, record):
        """A stage as dvc.lock records it, its digests those of DVC 2."""
        return {**record, **{key: [self.entry(one["path"]) for one in record[key]] for key in ("deps", "outs")}}

    def written(self, path, content):
        return self.write(path, yaml.safe_dump(content, sort_keys=False))


@pytest.fixture
def old(tmp_path):
    project = Old(tmp_path / "old")
    project.root.mkdir()
    project.run("git", "init", "-q")
    project.run("dvc", "init", "-q")
    project.write("train.py", TRAIN)
    project.write("split.py", SPLIT)
    project.write("raw.csv", "a,b\r\n1,2\r\n")
    project.write("params.yaml", "train: {w: 7}\n")
    project.write("dvc.yaml", STAGES)
    project.write(".gitignore", "/mlflow.db*\n/mlruns/\n")
    project.run("dvc", "add", "-q", "raw.csv")
    project.run("dvc", "repro", "-q")
    stages = yaml.safe_load((project.root / "dvc.lock").read_text())["stages"]
    project.records = {name: project.older(record) for name, record in stages.items()}
    project.written("raw.csv.dvc", {"outs": [project.entry("raw.csv")]})
    project.written("dvc.lock", {"schema": "2.0", "stages": project.records})
    for path in ("cache/files", "cache/runs", "tmp"):
        shutil.rmtree(project.root / ".dvc" / path)
    return project


def test_what_dvc_2_digested_and_kept_is_read(old, tmp_path):
    old.write("dvc.yaml", STAGES + ENTRY)
    old.commit("DVC 2")
    repo = dovetail.open(old.root)
    repo.register("m")
    assert repo.reproduce("m").verdict == "identical"
    shown = repo.lineage("m")
    assert set(map(tuple, shown.available.values())) == {("cache",)}
    assert repo.doctor().problems == ()
    assert repo.status().in_sync
    assert repo.gc().delete == ()

    (tmp_path / "remote").mkdir()
    for folder in old.root.glob(".dvc/cache/??"):
        folder.rename(tmp_path / "remote" / folder.name)
    shutil.rmtree(old.root / ".dvc/cache")
    old.run("dvc", "remote", "add", "-q", "--local", "-d", "far", str(tmp_path / "remote"))
    for path in ("mlflow.db", "mlruns", "out/m.joblib"):
        old.run("rm", "-r", path)
    assert old.json("sync")["problems"] == []
    assert {tuple(ref["available"]) for ref in old.json("lineage", "m")["data"]} == {("remote",)}
    assert old.store().counts() == (1, 1)


def test_what_dvc_1_wrote_is_read_in_commits_and_named_in_the_working_tree(old):
    whole = old.records
    outs = [{**out, "cache": out["path"] != "out/metrics.json"} for out in whole["train"]["outs"]]
    outs = [{**out, "metric": not out["cache"], "persist": False} for out in outs]
    for name, record, made in (("split", whole["split"], whole["split"]["outs"]), ("train", whole["train"], outs)):
        stage = {"cmd": record["cmd"], "deps": record["deps"], "outs": made, "wdir": "."}
        old.written(f"{name}.dvc", {"md5": 32 * "a", **stage})
    old.written("raw.csv.dvc", {"outs": [{**old.entry("raw.csv"), "metric": False}]})
    for path in ("dvc.yaml", "dvc.lock"):
        (old.root / path).unlink()
    old.commit("DVC 0")
    named(old, "raw.csv.dvc (`metric:` of data), split.dvc, train.dvc (stages, with a `cmd`)")
    assert "train" in old.run("dvc", "stage", "list", "--name-only").stdout
    old.run("git", "reset", "-q", "--hard")

    old.run("git", "rm", "-q", "split.dvc", "train.dvc")
    old.write("dvc.yaml", STAGES)
    old.written("dvc.lock", whole)
    old.commit("DVC 1")
    named(old, "dvc.lock (it has no `schema`), raw.csv.dvc (`metric:` of data)")
    assert "up to date" in old.run("dvc", "status").stdout
    old.write("dvc.yaml", STAGES + ENTRY)
    old.commit("DVC 3")

    repo = dovetail.open(old.root)
    assert repo.sync(everything=True).problems == ()
    for rev, stages in (("HEAD~2", {"split.dvc", "train.dvc"}), ("HEAD~1", {"split", "train"})):
        shown = repo.lineage(f"{rev}:m")
        assert {stage.name for stage in shown.lineage.stages} == stages
        assert shown.run.metrics["accuracy"] == 0.7
        assert repo.diff(rev).data == ()
        tried = repo.reproduce(f"{rev}:m")
        assert (tried.verdict, "DVC 1" in tried.missing[0].why) == ("impossible", True)
    assert "m: identical from commit" in old.run("sh", "-c", tried.missing[0].next).stdout


def named(project, what):
    """The one line that says what is of DVC 1, and its command, typed."""
    with pytest.raises(UserError) as refused:
        dovetail.open(project.root).status()
    assert what in refused.value.message
    project.run("sh", "-c", refused.value.next_command)
