"""Tags of models that a nested dvc.yaml declares: written as DVC looks for them, read with and without the folder."""

import dvc.api
import pytest

from dovetail.repo.git_values import Tag
from dovetail.repo.ledger import read
from dovetail.repo.tag_names import artifact_name

FILES = ("train.py", "params.yaml", "data.csv", "data.csv.dvc", "dvc.yaml")


@pytest.fixture
def nested(small):
    """The small project with its pipeline in the folder pipelines/train."""
    small.run("mkdir", "-p", "pipelines/train")
    for name in FILES:
        small.run("mv", name, f"pipelines/train/{name}")
    small.run("rm", "-rf", "out", "dvc.lock")
    small.replace("pipelines/train/dvc.yaml", "mlruns/receipts", "../../mlruns/receipts")
    small.run("dvc", "repro", "-q", "-R", "pipelines")
    small.commit("nested")
    return small


def test_dvc_finds_what_was_promoted(nested):
    nested.json("promote", "m", "--force", "--reason", "try")
    tags = set(nested.run("git", "tag").stdout.split())
    assert tags == {"pipelines/train=m@v1.0.0", "pipelines/train=m#production#1"}
    shown = dvc.api.artifacts_show("pipelines/train:m", stage="production", repo=str(nested.root))
    assert shown["path"] == "pipelines/train/out/m.joblib"
    nested.run("dvc", "artifacts", "get", ".", "pipelines/train:m", "--stage", "production", "-o", "got.joblib")
    assert (nested.root / "got.joblib").read_bytes() == (nested.root / shown["path"]).read_bytes()
    assert nested.json("history", "m")["events"][0]["tag"] == "pipelines/train=m#production#1"


@pytest.mark.slow
def test_a_promotion_without_the_folder_is_followed_and_written_anew(nested):
    nested.json("promote", "m", "--force", "--reason", "try")
    for old in ("m@v1.0.0", "m#production#1"):
        message = nested.run("git", "tag", "-l", "--format=%(contents)", f"pipelines/train={old}").stdout
        nested.run("git", "tag", "-a", old, "-m", message)
        nested.run("git", "tag", "-d", f"pipelines/train={old}")
    assert nested.json("history", "m")["events"][0]["tag"] == "m#production#1"
    assert nested.json("promote", "m", "--force", "--reason", "DVC's name")["tag"] == "pipelines/train=m#production#2"
    tags = nested.run("git", "tag").stdout
    assert nested.json("promote", "m", "--force", "--reason", "again")["tag"] == "pipelines/train=m#production#2"
    assert nested.run("git", "tag").stdout == tags
    assert "pipelines/train=m@v1.0.0" in tags.split()


@pytest.mark.parametrize(
    ("folder", "name"),
    [
        ("", "m"),
        ("a/b", "a/b=m"),
        ("a.b-c_d", "a.b-c_d=m"),
        ("a b", "m"),
        ("a+b", "m"),
        (".hidden", "m"),
        ("a/.b", "m"),
        ("a..b", "m"),
        ("a.lock/b", "m"),
    ],
)
def test_a_folder_that_no_tag_can_have_is_left_out(folder, name):
    assert artifact_name("m", folder) == name


def test_tags_of_another_project_in_the_repository_are_left_aside():
    tags = [
        Tag(name, "1" * 40, 1)
        for name in ("m@v1.0.0", "sub/a=m@v2.0.0", "sub=m@v3.0.0", "other=m@v4.0.0", "subs=m@v5.0.0")
    ]
    assert set(read(tags, prefix="sub").versions["m"]) == {"v1.0.0", "v2.0.0", "v3.0.0"}
    assert len(read(tags).versions["m"]) == 5


def test_two_tags_that_give_a_version_to_different_commits_are_no_witness():
    ledger = read([Tag("m@v1.0.0", "1" * 40, 1), Tag("x=m@v1.0.0", "2" * 40, 2)])
    assert ledger.versions == {"m": {"v1.0.0": ""}}
    assert ledger.semver("m", "1" * 40) is None
    assert ledger.free_semver("m", 1) == "v2.0.0"
    same = read([Tag("m@v1.0.0", "1" * 40, 1), Tag("x=m@v1.0.0", "1" * 40, 2)])
    assert same.semver("m", "1" * 40) == "v1.0.0"
