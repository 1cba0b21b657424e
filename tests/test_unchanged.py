"""`make unchanged`: what git records and the pipeline did not make, and why."""

import runpy
import subprocess
import sys

import pytest
from project import ROOT

SCRIPT = ROOT / "scripts" / "unchanged.py"
LOCK = """schema: '2.0'
stages:
  train@iris:
    cmd: python train.py
    deps:
    - {path: data.csv, md5: '1'}
    outs:
    - {path: models/iris.joblib, md5: aaaa}
"""


@pytest.fixture
def said(tmp_path):
    def run(*command):
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)

    run("git", "init", "-q")
    (tmp_path / "dvc.lock").write_text(LOCK)
    run("git", "add", "-A")

    def say(old, new, machine=None):
        (tmp_path / "dvc.lock").write_text(LOCK.replace(old, new))
        script = [sys.executable, str(SCRIPT)]
        if machine:
            seen = f"import platform, runpy; platform.machine = lambda: {machine!r}; "
            script = [sys.executable, "-c", seen + f"runpy.run_path({str(SCRIPT)!r}, run_name='__main__')"]
        done = run(*script)
        assert not done.stderr
        return done.returncode, done.stdout

    return say


def test_nothing_is_said_where_nothing_differs(said):
    assert said("aaaa", "aaaa") == (0, "")


def test_on_another_architecture_it_says_which_digests_differ_and_why(said):
    code, out = said("aaaa", "bbbb", machine="aarch64")
    assert code == 1
    assert "train@iris: models/iris.joblib is bbbb, recorded is aaaa\n" in out
    assert "it was computed on x86_64, this is aarch64: the last bits of numbers can differ" in out


def test_where_it_should_be_the_same_the_next_command_is_named(said):
    if advice := runpy.run_path(str(SCRIPT))["advice"]:
        assert "make record" in advice({"machine": "x86_64", "cpu": "avx avx2 fma sse4_2"})
        assert "this CPU has none" in advice({"machine": "x86_64", "cpu": "avx sse4_2"})
    assert said("md5: '1'", "md5: '2'")[1].startswith("train@iris: the same outputs of other inputs\n")
    assert said("train@iris", "train@other")[1].startswith("train@iris: not run\ntrain@other: not recorded\n")
