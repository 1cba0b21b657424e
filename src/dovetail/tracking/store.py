"""The MLflow side: runs, logged models, versions and aliases, found by content."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from dovetail.tracking import monitoring_runs, tag_migration, trash, trial_runs
from dovetail.tracking.client import SQLITE, pages
from dovetail.tracking.found_runs import LiveRun, Run, RunDetails
from dovetail.tracking.found_versions import Version
from dovetail.tracking.model_package import columns_of
from dovetail.tracking.monitoring_runs import MonitoredVersion
from dovetail.tracking.registry import Registry
from dovetail.tracking.run_content import SOURCE_TYPE, RunContent
from dovetail.tracking.runs import Runs
from dovetail.tracking.tag_migration import Outdated
from dovetail.tracking.trash import TrashItem
from dovetail.values.tag_keys import Monitoring
from dovetail.values.tag_layout import plain

if TYPE_CHECKING:
    import pandas as pd

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
        run_id = monitoring_runs.run_of(
            self._client, self.experiment(monitoring_runs.experiment(observed.model)), observed
        )
        monitoring_runs.add(self._client, run_id, metrics, time)
        return run_id

    def monitored(self, model: str, number: int) -> Monitoring | None:
        """What is tagged on the version of its last monitoring; None where nobody looked."""
        found = pages(self._client.search_model_versions, filter_string=f"name = '{model}'")
        return next((Monitoring.parse(plain(one.tags)) for one in found if int(one.version) == number), None)

    def show_trials(self, run: Run, content: RunContent) -> None:
        """Show each trial of the model's search as a run below `run`; done again it doubles none."""
        trial_runs.show(self._client, run.experiment, run.id, content.trials, content.time)

    def outdated_tags(self, models: Iterable[str]) -> list[Outdated]:
        """What has tags of the former layout: of these models, and all in a store that is this repository's own."""
        known = [*models] if self.is_shared else sorted({*models, *self.models()})
        names = {made for name in known for made in (name, monitoring_runs.experiment(name))}
        found = [e for e in pages(self._client.search_experiments) if e.name in names or not self.is_shared]
        return tag_migration.outdated(self._client, known, [e.experiment_id for e in found])

    def migrate_tags(self, one: Outdated) -> None:
        """Lay its tags out as they are now."""
        tag_migration.migrate(self._client, one)

    def discarded(self, names: Iterable[str]) -> list[TrashItem]:
        """What lies in the trash of the experiments `names` and still has bytes, and uploads that never ended."""
        found = trash.discarded(self._client, names)
        return [replace(item, is_outside=trash.is_outside(item.location, self._root)) for item in found]

    def restore_models(self) -> list[str]:
        """Take the logged models that versions need out of the trash; returns those versions."""
        return trash.restore_models(self._client)

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

    def given(self, table: "pd.DataFrame") -> "pd.DataFrame":
        """The table, whole numbers and booleans as floats where the signature has those: MLflow converts neither.

        A column that may be missing has floats as pandas reads it, but not in rows of which none is missing.
        """
        from pandas.api.types import infer_dtype

        signed = self.metadata.signature.inputs if self.metadata.signature else None
        floats = {one.name for one in signed or () if getattr(one.type, "name", "") in {"double", "float"}}
        others = [n for n in table.columns if n in floats and infer_dtype(table[n]) in {"integer", "boolean"}]
        return table.astype(dict.fromkeys(others, "float64"))

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
