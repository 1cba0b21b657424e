"""What dvc.yaml and .dvc files declare, as plain values; all paths are relative to the repository's root."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

RECEIPTS = "mlruns/receipts"


@dataclass(frozen=True, slots=True)
class Model:
    """A model as dvc.yaml declares it; all paths are relative to the repository's root.

    Attributes:
        name: What MLflow's registry calls it.
        artifact: What dvc.yaml calls it, where that is another name.
    """

    name: str
    path: str
    folder: str = ""  # of the dvc.yaml whose `artifacts:` has it
    desc: str | None = None
    labels: tuple[str, ...] = ()
    card: str | None = None
    gates: Mapping[str, Any] = field(default_factory=dict)
    retrain: Mapping[str, Any] = field(default_factory=dict)  # which table new rows go to, and how
    serving: Mapping[str, Any] = field(default_factory=dict)  # how `dovetail serve` is to answer
    tables: tuple[str, ...] = ()  # results that are small tables, which MLflow is to show as such
    register_deps: tuple[str, ...] = ()  # what its register stage depends on: metrics, plots, the card
    artifact: str = ""

    @property
    def declared_name(self) -> str:
        """What dvc.yaml, DVC and the tags in git call it."""
        return self.artifact or self.name

    @property
    def receipt(self) -> str:
        """The one out of the model's register stage."""
        return f"{RECEIPTS}/{self.name}.json"


@dataclass(frozen=True, slots=True)
class Declared:
    """What dvc.yaml declares, params resolved."""

    models: Mapping[str, Model]
    metrics: frozenset[str]  # paths of files or folders, those of the top level of dvc.yaml included
    plots: frozenset[str]
    confusions: Mapping[str, tuple[str, str]] = field(default_factory=dict)  # plots of that template: their x and y
    params: frozenset[str] = frozenset()  # files of the top level of dvc.yaml: what scripts log, as dvclive does
    outs: Mapping[str, str] = field(default_factory=dict)  # path of each stage's out → the stage
    stages: frozenset[str] = frozenset()  # their addresses: dvc.lock keeps records of those that are no more
    wdirs: Mapping[str, str] = field(default_factory=dict)  # of the stages that do not run where their dvc.yaml is


@dataclass(frozen=True, slots=True)
class Out:
    """An output; `md5` is None where none is recorded, `cached` says whether DVC keeps its bytes."""

    path: str
    md5: str | None
    size: int | None
    cached: bool


@dataclass(frozen=True, slots=True)
class Stage:
    """A stage as DVC reads it from dvc.yaml, params resolved, or a .dvc file; paths are relative to the root.

    Attributes:
        name: What DVC's commands take in the current folder.
        address: Its name in the whole repository, which is that of its record in dvc.lock.
        commands: DVC runs each in a shell of its own; a .dvc file has none.
        folder: Where they run.
        frozen: Whether DVC is told not to run it.
        deps: The files that it declares, params files among them.
        outs: What it makes or, of a .dvc file, keeps.
    """

    name: str
    address: str
    commands: tuple[str, ...]
    folder: str
    frozen: bool
    deps: tuple[str, ...]
    outs: tuple[Out, ...]
