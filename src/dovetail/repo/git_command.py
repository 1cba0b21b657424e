"""To run git, and what to say when it fails."""

import os
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from dovetail.errors import GitFailed


def run(
    root: Path, args: Sequence[str], env: Mapping[str, str], timeout: int | None
) -> subprocess.CompletedProcess[str]:
    """What `git ARGS`, typed in `root`, answers; `timeout` in seconds.

    Raises:
        GitFailed: when there is no git.
        subprocess.TimeoutExpired: when it takes longer.
    """
    command = ["git", "--no-optional-locks", *args]
    with found():
        return subprocess.run(
            command, cwd=root, env={**os.environ, **env}, capture_output=True, text=True, check=False, timeout=timeout
        )


def failed(command: str, said: str) -> GitFailed:
    """The error for what git said, on one line."""
    return GitFailed(f"git {command}: {' '.join(said.split())}", "git fsck, then the same again")


@contextmanager
def found() -> Iterator[None]:
    """Translate that there is no git.

    Raises:
        GitFailed: when it cannot be started.
    """
    try:
        yield
    except OSError as error:
        raise GitFailed(f"git cannot be run: {error}", "install git, or put it on the PATH: git --version") from error
