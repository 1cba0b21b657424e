"""Promotions held to what their commits say, read from git without DVC where the text says it."""

from contextlib import closing

import pytest
from project import Project

from dovetail.repo.git import Git
from dovetail.repo.ledger import PROMOTE, Note, read
from dovetail.repo.ledger_content import read_checked
from dovetail.repo.ledger_write import write

GOOD, LIE = "a" * 32, "b" * 32
LOCK = f"""schema: '2.0'
stages:
  train:
    cmd: python train.py
    outs:
    - path: models/m.joblib
      hash: md5
      md5: {GOOD}
      size: 3
    - path: models/m.skops
      hash: md5
      md5: {LIE}
      size: 3
"""
ASK = "artifacts: {m: {path: 'models/m.${a.format}', type: model}}\n"


@pytest.mark.parametrize(
    ("pipeline", "params", "asked"),
    [
        (ASK, "a: {format: joblib}\n", False),
        (ASK, "a: {format: 5}\n", True),
        (ASK, "b: 1\n", True),
        (ASK, "", True),
        (ASK + "vars: [{a: {format: skops}}]\n", "a: {format: joblib}\n", True),
        (ASK.replace("'models", "'\\\\models"), "a: {format: joblib}\n", True),
    ],
)
def test_a_path_with_a_value_of_params_yaml_is_read_without_dvc_where_that_is_all(
    tmp_path, monkeypatch, pipeline, params, asked
):
    project = Project(tmp_path)
    project.run("git", "init", "-q")
    for name, text in (("dvc.lock", LOCK), ("dvc.yaml", pipeline), ("params.yaml", params)):
        project.write(name, text)
    sha = project.commit("trained")
    with closing(Git(tmp_path)) as git:
        write(git, read(git.tags()), ("m", "production"), sha, Note(PROMOTE, 1, None, GOOD, evidence="e" * 64))
        questions = []

        def bytes_at(*question):
            questions.append(question)
            return GOOD

        trace = tmp_path / "git.trace"
        monkeypatch.setenv("GIT_TRACE", str(trace))
        (event,) = (event for event in read_checked(git, bytes_at).of("m", "production"))
        assert (event.problem, bool(questions)) == ("", asked)
        assert trace.read_text().count("--batch-check") == 1  # for all that is asked of the commits
