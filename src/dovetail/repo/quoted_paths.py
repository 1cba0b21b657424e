"""Paths in the commands that a message proposes."""

import os
import shlex
from pathlib import Path


def typed(root: Path, path: str | Path) -> str:
    """A path from the root of a repository, as it is to be typed in the current folder."""
    return shlex.quote(os.path.relpath(root / path))
