"""To run git, and what to say when it fails."""

import os
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from dovetail.errors import GitFailed
from dovetail.system.disk import says_full

# Whatever the user's settings are, answers are in the form and in the encoding that they are read in.
_SETTINGS = tuple(
    part
    for setting in (
        "i18n.logOutputEncoding=UTF-8", "i18n.commitEncoding=UTF-8", "log.showSignature=false", "log.follow=false",
        "color.ui=false", "column.ui=never",
    )
    for part in ("-c", setting)
)  # fmt: skip


def run(
    root: Path, args: Sequence[str], env: Mapping[str, str], timeout: int | None, given: bytes | None = None
) -> subprocess.CompletedProcess[str]:
    """What `git ARGS`, typed in `root`, answers; `timeout` in seconds, `given` is its standard input.

    Raises:
        GitFailed: when there is no git.
        subprocess.TimeoutExpired: when it takes longer.
    """
    command = ["git", "--no-optional-locks", *_SETTINGS, *args]
    # What GIT_TRACE=1 says on standard error is no refusal.
    kept = {key: value for key, value in os.environ.items() if not key.startswith("GIT_TRACE") or value[:1] == "/"}
    with found():
        done = subprocess.run(
            command, cwd=root, env={**kept, **env}, capture_output=True, check=False, timeout=timeout, input=given
        )
    return subprocess.CompletedProcess(command, done.returncode, decode(done.stdout), decode(done.stderr))


# Where a hook or a script was at work in another repository, git would follow them there.
ELSEWHERE = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_COMMON_DIR", "GIT_OBJECT_DIRECTORY", "GIT_PREFIX")


def run_bytes(folder: Path, args: Sequence[str], env: Mapping[str, str], given: bytes | None = None) -> bytes:
    """The bytes that `git ARGS` answers in the repository around `folder` and no other; `given` is its standard input.

    Raises:
        GitFailed: when there is no git, or it refuses.
    """
    kept = {key: value for key, value in os.environ.items() if key not in ELSEWHERE}
    with found():
        done = subprocess.run(
            ["git", *args], cwd=folder, env={**kept, **env}, capture_output=True, check=False, input=given
        )
    if done.returncode:
        raise failed(next(arg for arg in args if not arg.startswith("-") and "=" not in arg), decode(done.stderr))
    return done.stdout


def decode(said: bytes) -> str:
    """Git's words as text: names and messages may be in any encoding, and are shown as far as they are UTF-8."""
    return said.decode(errors="replace")


def failed(command: str, said: str) -> GitFailed:
    """The error for what git said, on one line."""
    return GitFailed(f"git {command}: {' '.join(said.split())}", f"{look(said)}, then run the same command again")


def look(said: str) -> str:
    """What to type to see why git said so."""
    if "not a git repository" in said:
        return "git init"
    return "df -h ." if says_full(said) else "git fsck"


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
