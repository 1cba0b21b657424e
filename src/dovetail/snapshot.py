"""What one tree says of its models: the working tree or a commit, with the same questions for both."""

import json
import tomllib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml

from dovetail.environment import Environment
from dovetail.errors import MissingFile, StaleLock, UnknownModel
from dovetail.lineage import FileRef, Lineage, StageRecord, closure

RECEIPTS = "mlruns/receipts"
_PARSERS: dict[str, Callable[[str], Any]] = {".json": json.loads, ".toml": tomllib.loads}  # anything else: YAML


@dataclass(frozen=True, slots=True)
class Model:
    """A model as dvc.yaml declares it; all paths are relative to the repository's root."""

    name: str
    path: str
    desc: str | None = None
    labels: tuple[str, ...] = ()
    card: str | None = None
    gates: Mapping[str, Any] = field(default_factory=dict)
    beside: tuple[str, ...] = ()  # what the register stage depends on besides: metrics, plots, the card

    @property
    def receipt(self) -> str:
        """The one out of the model's register stage."""
        return f"{RECEIPTS}/{self.name}.json"


@dataclass(frozen=True, slots=True)
class Commit:
    """A commit; `time` in seconds since the epoch, `refs` the branches and tags at it."""

    sha: str
    summary: str = ""
    author: str = ""
    time: int = 0
    refs: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """The commit as `--json` gives it."""
        return {"sha": self.sha, "summary": self.summary, "author": self.author, "time": self.time, "refs": self.refs}


@dataclass(frozen=True, slots=True)
class Tag:
    """A git tag; `commit` is what it names in the end, `time` in seconds since the epoch, both of the tag itself."""

    name: str
    commit: str
    time: int
    actor: str = ""
    message: str = ""
    annotated: bool = True


@dataclass(frozen=True, slots=True)
class Declared:
    """What dvc.yaml declares, params resolved."""

    models: Mapping[str, Model]
    metrics: frozenset[str]
    plots: frozenset[str]


class Snapshot(ABC):
    """One tree: what it declares, what its dvc.lock records, and the bytes of both.

    Attributes:
        commit: Where git stands; None before the first commit.
        dirty: Whether a tracked file differs from the commit.
        experiment: The DVC experiment that this tree belongs to, if any.
        stage: The DVC stage that is running, if any.
    """

    commit: Commit | None = None
    dirty: bool | None = None
    experiment: str | None = None
    stage: str | None = None

    @property
    @abstractmethod
    def declared(self) -> Declared:
        """What dvc.yaml declares here."""

    @property
    @abstractmethod
    def records(self) -> Mapping[str, StageRecord]:
        """Every stage that a dvc.lock of this tree records.

        Raises:
            UserError: when one cannot be read.
        """

    @abstractmethod
    def file(self, path: str) -> FileRef:
        """The file or folder that lies at `path` in this tree.

        Raises:
            MissingFile: when there is none.
        """

    @abstractmethod
    def read(self, ref: FileRef) -> bytes:
        """The bytes of the file `ref`.

        Raises:
            MissingFile: when they are not there.
            DataUnavailable: when they are in no cache and no remote.
        """

    @abstractmethod
    def materialise(self, ref: FileRef, folder: Path) -> Path:
        """Where the file or folder `ref` can be read under its own name, laid below `folder` if it is nowhere yet.

        Raises:
            MissingFile, DataUnavailable: as for `read`.
        """

    @property
    @abstractmethod
    def environment(self) -> Environment | None:
        """The packages that this tree is run with; None where it does not say."""

    @property
    @abstractmethod
    def where(self) -> str:
        """This tree in a message: "the working tree", "commit 1a2b3c4d"."""

    @property
    def time(self) -> int | None:
        """When this tree came to be, in milliseconds since the epoch; None: now."""
        return None

    def model(self, name: str) -> Model:
        """The model of that name.

        Raises:
            UnknownModel: naming the models that there are.
        """
        if name not in self.declared.models:
            known = ", ".join(self.declared.models) or "none"
            close = get_close_matches(name, self.declared.models, n=1)
            following = f"did you mean {close[0]}?" if close else "add it under `artifacts:` in dvc.yaml"
            raise UnknownModel(f"dvc.yaml of {self.where} declares no model {name!r}; there are: {known}", following)
        return self.declared.models[name]

    def lineage(self, model: Model) -> Lineage:
        """What made the bytes of `model` that lie in this tree.

        Raises:
            MissingFile: when the model is not there.
            StaleLock: when the model or a file beside it is not what dvc.lock records.
        """
        artifact = self.file(model.path)
        stages = closure(self.records, [model.path, *model.beside])
        recorded = {out.path: out.md5 for stage in stages for out in stage.outs}
        for path in (model.path, *model.beside):
            if path in recorded and (actual := self.file(path).md5) != recorded[path]:
                raise StaleLock(
                    f"{path} (md5 {actual}) is not what dvc.lock records ({recorded[path]})",
                    f"dvc repro (or, to take the recorded file back: dvc checkout {path})",
                )
        return Lineage(model.name, artifact, stages, self.declared.metrics | self.declared.plots)

    def metrics(self, model: Model, lineage: Lineage) -> dict[str, float]:
        """The numbers in the metric files that the stages of `lineage` made, nested keys joined by dots.

        Those of a file that the register stage depends on keep their names; the others, which tell of the data, get
        their stage's name in front: `accuracy`, `clean.rows_in`.

        Raises:
            MissingFile: when a metric file is not there or cannot be parsed.
        """
        found: dict[str, float] = {}
        refs = [out for stage in lineage.stages for out in stage.outs if out.path in self.declared.metrics]
        own = [ref for ref in refs if ref.path in model.beside] or refs
        for ref in refs:
            maker = next(stage.name for stage in lineage.stages if stage.makes(ref.path))
            prefix = "" if ref in own else maker.rpartition(":")[2].partition("@")[0] + "."
            found |= {prefix + key: value for key, value in _numbers(self._parsed(ref))}
        return found

    def card(self, model: Model) -> dict[str, Any] | None:
        """What the pipeline says of the model without unpickling it; None where it says nothing."""
        return None if model.card is None else dict(self._parsed(self.file(model.card)))

    def plots(self, lineage: Lineage, folder: Path) -> dict[str, Path]:
        """The plots, files and folders, that the stages of `lineage` made, by their path in the repository."""
        refs = [out for stage in lineage.stages for out in stage.outs if out.path in self.declared.plots]
        return {ref.path: self.materialise(ref, folder) for ref in refs}

    def _parsed(self, ref: FileRef) -> Any:
        try:
            text = self.read(ref).decode()
            return _PARSERS.get(Path(ref.path).suffix, yaml.safe_load)(text)
        except (OSError, ValueError, yaml.YAMLError) as error:
            raise MissingFile(f"{ref.path} cannot be read: {' '.join(str(error).split())}", "dvc repro") from error


def _numbers(value: Any, prefix: str = "") -> Iterator[tuple[str, float]]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _numbers(inner, f"{prefix}{key}.")
    elif isinstance(value, int | float):
        yield prefix.removesuffix("."), float(value)
