"""The MLflow side: runs, logged models, versions and aliases, found by content."""

from collections.abc import Iterable, Mapping
from typing import Any

from dovetail.tracking import monitoring_runs, trash
from dovetail.tracking.client import SQLITE
from dovetail.tracking.monitoring_runs import MonitoredVersion
from dovetail.tracking.registry import Registry, Version, columns_of
from dovetail.tracking.run_content import SOURCE_TYPE, RunContent
from dovetail.tracking.runs import LiveRun, Run, RunDetails, Runs
from dovetail.tracking.trash import Discarded

__all__ = ["SOURCE_TYPE", "SQLITE", "LiveRun", "Run", "RunContent", "RunDetails", "Store", "Version", "load_model"]


class Store(Runs, Registry):
    """One repository's MLflow store. Every write either happens whole or can be repeated without doubling."""

    def observe(self, observed: MonitoredVersion, metrics: Mapping[str, float], time: float) -> str:
        """Add a point to each metric of the version's monitoring, at `time` in seconds; returns the id of its run."""
        run_id = monitoring_runs.run_of(self._client, self.experiment(f"{observed.model}-monitoring"), observed)
        monitoring_runs.add(self._client, run_id, metrics, time)
        return run_id

    def discarded(self, names: Iterable[str]) -> list[Discarded]:
        """What lies in the trash of the experiments `names` and still has bytes, and uploads that never ended."""
        return trash.discarded(self._client, names)

    def empty(self, item: Discarded) -> None:
        """Delete the bytes of what lies in the trash."""
        trash.empty(self._client, item)


def load_model(uri: str, source: str) -> tuple[Any, Any, list[str], list[str]]:
    """What MLflow loads from `source`: the pyfunc model, its input example, its columns and those that may be missing.

    For a process that does nothing else: it unpickles.
    """
    import mlflow

    mlflow.set_tracking_uri(uri)
    model = mlflow.pyfunc.load_model(source)
    return model, model.input_example, *columns_of(model.metadata.signature)
