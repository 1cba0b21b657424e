"""Every test runs apart from the machine: its own home, git identity and MLflow settings, no system configuration."""

import os
import shutil
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(autouse=True)
def _isolated(tmp_path_factory, monkeypatch):
    isolate(tmp_path_factory, monkeypatch)


def isolate(tmp_path_factory, monkeypatch):
    """For fixtures that outlive a test, which have to ask for it."""
    home = tmp_path_factory.getbasetemp() / "home"
    home.mkdir(exist_ok=True)
    (home / ".gitconfig").write_text(
        "[user]\nname = Ada Tester\nemail = ada@example.org\n[init]\ndefaultBranch = main\n"
    )
    for name in [n for n in os.environ if n.startswith(("MLFLOW_", "DVC_", "GIT_", "DOVETAIL_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(home / ".config"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(home / ".cache"))
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    monkeypatch.setenv("DVC_NO_ANALYTICS", "true")
    monkeypatch.setenv("MPLBACKEND", "Agg")


@pytest.fixture(scope="session")
def _small_template(tmp_path_factory):
    from project import small_project

    with pytest.MonkeyPatch.context() as patch:
        isolate(tmp_path_factory, patch)
        project = small_project(tmp_path_factory.mktemp("template") / "small")
        project.run("dvc", "repro", "-q", "train")
        project.commit("trained")
    return project.root


@pytest.fixture
def small(_small_template, tmp_path):
    """A small project, trained and committed, not yet registered."""
    from project import Project

    shutil.copytree(_small_template, tmp_path / "small", symlinks=True)
    return Project(tmp_path / "small")
