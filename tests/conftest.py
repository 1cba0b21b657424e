"""Every test runs apart from the machine: its own home, git identity and MLflow settings, no system configuration."""

import shutil
from pathlib import Path

import pytest
from project import Project, isolate, small_project

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(autouse=True)
def _isolated(tmp_path_factory, monkeypatch):
    isolate(tmp_path_factory, monkeypatch)


@pytest.fixture(scope="session")
def _small_template(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        isolate(tmp_path_factory, patch)
        project = small_project(tmp_path_factory.mktemp("template") / "small")
        project.run("dvc", "repro", "-q", "train")
        project.commit("trained")
    return project.root


@pytest.fixture
def small(_small_template, tmp_path):
    """A small project, trained and committed, not yet registered."""
    shutil.copytree(_small_template, tmp_path / "small", symlinks=True)
    return Project(tmp_path / "small")
