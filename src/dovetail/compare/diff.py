"""What differs between two states of a model, or between two models: data, params, code, metrics, packages."""

import math
import tempfile
from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Generic, TypeVar

from dovetail.compare.data_diff import Contents, compare_contents, data_file
from dovetail.compare.model_state import ModelState, read_states
from dovetail.gates import gate_verdict, rules
from dovetail.gates.evidence import Evidence
from dovetail.repo.workspace import WORKSPACE, Workspace
from dovetail.tracking.connection import Tracking
from dovetail.values.answer import Answer
from dovetail.values.lineage import FileRef, flatten
from dovetail.values.tag_keys import shown_name

Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True, slots=True)
class DiffRequest:
    """Which two states to compare; `a` None: the model's production, else staging."""

    a: str | None = None
    b: str = WORKSPACE


@dataclass(frozen=True, slots=True)
class DataDifference:
    """A data file whose digest differs; None: the state has no such file. `contents` None: the bytes were not read."""

    path: str
    role: str
    a: FileRef | None
    b: FileRef | None
    contents: Contents | None = None

    def as_json(self) -> dict[str, Any]:
        """The entry of `data` in the answer of `dovetail diff --json`."""
        found = self.contents
        a, b = (_ref_json(self.a), _ref_json(self.b))
        if found:
            a = a and {**a, "rows": found.a_rows, "columns": found.a_columns}
            b = b and {**b, "rows": found.b_rows, "columns": found.b_columns}
        return {"path": self.path, "role": self.role, "a": a, "b": b, **(found.as_json() if found else {})}


def _ref_json(ref: FileRef | None) -> dict[str, Any] | None:
    return {"md5": ref.md5, "size": ref.size} if ref else None


@dataclass(frozen=True, slots=True)
class ValueDifference:
    """A param or a package whose value differs; None: the state has none."""

    name: str
    a: str | None
    b: str | None

    def as_json(self) -> dict[str, Any]:
        """The entry of `params` or `environment` in the answer of `dovetail diff --json`."""
        return {"name": self.name, "a": self.a, "b": self.b}


@dataclass(frozen=True, slots=True)
class CodeDifference:
    """A file of code whose digest differs, or a stage whose command does; the other of the two is None."""

    path: str | None
    stage: str | None
    a: str | None
    b: str | None

    def as_json(self) -> dict[str, Any]:
        """The entry of `code` in the answer of `dovetail diff --json`."""
        return {"path": self.path, "stage": self.stage, "a": self.a, "b": self.b}


@dataclass(frozen=True, slots=True)
class Metric:
    """A measured value and the bounds of its interval; None where it is no number (NaN, infinite) or not known."""

    value: float | None
    interval: tuple[float, float] | None


@dataclass(frozen=True, slots=True)
class MetricDifference:
    """A metric that differs; None: the state has no such metric."""

    name: str
    a: Metric | None
    b: Metric | None

    @property
    def delta(self) -> float | None:
        """`b` minus `a`; None where one has no value."""
        a, b = (metric.value if metric else None for metric in (self.a, self.b))
        return None if a is None or b is None else b - a

    @property
    def overlap(self) -> bool | None:
        """Whether the intervals overlap; None where one has none."""
        a, b = (metric.interval if metric else None for metric in (self.a, self.b))
        return max(a[0], b[0]) <= min(a[1], b[1]) if a and b else None

    def as_json(self) -> dict[str, Any]:
        """The entry of `metrics` in the answer of `dovetail diff --json`."""
        sides = {"a": self.a, "b": self.b}
        return {
            "name": self.name,
            **{side: metric.value if metric else None for side, metric in sides.items()},
            "delta": self.delta,
            "interval": {side: metric.interval if metric else None for side, metric in sides.items()},
            "overlap": self.overlap,
        }


