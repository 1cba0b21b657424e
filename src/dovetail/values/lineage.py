"""What made what, as pure values: the records of dvc.lock, the part of them upstream of a model, its fingerprint."""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

PARAMS_FILE = "params.yaml"  # DVC's default: its params are named by their keys alone
_PARAMS_SUFFIXES = (".yaml", ".yml", ".json", ".toml", ".py")
# What a program reads, as opposed to data it works on: a leaf of the graph that is not DVC's own and ends so is code.
CODE_SUFFIXES = frozenset(
    {".py", ".ipynb", ".r", ".jl", ".sh", ".sql", ".js", ".toml", ".lock", ".yaml", ".yml", ".cfg", ".ini", ".md"}
)


@dataclass(frozen=True, slots=True)
class FileRef:
    """A file or folder with the digest that DVC gave it; `path` is relative to the repository's root.

    Attributes:
        by_dvc_2: Whether DVC 2 digested it, which took the line ends of text files as Unix has them.
    """

    path: str
    md5: str
    size: int | None = None
    by_dvc_2: bool = field(default=False, compare=False)

    @property
    def is_code(self) -> bool:
        """Whether the path's ending says that this is code or configuration."""
        return PurePosixPath(self.path).suffix.lower() in CODE_SUFFIXES

    @property
    def is_folder(self) -> bool:
        """Whether the digest is that of a folder: of DVC's listing of it."""
        return self.md5.endswith(".dir")

    def as_json(self) -> dict[str, Any]:
        """The file as lineage.json and `--json` give it."""
        return {"path": self.path, "md5": self.md5, "size": self.size}

    def overlaps(self, path: str) -> bool:
        """Whether `path` is this file, lies in this folder, or is a folder that holds it."""
        return self.path == path or path.startswith(f"{self.path}/") or self.path.startswith(f"{path}/")


@dataclass(frozen=True, slots=True)
class StageRecord:
    """One stage as dvc.lock records it: which command made which bytes out of which bytes and params."""

    name: str
    cmd: str
    deps: tuple[FileRef, ...]
    params: Mapping[str, Any]
    outs: tuple[FileRef, ...]

    def makes(self, path: str) -> bool:
        """Whether one of the outs is `path`, holds it or lies in it."""
        return any(out.overlaps(path) for out in self.outs)

    @property
    def inputs(self) -> str:
        """The sha256 of all that is known before the stage runs: of its name, its command, its deps and its params."""
        content = {"name": self.name, **self.as_json(), "outs": None}
        return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()

    def as_json(self) -> dict[str, Any]:
        """What the fingerprint covers: no sizes, no order of writing."""
        return {
            "cmd": self.cmd,
            "deps": {dep.path: dep.md5 for dep in self.deps},
            "params": self.params,
            "outs": {out.path: out.md5 for out in self.outs},
        }


