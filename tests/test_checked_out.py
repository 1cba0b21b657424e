"""A commit whose pipeline the working tree has is not asked of DVC a second time; one that declares more or less is."""

import subprocess

import pytest

from dovetail.repo.checked_out import CheckedOut, declares_the_same
from dovetail.repo.git import Git

PIPELINE = """\
vars: [settings.yaml:deep, {inline: 1}]
stages:
  train:
    cmd: train
    params: [lr, {made/best.json: [depth]}]
    outs: [made]
"""
FILES = {
    "dvc.yaml": PIPELINE,
    "params.yaml": "lr: 1\n",
    "settings.yaml": "deep: 1\n",
    "made/metrics.json": "1\n",
    "made/best.json": '{"depth": 1}\n',
    "data/d.csv.dvc": "outs:\n- md5: '1'\n  size: 1\n  path: d.csv\n",
    "notes.json": "1\n",
}


@pytest.fixture(params=["", "sub"])
def repository(tmp_path, request):
    """A repository whose DVC root is git's own, and one where it is a folder of it."""
    root = tmp_path / request.param
    for path, text in FILES.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)
    for command in (["init", "-q"], ["add", "--all"], ["commit", "-qm", "one"]):
        subprocess.run(["git", *command], cwd=tmp_path, check=True)
    git = Git(root)
    yield git
    git.close()


def asked(git, sha="HEAD", pipeline=PIPELINE):
    commit = git.commit(sha)
    made = [path for path in FILES if path.startswith("made/")]

    def content(path):
        return git.content(commit.sha, path) or None

    return not declares_the_same(CheckedOut(git), commit.sha, {"dvc.yaml": pipeline.encode()}, made, content)


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("made/metrics.json", "2\n"),
        ("data/d.csv.dvc", "outs:\n- md5: '2'\n  size: 3\n  path: d.csv\n"),
        ("read me.txt", "of no pipeline\n"),
    ],
)
def test_other_results_and_other_data_declare_nothing_else(repository, path, text):
    assert not asked(repository)
    (repository.root / path).write_text(text)
    assert not asked(repository)


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("dvc.yaml", PIPELINE.replace("outs", "metrics")),
        ("params.yaml", "lr: 2\n"),
        ("settings.yaml", "deep: 2\n"),
        ("made/best.json", '{"depth": 2}\n'),
        ("data/d.csv.dvc", "outs:\n- md5: '1'\n  size: 1\n  path: d.csv\n  metric: true\n"),
        ("data/d.csv.dvc", "outs: [\n"),
        ("data/more.csv.dvc", "outs:\n- md5: '1'\n  size: 1\n  path: more.csv\n"),
        ("notes.json", "2\n"),
        ("below/dvc.yaml", "stages: {}\n"),
        (".dvcignore", "data\n"),
    ],
)
def test_what_dvc_reads_of_a_pipeline_is_asked_again_where_it_differs_committed_or_not(repository, path, text):
    (repository.root / path).parent.mkdir(exist_ok=True)
    (repository.root / path).write_text(text)
    assert asked(repository)
    for command in (["add", "--all"], ["commit", "-qm", "two"]):
        subprocess.run(["git", *command], cwd=repository.root, check=True)
    assert asked(repository, "HEAD~1")


def test_a_file_that_is_gone_and_names_that_cannot_be_known_are_asked_for(repository):
    (repository.root / "made/metrics.json").write_text("2\n")
    assert asked(repository, pipeline=PIPELINE.replace("settings", "${which}"))
    assert asked(repository, pipeline=PIPELINE.replace("settings.yaml", "settings.py"))
    assert asked(repository, pipeline="stages: [\n")
    (repository.root / "data/d.csv.dvc").unlink()
    assert asked(repository)
