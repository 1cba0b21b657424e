"""What a killed stage left behind, and who removes it."""

import os
import subprocess
import sys

import pytest

from stages.common.outputs import replacing, scratch_folder


def left(path, pid, *, folder):
    """What process `pid` has made beside `path`, as a stage names it."""
    found = path.parent / f".{path.name}.{pid}.x.tmp"
    if folder:
        (found / "inner").mkdir(parents=True)
    else:
        found.write_text("half")
    return found


@pytest.fixture(scope="module")
def dead():
    """The number of a process that was killed."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        process.kill()
    return process.pid


@pytest.mark.parametrize("folder", [False, True])
@pytest.mark.parametrize("making", [replacing, scratch_folder])
def test_the_next_one_removes_it_and_nothing_else(tmp_path, dead, making, folder):
    path = tmp_path / "clean [1].parquet"
    gone = left(path, dead, folder=folder)
    kept = {
        left(path, os.getppid(), folder=folder),  # it is at work
        left(tmp_path / "other.parquet", dead, folder=folder),
        left(path, "journal", folder=folder),
    }
    with making(path) as made:
        assert not gone.exists()
        assert made.name.startswith(f".{path.name}.{os.getpid()}.")
        if making is replacing:
            made.write_text("whole")
    assert set(tmp_path.iterdir()) == kept | ({path} if making is replacing else set())


@pytest.mark.parametrize("name", ["tmp", "x.tmp", "0a1b2c3d.tmp"])
def test_what_another_process_of_the_same_number_left_goes_first_and_what_this_one_makes_stays(tmp_path, name):
    path = tmp_path / "iris"  # as in a container that is started again: its processes get the same numbers
    old = tmp_path / f".iris.{os.getpid()}.{name}"
    (old / "half").mkdir(parents=True)
    with replacing(path) as made, scratch_folder(path) as scratch:
        assert not old.exists()
        made.mkdir()
        with scratch_folder(path) as inner:
            assert made.is_dir()
            assert scratch.is_dir()
            assert inner.is_dir()
    assert list(tmp_path.iterdir()) == [path]
