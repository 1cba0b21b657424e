"""Git that refuses is never read as a repository in which there is nothing."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

COMMANDS = (("sync",), ("history", "m"), ("status",), ("promote", "m", "--dry-run"))


def _belongs_to_another(project):
    if os.geteuid():
        pytest.skip("only root can give a file to somebody else")
    os.chown(project.root, 12345, 12345)
    os.chown(project.root / ".git", 12345, 12345)
    return "dubious ownership"


def _garbage_head(project):
    (project.root / ".git" / "HEAD").write_text("garbage\n")
    return "not a git repository"


def _missing_commit(project):
    sha = project.run("git", "rev-parse", "HEAD").stdout.strip()
    (project.root / ".git" / "objects" / sha[:2] / sha[2:]).unlink()
    return sha


def _garbage_tag(project):
    (project.root / ".git" / "refs" / "tags").mkdir(exist_ok=True)
    (project.root / ".git" / "refs" / "tags" / "junk").write_text("garbage\n")
    return "refs/tags/junk"


def _tag_of_a_missing_object(project):
    (project.root / ".git" / "refs" / "tags").mkdir(exist_ok=True)
    (project.root / ".git" / "refs" / "tags" / "gone").write_text(f"{'1' * 40}\n")
    return "1" * 40


REFUSALS = (_belongs_to_another, _garbage_head, _missing_commit, _garbage_tag, _tag_of_a_missing_object)


def _shown(project):
    return (project.root / "mlflow.db").read_bytes()


@pytest.mark.parametrize("break_git", REFUSALS, ids=lambda refusal: refusal.__name__.strip("_"))
def test_what_git_refuses_ends_the_command_with_its_own_line_and_changes_nothing(registered, break_git):
    before = _shown(registered)
    line = break_git(registered)
    # `history` reads the tags alone, which a commit that is missing leaves as they are.
    for command in COMMANDS if break_git is not _missing_commit else (COMMANDS[0], *COMMANDS[2:]):
        error = registered.json(*command, code=3)["error"]
        assert error["kind"] == "GitFailed", command
        assert line in error["message"], command
    assert _shown(registered) == before


def test_a_missing_git_is_told(registered, tmp_path):
    before = _shown(registered)
    (tmp_path / "bin").mkdir()
    for name in ("python", "dovetail"):
        (tmp_path / "bin" / name).symlink_to(Path(sys.executable).parent / name)
    dovetail = shutil.which("dovetail", path=str(tmp_path / "bin"))
    for command in COMMANDS:
        done = subprocess.run(
            [dovetail, *command],
            cwd=registered.root,
            env={**os.environ, "PATH": str(tmp_path / "bin")},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 3, (command, done.stderr)
        assert "git cannot be run" in done.stderr
        assert "Traceback" not in done.stderr
    assert _shown(registered) == before


def test_a_no_is_an_answer(small):
    """A revision that there is not, and a repository without a commit, are no refusals."""
    done = small.run("dovetail", "diff", "nothing:m", "HEAD:m", code=2)
    assert "nothing" in done.stderr
    shutil.rmtree(small.root / ".git")
    small.run("git", "init", "-q")
    assert [model["model"] for model in small.json("status", code=1)["models"]] == ["m"]
    assert small.json("history", "m")["events"] == []
