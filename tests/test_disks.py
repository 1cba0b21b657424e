"""A disk that is read-only or full, for real: the project lies on a small file system of its own."""

import os
import shutil
import subprocess
import sys
from contextlib import contextmanager

import pytest
import templates
from project import copy_of, isolate

import dovetail
from dovetail.errors import OutsideError

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        sys.platform != "linux" or os.geteuid() != 0 or not shutil.which("mount"),
        reason="only root mounts a file system",
    ),
]
# What writes, and what is there to write: version 1 is in production, version 3 is trained and not registered.
PROMOTE = ("promote", "m", "--version", "2", "--force", "--reason", "a test")
WRITING = (
    ("register",),
    ("sync",),
    PROMOTE,
    ("rollback", "m"),
    ("gc", "--force"),
    ("retrain", "m", "--with", "data.csv"),
    ("reproduce", "m/1"),
    ("serve", "m", "--port", "0"),
    ("diff", "m/1", "m/2"),
)
CALLED = {  # the Python API's verbs that need no store
    "add_data": lambda root: dovetail.open(root).add_data("more", root / "data.csv", yes=True),
    "trace_stage": lambda root: dovetail.open(root).trace_stage("train"),
    "new": lambda root: dovetail.new(root / "new", root / "data.csv", "b"),
}
READING = (("status",), ("history", "m"), ("lineage", "m/1"), ("gc",), ("doctor",), ("init", "--yes"))


def mount(*arguments):
    subprocess.run(["mount", *arguments], check=True)


@pytest.fixture
def project(tmp_path_factory, tmp_path):
    """Two versions, the first in production, a third model trained and committed; a disk of 64 MiB for all of it."""
    with pytest.MonkeyPatch.context() as patch:
        isolate(tmp_path_factory, patch)
        folder = tmp_path / "disk"
        folder.mkdir()
        try:
            mount("-t", "tmpfs", "-o", "size=64m", "tmpfs", str(folder))
        except subprocess.CalledProcessError:
            pytest.skip("this root may not mount")
        try:
            made = copy_of(templates.versions(tmp_path_factory), folder / "p")
            made.run("dovetail", "promote", "m", "--version", "1", "--force", "--reason", "a test")
            made.write("params.yaml", "train: {w: 9}\n")
            made.run("dvc", "repro", "-q", "train")
            made.commit("w = 9")
            yield made
        finally:
            subprocess.run(["umount", "--lazy", str(folder)], check=True)


@contextmanager
def read_only(project):
    folder = str(project.root)
    mount("--bind", folder, folder)  # the disk itself has files that are open for writing: the test's own
    mount("-o", "remount,ro,bind", folder)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


@contextmanager
def full(project, left):
    """A disk with `left` bytes free."""
    ballast = project.root.parent / "ballast"
    with ballast.open("wb") as file:
        free = os.statvfs(project.root.parent)
        os.posix_fallocate(file.fileno(), 0, max(free.f_bavail * free.f_frsize - left, 1))
    try:
        yield
    finally:
        ballast.unlink()


def state(project):
    """What a command must not leave half done: git's refs, the runs and versions, the aliases."""
    return project.run("git", "for-each-ref").stdout, project.store().counts(), project.store().aliases()


def refused(project, *command):
    """The one line that a command ends with, which names the disk and the command that shows it."""
    done = project.run("dovetail", *command, code=3)
    assert done.stderr.count("\n") == 1, (command, done.stderr)
    assert len(done.stderr) < 700, (command, done.stderr)
    return done.stderr


def test_on_a_read_only_disk_what_reads_answers_and_what_writes_says_so_in_one_line(project):
    before = state(project)
    with read_only(project):
        for command in WRITING:
            line = refused(project, *command)
            assert "Read-only file system" in line, command
            assert "; next: ls -ld " in line or "; next: df -h " in line, command
        for command in READING:
            done = project.run("dovetail", *command, code=None)
            assert done.returncode == (1 if command == ("status",) else 0), (command, done.stderr)
            assert not done.stderr
    assert state(project) == before


@pytest.mark.parametrize("name", sorted(CALLED))
def test_on_a_read_only_disk_the_python_api_says_so_as_an_error_of_dovetails(project, name):
    project.write("src/stages/__init__.py", "")  # what `dovetail new` makes, as far as add_data looks at it
    project.write("params.yaml", "datasets:\n  first: {}\n")
    with read_only(project), pytest.raises(OutsideError) as refusal:
        CALLED[name](project.root)
    assert refusal.value.next_command.startswith(("ls -ld ", "df -h "))


@pytest.mark.parametrize("left", [0, 48 * 1024])
def test_on_a_full_disk_a_command_is_done_or_says_so_in_one_line_and_the_next_run_completes_it(project, left):
    stopped = []
    for command in (c for c in WRITING if c[0] != "serve"):
        with full(project, left):
            done = project.run("dovetail", *command, code=None)
        if done.returncode:
            assert done.returncode == 3, (command, done.stdout, done.stderr)
            assert done.stderr.count("\n") == 1, (command, done.stderr)
            assert "; next: df -h " in done.stderr, (command, done.stderr)
            stopped.append(command)
            project.run("dovetail", *command)
    assert ("register",) in stopped
    assert ("reproduce", "m/1") in stopped
    assert project.json("doctor")["problems"] == []
    assert project.store().counts() == (4, 4)  # three models, and the candidate of retrain
    assert project.store().aliases()["m"]["production"] == 1
    assert [event["kind"] for event in project.json("history", "m")["events"]] == ["rollback", "promote", "promote"]


def test_a_server_that_cannot_keep_a_copy_says_so_in_one_line(project):
    with full(project, 0):
        assert "; next: df -h " in refused(project, "serve", "m", "--port", "0")
