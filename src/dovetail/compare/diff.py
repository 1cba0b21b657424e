"""What differs between two sides: two states of a model, or two models. Data, params, code, metrics, packages."""

import math
import tempfile
from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from dovetail.compare.data_diff import Kept, compare_contents
from dovetail.compare.model_state import Side, sides
from dovetail.gates.evidence import Evidence
from dovetail.gates.rules import Verdict, evaluate
from dovetail.repo.workspace import WORKSPACE, Workspace
from dovetail.values.lineage import FileRef, flatten
from dovetail.values.tag_keys import shown_name

Key = TypeVar("Key", bound=Hashable)


def diff(workspace: Workspace, a: str | None, b: str = WORKSPACE) -> dict[str, Any]:
    """The answer of `dovetail diff`; `a` None: the model's production, else staging.

    Of data with the same digest nothing is read.

    Raises:
        UserError: when a side is unknown or cannot be read, or a gate is malformed.
        DataUnavailable: when a metric file is in no cache and no remote.
        StoreError: when a side is MLflow's and MLflow does not answer.
    """
    first, second = sides(workspace, a, b)
    answer = compare(first, second)
    with tempfile.TemporaryDirectory(dir=workspace.scratch) as folder:
        for entry in answer["data"]:
            kept = (_kept(entry, "a", first), _kept(entry, "b", second))
            entry.update(compare_contents(workspace, Path(folder), *kept))
    return answer


def _kept(entry: dict[str, Any], which: str, side: Side) -> Kept | None:
    return Kept(FileRef(entry["path"], **entry[which]), side.commit) if entry[which] else None


def compare(a: Side, b: Side) -> dict[str, Any]:
    """What differs, told from the two sides alone: of data digests and sizes, without a look into the bytes.

    Only differences are listed; `same` counts the rest. The gates are those of `b`, held against its metrics.
    """
    compared: dict[str, _Both[Any]] = {
        "data": _Both(_data(a), _data(b)),
        "params": _Both(_params(a, b), _params(b, a)),
        "code": _Both(_code(a), _code(b)),
        "metrics": _Both(_metrics(a), _metrics(b)),
        "environment": _Both(_packages(a, b), _packages(b, a)),
    }
    return {
        "a": a.as_json(),
        "b": b.as_json(),
        "data": [_data_entry(path, a, b) for path in compared["data"].differing],
        "params": [{"name": name, **values} for name, values in compared["params"]],
        "code": [{"path": path, "stage": stage, **values} for (path, stage), values in compared["code"]],
        "metrics": [_metric_entry(name, **values) for name, values in compared["metrics"]],
        "environment": [{"name": name, **values} for name, values in compared["environment"]],
        "gates": [verdict.as_json() for verdict in _verdicts(b)],
        "same": {kind: both.same for kind, both in compared.items()},
        "notes": list(_notes(a, b)),
    }


@dataclass(frozen=True, slots=True)
class _Both(Generic[Key]):
    """What each side has by a name; iterated over, the names whose values differ, with both values."""

    a: Mapping[Key, Any]
    b: Mapping[Key, Any]

    @property
    def differing(self) -> list[Key]:
        """In the order of `a`, then of `b`."""
        return [key for key in dict.fromkeys([*self.a, *self.b]) if self.a.get(key) != self.b.get(key)]

    @property
    def same(self) -> int:
        return sum(key in self.b and self.a[key] == self.b[key] for key in self.a)

    def __iter__(self) -> Iterator[tuple[Key, dict[str, Any]]]:
        return ((key, {"a": self.a.get(key), "b": self.b.get(key)}) for key in self.differing)


@dataclass(frozen=True, slots=True)
class _Metric:
    """A measured value and the bounds of its interval; None where it is no number (NaN, infinite) or not known."""

    value: float | None
    interval: tuple[float, float] | None


