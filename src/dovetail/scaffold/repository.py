"""The git and DVC repository that a folder is not yet: which commands make it one, and to run them."""

import os
import subprocess
import sys
from pathlib import Path

from dovetail.errors import GitFailed, UserError

GIT, DVC = ("git", "init"), ("dvc", "init")


def missing(start: Path | None = None) -> tuple[Path, tuple[tuple[str, ...], ...]]:
    """Where a DVC repository is to be made for `start` (default: the current folder), and by which commands.

    That is the root of the git repository around it, where DVC wants to be; none of them where DVC has one already.
    """
    here = (start or Path.cwd()).resolve()
    around = (here, *here.parents)
    if root := next((folder for folder in around if (folder / ".dvc").is_dir()), None):
        in_git = any((folder / ".git").exists() for folder in (root, *root.parents))
        return root, () if in_git else (GIT,)
    if root := next((folder for folder in around if (folder / ".git").exists()), None):
        return root, (DVC,)
    return here, (GIT, DVC)


def make(root: Path, commands: tuple[tuple[str, ...], ...]) -> None:
    """Run `commands` in `root`.

    Raises:
        GitFailed, UserError: when one of them refuses; what it says is in the message.
    """
    for command in commands:
        typed = " ".join(command)
        program = [sys.executable, "-P", "-m", "dvc"] if command[0] == "dvc" else [command[0]]
        try:
            done = subprocess.run(
                [*program, *command[1:], "--quiet"],
                cwd=root, env=os.environ, capture_output=True, text=True, errors="replace", check=False,
            )  # fmt: skip
        except OSError as error:
            raise GitFailed(f"{typed}: {error}", "install git, or put it on the PATH: git --version") from error
        if done.returncode:
            said = " ".join((done.stderr or done.stdout).split())
            raise UserError(f"{typed} in {root} failed: {said}", f"correct what it says, then: {typed}")
    if DVC not in commands:
        _keep_out_of_git(root)


def _keep_out_of_git(root: Path) -> None:
    """What `dvc init` would have done, had there been a git: DVC looks for one again, and its own files are ignored."""
    unset = [sys.executable, "-P", "-m", "dvc", "config", "--unset", "core.no_scm", "--quiet"]
    subprocess.run(unset, cwd=root, capture_output=True, check=False)  # it fails where that was never set
    ignore = root / ".dvc" / ".gitignore"
    if not ignore.exists():
        ignore.write_text("/config.local\n/tmp\n/cache\n")