@dataclass(frozen=True, slots=True, repr=False)
class DiffAnswer(Answer):
    """What differs from `a` to `b`.

    Attributes:
        gates: Those of `b`, evaluated on its metrics.
        same: How many of each kind are the same in both.
        notes: What has to be known to read the answer rightly.
    """

    a: ModelState
    b: ModelState
    data: tuple[DataDifference, ...]
    params: tuple[ValueDifference, ...]
    code: tuple[CodeDifference, ...]
    metrics: tuple[MetricDifference, ...]
    environment: tuple[ValueDifference, ...]
    gates: tuple[gate_verdict.Verdict, ...]
    same: Mapping[str, int]
    notes: tuple[str, ...]

    def __repr__(self) -> str:
        kinds = ("data", "params", "code", "metrics", "environment")
        found = ", ".join(f"{len(getattr(self, kind))} {kind}" for kind in kinds if getattr(self, kind))
        return f"<DiffAnswer {self.a.ref} → {self.b.ref}: {found or 'no differences'}>"

    def as_json(self) -> dict[str, Any]:
        """The answer of `dovetail diff --json`."""
        return {
            "a": self.a.as_json(),
            "b": self.b.as_json(),
            "data": [entry.as_json() for entry in self.data],
            "params": [entry.as_json() for entry in self.params],
            "code": [entry.as_json() for entry in self.code],
            "metrics": [entry.as_json() for entry in self.metrics],
            "environment": [entry.as_json() for entry in self.environment],
            "gates": [verdict.as_json() for verdict in self.gates],
            "same": dict(self.same),
            "notes": list(self.notes),
        }


def diff(workspace: Workspace, tracking: Tracking, request: DiffRequest = DiffRequest()) -> DiffAnswer:
    """Compare two states of a model, or two models, and the content of data whose digests differ.

    Of data with the same digest nothing is read.

    Raises:
        UserError: when a state is unknown or cannot be read, or a gate is malformed.
        DataUnavailable: when a metric file is in no cache and no remote.
        StoreError: when a state is MLflow's and MLflow does not answer.
    """
    a, b = read_states(workspace, tracking, request.a, request.b)
    answer = compare(a, b)
    with tempfile.TemporaryDirectory(dir=workspace.scratch) as folder:

        def read(entry: DataDifference) -> DataDifference:
            first = data_file(entry.a, a.commit, a.lineage)
            second = data_file(entry.b, b.commit, b.lineage)
            return replace(entry, contents=compare_contents(workspace, Path(folder), first, second))

        return replace(answer, data=tuple(map(read, answer.data)))


def compare(a: ModelState, b: ModelState) -> DiffAnswer:
    """What differs, by the two states alone: of data digests and sizes, without a look into the bytes.

    Only differences are listed; `same` counts the rest. The gates are those of `b`, evaluated on its metrics.
    """
    compared: dict[str, _Pair[Any]] = {
        "data": _Pair(_data(a), _data(b)),
        "params": _Pair(_params(a, b), _params(b, a)),
        "code": _Pair(_code(a), _code(b)),
        "metrics": _Pair(_metrics(a), _metrics(b)),
        "environment": _Pair(_packages(a, b), _packages(b, a)),
    }
    return DiffAnswer(
        a=a,
        b=b,
        data=tuple(_data_difference(path, a, b) for path, *_ in compared["data"]),
        params=tuple(ValueDifference(*entry) for entry in compared["params"]),
        code=tuple(CodeDifference(*key, *values) for key, *values in compared["code"]),
        metrics=tuple(MetricDifference(*entry) for entry in compared["metrics"]),
        environment=tuple(ValueDifference(*entry) for entry in compared["environment"]),
        gates=tuple(_verdicts(b)),
        same={kind: pair.same for kind, pair in compared.items()},
        notes=tuple(_notes(a, b)),
    )


