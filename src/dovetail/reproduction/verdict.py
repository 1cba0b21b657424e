"""What a rebuilt model says beside the recorded one: the verdict, and what most likely made the difference. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dovetail.values.environment import Change

IDENTICAL, SAME_METRICS, DIFFERENT, IMPOSSIBLE = "identical", "same-metrics", "different", "impossible"
REPRODUCED = frozenset({IDENTICAL, SAME_METRICS})


@dataclass(frozen=True, slots=True)
class Output:
    """One output of a stage: the digest that was recorded and the one that came out; None: there is none."""

    stage: str
    path: str
    expected: str | None
    actual: str | None

    @property
    def identical(self) -> bool:
        """Whether the very bytes came out."""
        return self.expected == self.actual

    def as_json(self) -> dict[str, Any]:
        """The output as `--json` gives it."""
        return {
            "path": self.path,
            "stage": self.stage,
            "expected": self.expected,
            "actual": self.actual,
            "identical": self.identical,
        }


@dataclass(frozen=True, slots=True)
class Cause:
    """What most likely made the difference, and what to do about it."""

    kind: str
    detail: str
    next: str


def verdict(outputs: Sequence[Output], expected: Mapping[str, float] | None, actual: Mapping[str, float] | None) -> str:
    """`identical` if every byte is; `same-metrics` if every metric is, to the last digit, and there are metrics."""
    if all(output.identical for output in outputs):
        return IDENTICAL
    return SAME_METRICS if expected and actual and not changed_metrics(expected, actual) else DIFFERENT


def changed_metrics(expected: Mapping[str, float], actual: Mapping[str, float]) -> list[dict[str, Any]]:
    """The metrics whose numbers are not equal; a NaN is equal to a NaN."""
    pairs = {name: (expected.get(name), actual.get(name)) for name in sorted({*expected, *actual})}
    changed = {name: pair for name, pair in pairs.items() if repr(pair[0]) != repr(pair[1])}
    return [{"name": name, "expected": old, "actual": new} for name, (old, new) in changed.items()]


def cause(
    stage: str,
    *,
    inputs: Sequence[Mapping[str, Any]],
    repeats: bool,
    packages: Sequence[Change] | None,
    fresh_env: bool,
) -> Cause:
    """Why `stage`, the first whose output differs, made something else.

    `inputs` are the recorded inputs of the stage that are not what it now read, `repeats` is whether it makes the same
    bytes twice, `packages` what changed in the environment (None: not recorded), `fresh_env` whether that was built
    from the lock file.
    """
    if inputs:
        detail = "; ".join(f"{i['path']} was {i['expected']}, the commit has {i['actual']}" for i in inputs)
        return Cause("changed input", detail, "commit the code and the params together with the dvc.lock they made")
    if not repeats:
        detail = f"{stage} makes other bytes each time it runs"
        return Cause("nondeterminism", detail, f"set every seed that {stage} uses, then: dvc repro -fs {stage}")
    if packages:
        following = "pin what changed in requirements.lock" if fresh_env else "the same again with --fresh-env"
        return Cause("environment", describe(packages), following)
    known = (
        "its recorded inputs and packages are the same" if packages is not None else "its recorded inputs are the same"
    )
    return Cause(
        "undeclared input",
        f"{stage} makes the same bytes twice and {known}: it depends on something that is not recorded, "
        "such as a file, a variable of the environment or the machine",
        f"declare it under deps or params of {stage} in dvc.yaml, then: dvc repro {stage}",
    )


def describe(packages: Sequence[Change]) -> str:
    """`numpy 2.1 → 2.2, joblib 1.5 → none`."""
    return ", ".join(f"{c.name} {c.expected or 'none'} → {c.actual or 'none'}" for c in packages)
