"""Promotions whose bytes nobody has: every command leads to the write-off, and after it none asks for them again."""

import shutil

import pytest
from next_commands import following, typed
from project import Project

KEPT, LOST = 1, 2  # the versions


@pytest.fixture
def lost(small):
    """Two promoted versions; the second one's bytes are in no cache any more, and MLflow is gone."""
    for w in (7, 8):
        small.write("params.yaml", f"train: {{w: {w}}}\n")
        small.run("dvc", "repro", "-q", "register")
        small.commit(f"w = {w}")
        small.json("promote", "m", "--force", "--reason", "try")
    md5 = small.store().versions()[-1].tags["dovetail.model.md5"]
    small.run("git", "switch", "-q", "-c", "work", "HEAD~1")
    small.run("dvc", "checkout", "-q")
    small.run("git", "branch", "-q", "-D", "main")
    (small.root / f".dvc/cache/files/md5/{md5[:2]}/{md5[2:]}").unlink()
    (small.root / "mlflow.db").unlink()
    shutil.rmtree(small.root / "mlruns")
    return small


@pytest.mark.slow
def test_a_promotion_whose_bytes_are_lost_is_written_off_for_every_clone(lost, tmp_path):
    found = lost.json("sync", "--all", code=1)["problems"]
    (alias,) = [problem for problem in found if problem["what"] == "m@production"]
    assert alias["next"] == "dovetail write-off m 'm#production#2' --reason '…'"
    (status,) = lost.json("status", code=1)["models"]
    assert alias["next"] in [problem["next"] for problem in status["problems"]]
    assert alias["next"] in [problem["next"] for problem in lost.json("doctor", code=1)["problems"]]
    assert alias["next"] in lost.run("dovetail", "promote", "m", "--dry-run", code=2).stderr

    answer = lost.json("write-off", "m", "m#production#2", "--reason", "the disk died")
    assert answer["tags"] == ["m#production!#3", "m@v2.0.0!#4"]
    assert answer["aliases"] == {"production": KEPT}
    again = lost.json("sync", "--all")
    assert (again["problems"], len(again["passed_over"])) == ([], 1)
    assert not [
        p for p in lost.json("doctor", code=None)["problems"] if "write-off" in p["next"] or "sync" in p["next"]
    ]
    assert "the disk died" in lost.json("history", "m")["events"][0]["reason"]
    assert "m#production#2" in [event["tag"] for event in lost.json("history", "m")["events"]]
    assert lost.json("promote", "m")["already"]
    lost.run("git", "clone", "-q", ".", str(tmp_path / "clone"))
    clone = Project(tmp_path / "clone")
    assert clone.json("history", "m", "--at", "2099-01-01")["events"][0]["tag"] == "m#production#1"

    lost.write("params.yaml", "train: {w: 9}\n")
    lost.run("dvc", "repro", "-q", "register")
    lost.commit("w = 9")
    assert lost.json("promote", "m", "--force", "--reason", "next")["tag"] == "m#production#5"
    assert "m@v3.0.0" in lost.run("git", "tag").stdout.split()  # the number of what was written off is not given again


@pytest.mark.slow
def test_what_comes_back_after_it_was_written_off_is_promoted_once_its_write_off_is_taken_back(lost):
    lost.run("dovetail", "sync", "--all", code=1)
    lost.json("write-off", "m", "m#production#2", "--reason", "the disk died")
    plan = lost.json("gc")
    assert not [one for one in plan["delete"] if one["what"] == "object"]
    assert not [warning for warning in plan["warnings"] if "m@v2.0.0" in str(warning)]
    lost.run("git", "switch", "-q", "--detach", "m@v2.0.0")
    lost.run("dvc", "repro", "-q", "-f", "train")  # it makes the very bytes again
    refused = lost.json("promote", "m", "--force", "--reason", "found", code=2)["error"]
    assert "m@v2.0.0!#4 takes m of commit" in refused["message"]
    lost.run("sh", "-c", refused["next"].partition(",")[0])
    assert lost.json("promote", "m", "--force", "--reason", "found")["version"] == LOST
    shown = lost.run("gto", "show", "m").stdout
    assert "v2.0.0" in shown
    assert lost.json("sync", "--all", code=None)["problems"] == []


def test_what_can_still_be_had_is_not_written_off(lost):
    tags = lost.run("git", "tag").stdout
    assert "without a reason" in lost.run("dovetail", "write-off", "m", code=2).stderr
    can = lost.run("dovetail", "write-off", "m", "m@v1.0.0", "--reason", "no", code=2).stderr
    assert "are still available" in can
    typed(lost, following(can, "are still available")[0])
    has = lost.run("dovetail", "write-off", "m", "m@v1.0.0", "--reason", "no", code=2).stderr
    assert "MLflow has m" in has
    assert "m#production#1" in typed(lost, following(has, "MLflow has m")[0]).stdout
    lost.run("dvc", "remote", "add", "-q", "-d", "dead", "http://127.0.0.1:9/none")
    assert lost.run("dovetail", "write-off", "m", "--reason", "is it?", code=3).stderr.count("\n") == 1
    assert lost.run("git", "tag").stdout == tags
