"""The MLflow side: runs, logged models, versions and aliases, found by content."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from dovetail.tracking import monitoring_runs, trash, trial_runs
from dovetail.tracking.client import SQLITE
from dovetail.tracking.found_runs import LiveRun, Run, RunDetails
from dovetail.tracking.model_package import columns_of
from dovetail.tracking.monitoring_runs import MonitoredVersion
from dovetail.tracking.registry import Registry, Version
from dovetail.tracking.run_content import SOURCE_TYPE, RunContent
from dovetail.tracking.runs import Runs
from dovetail.tracking.trash import TrashItem

__all__ = [
    "SOURCE_TYPE",
    "SQLITE",
    "Described",
    "LiveRun",
    "Run",
    "RunContent",
    "RunDetails",
    "Store",
    "Version",
    "describe",
]


class Store(Runs, Registry):
    """One repository's MLflow store. Every write either happens whole or can be repeated without doubling."""

    def observe(self, observed: MonitoredVersion, metrics: Mapping[str, float], time: float) -> str:
        """Add a point to each metric of the version's monitoring, at `time` in seconds; returns the id of its run."""
        run_id = monitoring_runs.run_of(self._client, self.experiment(f"{observed.model}-monitoring"), observed)
        monitoring_runs.add(self._client, run_id, metrics, time)
        return run_id

    def show_trials(self, run: Run, content: RunContent) -> None:
        """Show each trial of the model's search as a run below `run`; done again it doubles none."""
        trial_runs.show(self._client, run.experiment, run.id, content.trials, content.time)

    def discarded(self, names: Iterable[str]) -> list[TrashItem]:
        """What lies in the trash of the experiments `names` and still has bytes, and uploads that never ended."""
        found = trash.discarded(self._client, names)
        return [replace(item, is_outside=trash.is_outside(item.location, self._root)) for item in found]

    def delete_bytes(self, item: TrashItem) -> None:
        """Delete the bytes of what lies in the trash."""
        trash.delete_bytes(self._client, item)


@dataclass(frozen=True, slots=True)
class Described:
    """What MLflow knows of a model without loading it: `example` is its input example, None where it has none."""

    metadata: Any
    example: Any
    inputs: tuple[str, ...]
    optional: tuple[str, ...]  # those of the inputs that may be missing

    def served(self, model: Any) -> Any:
        """The pyfunc that MLflow would serve if its loader gave `model`: what is asked is held to the signature."""
        from mlflow.pyfunc import PyFuncModel

        return PyFuncModel(self.metadata, model)


def describe(uri: str, source: str) -> Described:
    """Read what MLflow's model at `source` says of itself. Neither the model nor its loader is read."""
    import mlflow
    from mlflow.models import Model

    mlflow.set_tracking_uri(uri)
    metadata = Model.load(source)
    inputs, optional = columns_of(metadata.signature)
    return Described(metadata, metadata.load_input_example(source), tuple(inputs), tuple(optional))
