"""A remote whose plugin is missing, or that does not answer: one line, and what can be done here is done."""

import json
import shutil
import time
from collections import Counter
from functools import partial

import pytest
from project import free_port

import dovetail
from dovetail.repo.objects import Objects

PLUGIN = "python -m pip install dvc-s3, then run the same command again"


@pytest.fixture(params=["plugin", "server", "silent"])
def remote(request, silent):
    """An address, and what a command says to do about it."""
    if request.param == "plugin":
        return "s3://bucket/x", PLUGIN
    port = silent if request.param == "silent" else free_port()
    return f"http://127.0.0.1:{port}/x", "dvc remote list, dvc doctor"


@pytest.mark.slow
def test_each_command_says_so_and_does_what_it_can(registered, remote):
    url, following = remote
    small = registered
    small.run("dvc", "remote", "add", "-q", "-d", "far", url)
    small.commit("remote")
    begun = time.monotonic()
    (model,) = small.json("status", code=1)["models"]
    assert time.monotonic() - begun < 25  # of which the remote has ten: this machine may be busy
    if url.startswith("http"):
        # Local settings of a remote that the commits before do not have: they are read all the same.
        small.run("dvc", "remote", "modify", "--local", "far", "read_timeout", "1")
    assert model["workspace"]["pushed"] is None
    assert [problem["next"] for problem in model["problems"]] == [following]
    assert small.json("lineage", "m")["data"][0]["available"] == ["cache"]
    plan = small.json("gc")
    assert plan["looked_at"] == ["cache", "mlflow"]
    assert following in {warning["next"] for warning in plan["warnings"]}
    refused = small.json("gc", "--cloud", code=3)["error"]
    assert (refused["kind"], refused["next"]) == ("DataUnavailable", following)
    small.replace("dvc.yaml", "gates: {accuracy: {min: 0.5}}", "gates: {provenance: {}}")
    small.commit("gates")
    gates = {gate["name"]: gate for gate in small.json("promote", "m", "--dry-run", code=1)["gates"]}
    assert gates["provenance.data"]["next"] == following

    shutil.rmtree(small.root / ".dvc/cache/files")
    assert small.json("lineage", "m")["data"][0]["available"] == ["unknown"]
    assert "NOT in the cache, and the remote does not answer" in small.run("dovetail", "lineage", "m").stdout
    found = small.json("doctor", code=1)["problems"]
    assert not [one for one in found if "no cache and no remote" in one["what"]]
    assert following in {one["next"] for one in found}
    small.run("rm", "-rf", "mlflow.db", "mlruns", "out", "data.csv")
    problems = small.json("sync", code=1)["problems"]
    assert following in {one["next"] for one in problems}
    assert not [one for one in problems if "neither in the cache" in one["why"]]


def test_an_unknown_folder_keeps_gc_from_deleting(registered):
    small = registered
    small.run("dvc", "remote", "add", "-q", "-d", "far", "s3://bucket/x")
    listings = list((small.root / ".dvc/cache/files/md5").glob("*/*.dir"))
    assert listings
    for listing in listings:
        listing.unlink()
    files = {file for file in (small.root / ".dvc/cache").rglob("*") if file.is_file()}
    assert PLUGIN in small.run("dovetail", "gc", "--force", code=2).stderr
    assert {file for file in (small.root / ".dvc/cache").rglob("*") if file.is_file()} >= files


def test_data_declared_without_a_cache_is_told_what_satisfies_the_gate(registered):
    small = registered
    small.write("prepare.py", "open('ready.csv', 'w').write(open('data.csv').read() + '5,6')")
    prepare = "{cmd: python prepare.py, deps: [prepare.py, data.csv], outs: [{ready.csv: {cache: false}}]}"
    small.replace("dvc.yaml", "stages:\n", f"stages:\n  prepare: {prepare}\n")
    small.replace("dvc.yaml", "deps: [train.py, data.csv]", "deps: [train.py, ready.csv]")
    small.replace("train.py", 'open("data.csv")', 'open("ready.csv")')
    small.replace("dvc.yaml", "gates: {accuracy: {min: 0.5}}", "gates: {provenance: {}}")
    small.write(".gitignore", (small.root / ".gitignore").read_text() + "/ready.csv\n")
    small.run("dvc", "repro", "-q")
    small.commit("uncached")
    gates = {gate["name"]: gate for gate in small.json("promote", "m", "--dry-run", code=1)["gates"]}
    assert "declared with cache: false" in gates["provenance.data"]["detail"]
    assert gates["provenance.data"]["next"].startswith("git add ready.csv && git commit")
    small.run("git", "add", "-f", "ready.csv")
    small.run("git", "commit", "-qm", "kept")
    done = json.loads(small.run("dovetail", "promote", "m", "--dry-run", "--json").stdout)
    assert {gate["name"]: gate["passed"] for gate in done["gates"]}["provenance.data"] is True


@pytest.mark.slow
def test_the_remote_is_asked_once_a_command_whether_it_has_an_object(registered, tmp_path, monkeypatch):
    asked, ask = Counter(), Objects.holds
    monkeypatch.setattr(Objects, "holds", lambda self, digests: asked.update(digests) or ask(self, digests))
    registered.run("dvc", "remote", "add", "-q", "-d", "store", str(tmp_path / "remote"))
    registered.replace("dvc.yaml", "gates: {accuracy: {min: 0.5}}", "gates: {provenance: {}}")
    registered.commit("a remote")
    registered.run("dvc", "push", "-q", "data.csv")
    repo = dovetail.open(registered.root)
    for command in (partial(repo.promote, "m", dry_run=True), repo.doctor):
        asked.clear()
        command()
        # What it lacks is looked for among DVC 2's objects besides.
        assert set(asked.values()) == {1, 2}, command
