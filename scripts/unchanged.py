"""Whether the pipeline made what git records: exit code 1 with each digest that differs, and why, if that is known.

What git records is what `reproducible: true` makes on x86-64 with AVX2. Called by `make unchanged`, after `make repro`.
"""

import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from dovetail.values import computing

LOCK = "dvc.lock"
# What computed the recorded digests: src/stages/common/reproducible.py fixes it.
RECORDED = {computing.MACHINE: "x86_64", computing.BLAS_KERNEL: "Haswell"}


def main() -> int:
    """Compare the working tree with git; prints what differs."""
    changed = git("diff", "--name-only").splitlines()
    if not changed:
        return 0
    if LOCK in changed:
        made = yaml.safe_load(Path(LOCK).read_text(encoding="utf-8"))
        for line in differing(yaml.safe_load(git("show", f":{LOCK}")), made):
            print(line)
    print(f"changed: {', '.join(changed)}; next: {advice(computing.of_machine())}")
    return 1


def differing(recorded: Mapping[str, Any], made: Mapping[str, Any]) -> Iterator[str]:
    """A line for each output that has another digest, for each stage with other inputs, and for those on one side."""
    before, after = recorded["stages"], made["stages"]
    for name in sorted({*before, *after}):
        if name not in before or name not in after:
            yield f"{name}: {'not recorded' if name not in before else 'not run'}"
            continue
        outs, others = (_digests(stages[name], "outs") for stages in (before, after))
        for path in sorted(path for path in {*outs, *others} if outs.get(path) != others.get(path)):
            yield f"{name}: {path} is {others.get(path)}, recorded is {outs.get(path)}"
        if outs == others and before[name] != after[name]:
            yield f"{name}: the same outputs of other inputs"


def advice(here: Mapping[str, str]) -> str:
    """Why it can differ on this machine, or what to do where it should not."""
    why = computing.unavailable(RECORDED, here)
    if why:
        return f"nothing, {why}"
    return (
        "make record, and commit it, if the stages, params.yaml or requirements.lock changed; else dovetail reproduce"
    )


def git(*command: str) -> str:
    """What git says."""
    return subprocess.run(["git", *command], capture_output=True, text=True, check=True).stdout


def _digests(stage: Mapping[str, Any], key: str) -> dict[str, str]:
    return {entry["path"]: entry.get("md5", "?") for entry in stage.get(key, ())}


if __name__ == "__main__":
    sys.exit(main())