@dataclass(frozen=True, slots=True)
class _Pair(Generic[Key]):
    """What each state has by a name; iterated over, (name, value in a, value in b) where the values differ."""

    a: Mapping[Key, Any]
    b: Mapping[Key, Any]

    @property
    def same(self) -> int:
        return sum(key in self.b and self.a[key] == self.b[key] for key in self.a)

    def __iter__(self) -> Iterator[tuple[Key, Any, Any]]:
        """In the order of `a`, then of `b`."""
        pairs = ((key, self.a.get(key), self.b.get(key)) for key in dict.fromkeys([*self.a, *self.b]))
        return (pair for pair in pairs if pair[1] != pair[2])


def _refs(state: ModelState) -> dict[str, tuple[FileRef, str]]:
    """The data files by path, with their roles."""
    # A pipeline that was run in part knows a file in two states: the one that the model was trained on counts.
    ordered = sorted(state.lineage.data.items(), key=lambda item: item[1] == "training")
    found = {ref.path: (ref, role) for ref, role in ordered}
    return {ref.path: found[ref.path] for ref in state.lineage.data}


def _data(state: ModelState) -> dict[str, str]:
    return {path: ref.md5 for path, (ref, _) in _refs(state).items()}


def _data_difference(path: str, a: ModelState, b: ModelState) -> DataDifference:
    (first, role_a), (second, role_b) = (_refs(state).get(path, (None, "")) for state in (a, b))
    return DataDifference(path, role_b or role_a, first, second)


def _params(state: ModelState, other: ModelState) -> dict[str, str]:
    """The params that had a say in the model, and those that judge it: a gate that moved is to be seen."""
    if state.gates is None or other.gates is None:
        return state.lineage.params
    return state.lineage.params | dict(flatten(state.gates, "gates"))


def _code(state: ModelState) -> dict[tuple[str | None, str | None], str]:
    """Digests of files and commands of stages, by (path, None) and (None, stage)."""
    files: dict[tuple[str | None, str | None], str] = {
        (path, None): md5 for path, md5 in state.lineage.programs.items()
    }
    return files | {(None, stage.name): stage.cmd for stage in state.lineage.stages}


def _metrics(state: ModelState) -> dict[str, Metric]:
    """The metrics with their intervals; a bound, `<metric>_low` or `<metric>_high`, is no metric of its own."""
    values = {name: value if math.isfinite(value) else None for name, value in state.metrics.items()}
    found = {}
    for name, value in values.items():
        low, high = values.get(f"{name}_low"), values.get(f"{name}_high")
        found[name] = Metric(value, None if low is None or high is None else (low, high))
    bounds = {f"{name}_{end}" for name, metric in found.items() if metric.interval for end in ("low", "high")}
    return {name: metric for name, metric in found.items() if name not in bounds}


def _packages(state: ModelState, other: ModelState) -> dict[str, str]:
    """The packages' versions, and Python's; none where one state knows none.

    A workspace and its runs say what was installed, a commit what it pins: of the one only what the other pins differs.
    """
    here, there = state.environment, other.environment
    if here is None or there is None:
        return {}
    if here.python and there.python:
        return {"python": here.python, **here.packages, **(here.computing if there.computing else {})}
    pins = there.packages if here.python else here.packages
    return {name: version for name, version in here.packages.items() if name in pins}


def _verdicts(state: ModelState) -> list[gate_verdict.Verdict]:
    """The gates that numbers answer, as `register` asks them; the others are asked by `promote`."""
    gates = {shown_name(name): gate for name, gate in (state.gates or {}).items()}
    return rules.evaluate(gates, Evidence(state.metrics, has_signature=state.has_card))


def _notes(a: ModelState, b: ModelState) -> Iterator[str]:
    """What has to be known to read the answer rightly."""
    if a.lineage.model != b.lineage.model:
        yield f"two models are compared: {a.lineage.model} and {b.lineage.model}"
    for state in (a, b):
        if state.environment is None:
            yield f"{state.ref} does not say which packages it had: packages are not compared"
        for stage, path in state.lineage.outdated:
            yield f"{state.ref}: {stage} read {path} before it was last made: dvc repro {stage}"
