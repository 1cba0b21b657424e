"""Why a version cannot be rebuilt."""

import shlex
from collections.abc import Collection, Sequence

from dovetail.values.environment import Environment
from dovetail.values.finding import Finding
from dovetail.values.lineage import Lineage


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


def missing(what: str, why: str, next_command: str) -> Finding:
    """Something that a version cannot be rebuilt without."""
    return Finding("error", what, why, next_command)


def made_by_nothing(lineage: Lineage, frozen: Collection[str]) -> Finding | None:
    """What is missing where the model's own stage is frozen: its recorded bytes would be compared with themselves."""
    maker = lineage.maker
    if maker is None or maker.name not in frozen:
        return None
    why = f"its stage {maker.name} is frozen at that commit, so that nothing makes it again"
    next_command = f"dvc unfreeze {shlex.quote(maker.name)} && git commit -a, then dvc repro and what it registers"
    return missing(lineage.artifact.path, why, next_command)


def not_run_by_dvc_3(sha: str, lineage: Lineage, why: str, conversion: str) -> Finding:
    """What is missing where DVC 1 wrote the commit: one that DVC 3 reads, on a branch of its own."""
    commit, branch = sha[:8], f"dvc3-{sha[:8]}"
    next_command = f"git switch -qc {branch} {commit} && {conversion} && git commit -qam 'For DVC 3' && git switch -q -"
    next_command += f" && dovetail reproduce {branch}:{lineage.model}"
    if any(stage.name.endswith(".dvc") for stage in lineage.stages):  # no dvc.lock, and nothing to write it from
        commands = " && ".join(stage.cmd for stage in lineage.stages)
        next_command = f"by hand: git worktree add ../{branch} {commit}, and there: {commands}"
    return missing(f"what DVC 3 can run of commit {commit}", why, next_command)
