"""Whether this machine's kernel holds the walls around a process that reads a model."""

from collections.abc import Iterator

from dovetail.repo.workspace import Workspace
from dovetail.system.sandbox import walls
from dovetail.values.finding import Finding


def missing_walls(_workspace: Workspace) -> Iterator[Finding]:
    """One warning that names the walls that are missing; nothing where all hold."""
    missing = [wall for wall in walls() if not wall.holds]
    if missing:
        yield Finding(
            "warning",
            f"models are read and asked without a wall of the kernel against: {', '.join(w.against for w in missing)}",
            f"{missing[0].by}; it stops Python code, not native code that a crafted model may reach",
            "run gates and servers on Linux 5.13 or newer, x86_64 or aarch64",
        )
