"""Why a version cannot be rebuilt."""

from collections.abc import Sequence

from dovetail.values.environment import Environment
from dovetail.values.finding import Finding


class RebuildImpossible(Exception):
    """A version cannot be rebuilt.

    Attributes:
        missing: What it cannot be rebuilt without.
        output: The last lines of the stage that failed.
        packages: What that stage ran with; None when nothing was run.
    """

    def __init__(self, missing: Sequence[Finding], output: str = "", packages: Environment | None = None) -> None:
        super().__init__("; ".join(f"{m.what}: {m.why}" for m in missing))
        self.missing = tuple(missing)
        self.output = output
        self.packages = packages


def missing(what: str, why: str, following: str) -> Finding:
    """Something that a version cannot be rebuilt without."""
    return Finding("error", what, why, following)
