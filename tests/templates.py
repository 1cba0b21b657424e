"""Projects that many tests begin with, made once a run: what a test changes, it changes in a copy."""

import os
import shutil

import pytest
from filelock import FileLock
from project import Project, copy_of, isolate, judged_project, set_aside, small_project
from serving import served_project


def made_once(tmp_path_factory, name, make):
    """The folder that `make(folder)` fills. The worker that asks first makes it, another one waits for it."""
    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:  # then each worker has a folder of its own in there
        shared = shared.parent
    folder = shared / "templates" / name
    folder.parent.mkdir(exist_ok=True)
    with FileLock(f"{folder}.lock"):
        done = folder.with_name(f"{name}.done")
        if not done.exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            with pytest.MonkeyPatch.context() as patch:
                isolate(tmp_path_factory, patch)
                make(folder)
            done.touch()
    return folder


def small(tmp_path_factory):
    """The small project, trained and committed, not yet registered; its folder."""

    def make(folder):
        project = small_project(folder / "small")
        project.run("dvc", "repro", "-q", "train")
        project.commit("trained")

    return made_once(tmp_path_factory, "small", make) / "small"


def registered(tmp_path_factory):
    """The small project, registered and committed; for `copy_of`."""

    def make(folder):
        project = _copy_of_small(tmp_path_factory, folder)
        project.run("dvc", "repro", "-q", "register")
        project.commit("registered")
        set_aside(project)

    return made_once(tmp_path_factory, "registered", make) / "small"


def versions(tmp_path_factory):
    """The small project with two committed versions, the newer one staged; for `copy_of`."""

    def make(folder):
        project = _copy_of_small(tmp_path_factory, folder)
        for w in (7, 8):
            version(project, w)
        set_aside(project)

    return made_once(tmp_path_factory, "versions", make) / "small"


def version(project, w):
    """Train with `w`, register, commit."""
    project.write("params.yaml", f"train: {{w: {w}}}\n")
    project.run("dvc", "repro", "-q")
    return project.commit(f"w = {w}")


def judged(tmp_path_factory):
    """The judged project; for `copy_of`."""
    return made_once(tmp_path_factory, "judged", lambda folder: set_aside(judged_project(folder / "judged"))) / "judged"


def served(tmp_path_factory):
    """The served project; for `copy_of`."""
    return made_once(tmp_path_factory, "served", lambda folder: set_aside(served_project(folder / "p"))) / "p"


def _copy_of_small(tmp_path_factory, folder):
    shutil.copytree(small(tmp_path_factory), folder / "small", symlinks=True)
    return Project(folder / "small")


__all__ = ["copy_of", "judged", "made_once", "registered", "served", "small", "version", "versions"]