@dataclass(frozen=True, slots=True)
class Lineage:
    """A model's bytes and everything upstream of its registration, sources first."""

    model: str
    artifact: FileRef
    stages: tuple[StageRecord, ...]
    reports: frozenset[str] = frozenset()  # paths of metrics and plots: results about data, not data
    evidence: tuple[FileRef, ...] = ()  # metric files that the register stage reads and no stage made
    code: frozenset[str] = frozenset()  # folders of code: their names do not say it
    origins: Mapping[str, str] = field(default_factory=dict)  # where imported data came from, by path
    folder: FileRef | None = None  # the one that DVC keeps the artifact in, where it does not keep it by itself

    @property
    def kept(self) -> FileRef:
        """What dvc.lock or a .dvc file names: the artifact, or the folder with it."""
        return self.folder or self.artifact

    @property
    def fingerprint(self) -> str:
        """The sha256 of the canonical JSON of the stages' records and of the model's own digest."""
        content: dict[str, Any] = {
            "artifact": self.artifact.md5,
            "stages": {s.name: s.as_json() for s in self.stages},
        }
        if self.evidence:
            content["evidence"] = {ref.path: ref.md5 for ref in self.evidence}
        return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()

    @property
    def maker(self) -> StageRecord | None:
        """The stage that made the artifact, if one did."""
        return next((stage for stage in self.stages if stage.makes(self.artifact.path)), None)

    @property
    def params(self) -> dict[str, str]:
        """Every param that had a say, flat: `models.iris.train.params.n_estimators` → `100`.

        A key of another file than params.yaml has the file in front where two files have it: `sub/params.yaml:lr`.
        """
        return named((*_split(key), value) for stage in self.stages for key, value in flatten(stage.params))

    def as_json(self) -> dict[str, Any]:
        """All of it, sizes included; `from_json` is the inverse."""
        return {
            "model": self.model,
            "artifact": self.artifact.as_json(),
            "stages": [
                {
                    "name": stage.name,
                    "cmd": stage.cmd,
                    "deps": [ref.as_json() for ref in stage.deps],
                    "params": dict(stage.params),
                    "outs": [ref.as_json() for ref in stage.outs],
                }
                for stage in self.stages
            ],
            "reports": sorted(self.reports),
            "evidence": [ref.as_json() for ref in self.evidence],
            "code": sorted(self.code),
            "origins": dict(self.origins),
            "folder": self.folder.as_json() if self.folder else None,
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "Lineage":
        """The lineage that `as_json` wrote."""
        stages = (
            StageRecord(
                s["name"],
                s["cmd"],
                tuple(FileRef(**ref) for ref in s["deps"]),
                s["params"],
                tuple(FileRef(**ref) for ref in s["outs"]),
            )
            for s in content["stages"]
        )
        return cls(
            content["model"],
            FileRef(**content["artifact"]),
            tuple(stages),
            frozenset(content["reports"]),
            tuple(FileRef(**ref) for ref in content.get("evidence", ())),
            frozenset(content.get("code", ())),
            content.get("origins", {}),
            FileRef(**folder) if (folder := content.get("folder")) else None,
        )

    @property
    def data(self) -> dict[FileRef, str]:
        """Every data file that a stage here read, sources first, with its role.

        Roles: `training` (read by the stage that made the model), `evaluation` (read together with the model),
        `source` (made by no stage), `upstream` (anything in between).
        """
        roles: dict[FileRef, str] = {}
        for stage in self.stages:
            for dep in filter(self._is_data, stage.deps):
                if stage.makes(self.artifact.path):
                    roles[dep] = "training"
                elif any(other.overlaps(self.artifact.path) for other in stage.deps):
                    roles.setdefault(dep, "evaluation")
                else:
                    roles.setdefault(dep, "upstream" if any(s.makes(dep.path) for s in self.stages) else "source")
        return roles

    def is_code(self, ref: FileRef) -> bool:
        """Whether `ref` is a file or a folder of code or configuration."""
        return ref.is_code or ref.path in self.code

    def origin(self, ref: FileRef) -> str | None:
        """Where `dvc import` or `dvc import-url` took `ref` from; None where neither did."""
        return next((origin for path, origin in self.origins.items() if ref.overlaps(path)), None)

    @property
    def programs(self) -> dict[str, str]:
        """The digest of every file or folder of code that a stage here read."""
        deps = (dep for stage in self.stages for dep in stage.deps)
        return {dep.path: dep.md5 for dep in deps if self.is_code(dep) and dep.path not in self.reports}

    @property
    def outdated(self) -> list[tuple[str, str]]:
        """Each stage that read a file before that was last made, with the file: a pipeline that was run in part."""
        made = {out.path: out.md5 for stage in self.stages for out in stage.outs}
        deps = ((stage.name, dep) for stage in self.stages for dep in stage.deps)
        return [(name, dep.path) for name, dep in deps if made.get(dep.path, dep.md5) != dep.md5]

    def _is_data(self, ref: FileRef) -> bool:
        is_report = any(ref.path == report or ref.path.startswith(f"{report}/") for report in self.reports)
        return not self.is_code(ref) and not is_report and not ref.overlaps(self.artifact.path)


def flatten(value: Any, prefix: str = "") -> Iterator[tuple[str, str]]:
    """The leaves of nested mappings as (dotted key, text); a list is a leaf, written as JSON."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from flatten(inner, f"{prefix}.{key}" if prefix else str(key))
    else:
        yield prefix, value if isinstance(value, str) else json.dumps(value, sort_keys=True, default=str)


def named(entries: Iterable[tuple[str, str, Any]]) -> dict[str, Any]:
    """Values of (file, key, value) by key; by `file:key` where several files have the key, but the nameless file."""
    entries = list(entries)
    files = Counter(key for _, key in {(file, key) for file, key, _ in entries})
    return {key if files[key] == 1 or not file else f"{file}:{key}": value for file, key, value in entries}


def _split(param: str) -> tuple[str, str]:
    """The file and the key of a param; the file is empty for the root's params.yaml."""
    file, colon, key = param.partition(":")
    return (file, key) if colon and PurePosixPath(file).suffix in _PARAMS_SUFFIXES else ("", param)


def closure(stages: Mapping[str, StageRecord], targets: Iterable[str]) -> tuple[StageRecord, ...]:
    """The stages that `targets` (paths) were made by, directly or not, each after the stages that it needs."""
    ordered: list[StageRecord] = []
    seen: set[str] = set()

    def visit(path: str) -> None:
        for stage in stages.values():
            if stage.name not in seen and stage.makes(path):
                seen.add(stage.name)
                for dep in stage.deps:
                    visit(dep.path)
                ordered.append(stage)

    for target in targets:
        visit(target)
    return tuple(ordered)
