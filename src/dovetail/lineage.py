"""What made what, as pure values: the records of dvc.lock, the part of them upstream of a model, its fingerprint."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import yaml

# What a program reads, as opposed to data it works on: a leaf of the graph that is not DVC's own and ends so is code.
CODE_SUFFIXES = frozenset(
    {".py", ".ipynb", ".r", ".jl", ".sh", ".sql", ".js", ".toml", ".lock", ".yaml", ".yml", ".cfg", ".ini", ".md"}
)


@dataclass(frozen=True, slots=True)
class FileRef:
    """A file or folder with the digest that DVC gave it; `path` is relative to the repository's root."""

    path: str
    md5: str
    size: int | None = None

    @property
    def is_code(self) -> bool:
        """Whether the path's ending says that this is code or configuration."""
        return PurePosixPath(self.path).suffix.lower() in CODE_SUFFIXES

    @property
    def is_folder(self) -> bool:
        """Whether the digest is that of a folder: of DVC's listing of it."""
        return self.md5.endswith(".dir")

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

    @property
    def fingerprint(self) -> str:
        """The sha256 of the canonical JSON of the stages' records and of the model's own digest."""
        content = {"artifact": self.artifact.md5, "stages": {s.name: s.as_json() for s in self.stages}}
        return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()

    @property
    def params(self) -> dict[str, str]:
        """Every param that had a say, flat: `models.iris.params.n_estimators` → `100`."""
        return {key: value for stage in self.stages for key, value in flatten(stage.params)}

    def as_json(self) -> dict[str, Any]:
        """All of it, sizes included; `from_json` is the inverse."""
        return {
            "model": self.model,
            "artifact": _ref_json(self.artifact),
            "stages": [
                {
                    "name": stage.name,
                    "cmd": stage.cmd,
                    "deps": [_ref_json(ref) for ref in stage.deps],
                    "params": dict(stage.params),
                    "outs": [_ref_json(ref) for ref in stage.outs],
                }
                for stage in self.stages
            ],
            "reports": sorted(self.reports),
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
        return cls(content["model"], FileRef(**content["artifact"]), tuple(stages), frozenset(content["reports"]))

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
                elif any(other.path == self.artifact.path for other in stage.deps):
                    roles.setdefault(dep, "evaluation")
                else:
                    roles.setdefault(dep, "upstream" if any(s.makes(dep.path) for s in self.stages) else "source")
        return roles

    @property
    def code(self) -> dict[str, str]:
        """The digest of every file of code that a stage here read."""
        deps = (dep for stage in self.stages for dep in stage.deps)
        return {dep.path: dep.md5 for dep in deps if dep.is_code and dep.path not in self.reports}

    @property
    def outdated(self) -> list[tuple[str, str]]:
        """Each stage that read a file before that was last made, with the file: a pipeline that was run in part."""
        made = {out.path: out.md5 for stage in self.stages for out in stage.outs}
        deps = ((stage.name, dep) for stage in self.stages for dep in stage.deps)
        return [(name, dep.path) for name, dep in deps if made.get(dep.path, dep.md5) != dep.md5]

    def _is_data(self, ref: FileRef) -> bool:
        return not ref.is_code and ref.path not in self.reports and ref.path != self.artifact.path


def _ref_json(ref: FileRef) -> dict[str, Any]:
    return {"path": ref.path, "md5": ref.md5, "size": ref.size}


def flatten(value: Any, prefix: str = "") -> Iterator[tuple[str, str]]:
    """The leaves of nested mappings as (dotted key, text); a list is a leaf, written as JSON."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from flatten(inner, f"{prefix}.{key}" if prefix else str(key))
    else:
        yield prefix, value if isinstance(value, str) else json.dumps(value, sort_keys=True, default=str)


def parse_lock(text: str, folder: str = "") -> dict[str, StageRecord]:
    """The stages of a dvc.lock, by name; `folder` is where it stands, relative to the repository's root.

    Raises:
        ValueError: when the text is not a dvc.lock of schema 2.0, conflict markers included.
    """
    try:
        content = yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)) or {}  # noqa: S506  (both safe)
        return {
            _address(folder, name): _stage(folder, name, entry) for name, entry in content.get("stages", {}).items()
        }
    except (yaml.YAMLError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(" ".join(str(error).split())) from error


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


def _address(folder: str, name: str) -> str:
    return f"{folder}/dvc.yaml:{name}" if folder else name


def _stage(folder: str, name: str, entry: Mapping[str, Any]) -> StageRecord:
    cmd = entry["cmd"]
    return StageRecord(
        name=_address(folder, name),
        cmd=cmd if isinstance(cmd, str) else "\n".join(cmd),
        deps=_refs(folder, entry.get("deps")),
        params={k: v for values in (entry.get("params") or {}).values() for k, v in values.items()},
        outs=_refs(folder, entry.get("outs")),
    )


def _refs(folder: str, entries: Iterable[Mapping[str, Any]] | None) -> tuple[FileRef, ...]:
    # An uncached file that never had bytes to hash (a missing digest) cannot stand for content.
    return tuple(
        FileRef(_join(folder, e["path"]), e["md5"], e.get("size")) for e in entries or () if e.get("md5") is not None
    )


def _join(folder: str, path: str) -> str:
    parts: list[str] = []
    for part in PurePosixPath(folder, path).parts:
        if part == ".." and parts and parts[-1] != "..":
            parts.pop()
        else:
            parts.append(part)
    return "/".join(parts)
