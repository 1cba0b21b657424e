"""A new Python environment, built from a lock file."""

import os
import shutil
import sys
from pathlib import Path

from dovetail.errors import BuildFailed
from dovetail.system.processes import run
from dovetail.values.environment import Environment, found_in


def build_environment(folder: Path, lock: Path, log: Path) -> tuple[Path, Environment]:
    """Build an environment of this Python with the packages that `lock` pins; returns its `python` and what is in it.

    Raises:
        BuildFailed: when a package is not available.
    """
    python = folder / "bin" / "python"
    for command in _commands(folder, python, lock):
        if run(command, folder=lock.parent, env=os.environ, output=log):
            said = " ".join(log.read_text(encoding="utf-8", errors="replace").split())[-500:]
            raise BuildFailed(
                f"no environment can be built from {lock.name}: {said}",
                "run the same command again without --fresh-env",
            )
    return python, found_in([str(place) for place in folder.glob("lib/python*/site-packages")])


def _commands(folder: Path, python: Path, lock: Path) -> list[list[str]]:
    """Those of uv, which takes seconds, where it is installed; else those of venv and pip."""
    if uv := shutil.which("uv", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])):
        return [
            [uv, "venv", "--quiet", "--no-project", "--python", sys.executable, str(folder)],
            [uv, "pip", "sync", "--quiet", "--python", str(python), str(lock)],
        ]
    return [
        [sys.executable, "-m", "venv", str(folder)],
        [str(python), "-m", "pip", "install", "--quiet", "--no-deps", "--requirement", str(lock)],
    ]