def _refs(side: Side) -> dict[str, tuple[FileRef, str]]:
    """The data files by path, with their roles."""
    # A pipeline that was run in part knows a file in two states: the one that the model was trained on counts.
    ordered = sorted(side.lineage.data.items(), key=lambda item: item[1] == "training")
    found = {ref.path: (ref, role) for ref, role in ordered}
    return {ref.path: found[ref.path] for ref in side.lineage.data}


def _data(side: Side) -> dict[str, str]:
    return {path: ref.md5 for path, (ref, _) in _refs(side).items()}


def _data_entry(path: str, a: Side, b: Side) -> dict[str, Any]:
    (first, role_a), (second, role_b) = (_refs(side).get(path, (None, None)) for side in (a, b))
    return {
        "path": path,
        "role": role_b or role_a,
        "a": {"md5": first.md5, "size": first.size} if first else None,
        "b": {"md5": second.md5, "size": second.size} if second else None,
    }


def _params(side: Side, other: Side) -> dict[str, str]:
    """The params that had a say in the model, and those that judge it: a gate that moved is to be seen."""
    if side.gates is None or other.gates is None:
        return side.lineage.params
    return side.lineage.params | dict(flatten(side.gates, "gates"))


def _code(side: Side) -> dict[tuple[str | None, str | None], str]:
    """Digests of files and commands of stages, by (path, None) and (None, stage)."""
    files: dict[tuple[str | None, str | None], str] = {(path, None): md5 for path, md5 in side.lineage.programs.items()}
    return files | {(None, stage.name): stage.cmd for stage in side.lineage.stages}


def _metrics(side: Side) -> dict[str, _Metric]:
    """The metrics with their intervals; a bound, `<metric>_low` or `<metric>_high`, is no metric of its own."""
    values = {name: value if math.isfinite(value) else None for name, value in side.metrics.items()}
    found = {}
    for name, value in values.items():
        low, high = values.get(f"{name}_low"), values.get(f"{name}_high")
        found[name] = _Metric(value, None if low is None or high is None else (low, high))
    bounds = {f"{name}_{end}" for name, metric in found.items() if metric.interval for end in ("low", "high")}
    return {name: metric for name, metric in found.items() if name not in bounds}


def _metric_entry(name: str, a: _Metric | None, b: _Metric | None) -> dict[str, Any]:
    value_a, value_b = (metric.value if metric else None for metric in (a, b))
    first, second = (metric.interval if metric else None for metric in (a, b))
    return {
        "name": name,
        "a": value_a,
        "b": value_b,
        "delta": None if value_a is None or value_b is None else value_b - value_a,
        "interval": {"a": first, "b": second},
        "overlap": max(first[0], second[0]) <= min(first[1], second[1]) if first and second else None,
    }


def _packages(side: Side, other: Side) -> dict[str, str]:
    """The packages' versions, and Python's; none where one side knows nothing.

    A workspace and its runs say what was installed, Python included; a commit says what it pins. Of an installed side
    only what the other one pins can differ.
    """
    here, there = side.environment, other.environment
    if here is None or there is None:
        return {}
    if here.python and there.python:
        return {"python": here.python, **here.packages}
    pins = there.packages if here.python else here.packages
    return {name: version for name, version in here.packages.items() if name in pins}


def _verdicts(side: Side) -> list[Verdict]:
    """The gates that numbers answer, as `register` asks them; the others are asked by `promote`."""
    gates = {shown_name(name): gate for name, gate in (side.gates or {}).items()}
    return evaluate(gates, Evidence(side.metrics, has_signature=side.has_card))


def _notes(a: Side, b: Side) -> Iterator[str]:
    """What has to be known to read the answer rightly."""
    if a.lineage.model != b.lineage.model:
        yield f"two models are compared: {a.lineage.model} and {b.lineage.model}"
    for side in (a, b):
        if side.environment is None:
            yield f"{side.ref} does not say which packages it had: packages are not compared"
        for stage, path in side.lineage.outdated:
            yield f"{side.ref}: {stage} read {path} before it was last made: dvc repro {stage}"
