"""A rebuilt model compared with the recorded one: the verdict, and what most likely made the difference. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from dovetail.reproduction.by_value import Sameness
from dovetail.values.environment import Change, Environment, changes

IDENTICAL, IDENTICAL_MODEL, SAME_PREDICTIONS = "identical", "identical-model", "same-predictions"
SAME_METRICS, DIFFERENT, IMPOSSIBLE = "same-metrics", "different", "impossible"
REPRODUCED = frozenset({IDENTICAL, IDENTICAL_MODEL, SAME_PREDICTIONS, SAME_METRICS})


@dataclass(frozen=True, slots=True)
class Output:
    """One output of a stage: the recorded digest and that of the rebuilt output; None where there is none.

    `same_value` says of a model or a table with other bytes whether it is the same one; None where that is not known.
    """

    stage: str
    path: str
    expected: str | None
    actual: str | None
    same_value: bool | None = None

    @property
    def identical(self) -> bool:
        """Whether the bytes are the same."""
        return self.expected == self.actual

    def as_json(self) -> dict[str, Any]:
        """The output as `--json` gives it."""
        return {
            "path": self.path,
            "stage": self.stage,
            "expected": self.expected,
            "actual": self.actual,
            "identical": self.identical,
            "same_value": self.same_value,
        }


@dataclass(frozen=True, slots=True)
class ChangedInput:
    """A dependency or param that a stage read and that differs from what dvc.lock records."""

    stage: str
    path: str
    expected: Any
    actual: Any


@dataclass(frozen=True, slots=True)
class ChangedMetric:
    """A metric with another value; None where there is none."""

    name: str
    expected: float | None
    actual: float | None


@dataclass(frozen=True, slots=True)
class Cause:
    """What most likely made the difference, and what to do about it."""

    kind: str
    detail: str
    next: str


@dataclass(frozen=True, slots=True)
class RebuildResult:
    """What a rebuild made.

    Attributes:
        first: The first output that differs; in a folder, the first file.
        cause: What most likely made the difference.
        inputs: What the stages read that differs from what dvc.lock records.
        metrics: Those that changed; None where the recorded ones are not available.
        packages: What it was rebuilt with.
        seconds: How long each stage took.
        frozen: The stages that are frozen: their recorded outputs were used.
        settings: The variables under which this machine computed as it was recorded; None: unset.
        unavailable: Why it cannot, and what follows; empty where it can, and where nothing differs.
    """

    verdict: str
    outputs: tuple[Output, ...]
    first: Output | None
    cause: Cause | None
    inputs: tuple[ChangedInput, ...]
    metrics: tuple[ChangedMetric, ...] | None
    packages: Environment
    seconds: Mapping[str, float]
    frozen: tuple[str, ...]
    settings: Mapping[str, str | None] = field(default_factory=dict)
    unavailable: str = ""

    def as_json(self) -> dict[str, Any]:
        """What `dovetail reproduce --json` says of it."""
        metrics = None if self.metrics is None else [asdict(metric) for metric in self.metrics]
        return {
            "verdict": self.verdict,
            "outputs": [output.as_json() for output in self.outputs],
            "first_difference": self.first.as_json() if self.first else None,
            "cause": asdict(self.cause) if self.cause else None,
            "inputs": [asdict(changed) for changed in self.inputs],
            "metrics": None if metrics is None else {"identical": not metrics, "changed": metrics},
            "stages": [{"name": name, "seconds": round(seconds, 3)} for name, seconds in self.seconds.items()],
            "frozen": list(self.frozen),
            "settings": dict(self.settings),
            "unavailable": self.unavailable,
        }


@dataclass(frozen=True, slots=True)
class EnvironmentComparison:
    """The environment of a rebuild compared with the recorded one.

    Attributes:
        identical: None where nothing was run or nothing is recorded.
        changed: The packages that differ.
        unpinned: Packages that a fresh environment lacks because the lock file does not pin them.
        md5: The digest of the rebuild's environment.
        fresh: Whether it was built from the lock file.
    """

    identical: bool | None
    changed: tuple[Change, ...]
    unpinned: tuple[str, ...]
    md5: str | None
    fresh: bool

    def as_json(self) -> dict[str, Any]:
        """The comparison as `--json` gives it."""
        return {
            "identical": self.identical,
            "changed": [asdict(change) for change in self.changed],
            "unpinned": list(self.unpinned),
            "md5": self.md5,
            "fresh": self.fresh,
        }


def verdict(
    outputs: Sequence[Output],
    model: Sameness,
    expected: Mapping[str, float] | None,
    actual: Mapping[str, float] | None,
) -> str:
    """The strongest word that holds; each but `different` says that no metric is known to have changed.

    `identical`: every byte is. `identical-model`: the model is the same one, whatever its bytes. `same-predictions`: it
    predicts the same on its test set, to the last bit. `same-metrics`: every metric is the same, to its last digit, and
    there are metrics.
    """
    if all(output.identical for output in outputs):
        return IDENTICAL
    if expected is not None and actual is not None and changed_metrics(expected, actual):
        return DIFFERENT
    if model.value:
        return IDENTICAL_MODEL
    if model.predictions:
        return SAME_PREDICTIONS
    return SAME_METRICS if expected and actual else DIFFERENT


def changed_metrics(expected: Mapping[str, float], actual: Mapping[str, float]) -> tuple[ChangedMetric, ...]:
    """The metrics whose numbers are not equal; a NaN is equal to a NaN."""
    pairs = {name: (expected.get(name), actual.get(name)) for name in sorted({*expected, *actual})}
    changed = {name: pair for name, pair in pairs.items() if repr(pair[0]) != repr(pair[1])}
    return tuple(ChangedMetric(name, old, new) for name, (old, new) in changed.items())


def cause(
    stage: str,
    *,
    inputs: Sequence[ChangedInput],
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
        detail = "; ".join(f"{i.path} was {i.expected}, the commit has {i.actual}" for i in inputs)
        return Cause("changed input", detail, "commit the code and the params together with the dvc.lock they made")
    if not repeats:
        detail = f"{stage} makes other bytes each time it runs"
        return Cause("nondeterminism", detail, f"set every seed that {stage} uses, then: dvc repro -fs {stage}")
    if packages:
        next_command = (
            "pin what changed in requirements.lock" if fresh_env else "run the same command again with --fresh-env"
        )
        return Cause("environment", describe(packages), next_command)
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


def compare_environments(
    expected: Environment | None, actual: Environment | None, *, fresh: bool
) -> EnvironmentComparison:
    """The recorded environment and that of the rebuild, `fresh` if it was built from the lock file."""
    found = changes(expected, actual) if expected and actual else ()
    # A lock file brings what it pins: installers, and the project's own package, are not in it.
    unpinned = tuple(change.name for change in found if fresh and change.actual is None)
    changed = tuple(change for change in found if change.name not in unpinned)
    identical = not changed if expected and actual else None
    return EnvironmentComparison(identical, changed, unpinned, actual.md5 if actual else None, fresh)
