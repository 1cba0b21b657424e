"""One run for a monitored version: each monitoring adds a point to it, so that MLflow plots them."""

import getpass
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dovetail.values import tag_keys

if TYPE_CHECKING:
    from mlflow import MlflowClient

_LOGGED = "models:/"
# MLflow draws a section for what stands before a slash, in the order of the alphabet: this one is the first.
DRIFTED, _PSI = "drifted/", "psi/"
_BATCH = 500  # metrics that one log_batch call may carry, half of what MLflow allows


@dataclass(frozen=True, slots=True)
class MonitoredVersion:
    """The version that is monitored."""

    model: str
    version: int
    md5: str

    def tags(self) -> dict[str, str]:
        """What its run is found by."""
        return {tag_keys.MODEL_MD5: self.md5, tag_keys.MONITOR_VERSION: str(self.version)}


def experiment(model: str) -> str:
    """The name of the experiment with the runs that watch the model's versions."""
    return f"{model}-monitoring"


def run_of(client: "MlflowClient", experiment: str, version: MonitoredVersion) -> str:
    """The id of the version's run in the experiment, made if it is not there: where two made one, both take the first.

    It has no fingerprint: it is no run of the pipeline, and what looks for those does not find it.
    """
    from mlflow.utils.mlflow_tags import MLFLOW_SOURCE_NAME, MLFLOW_USER

    if found := _runs(client, experiment, version):
        return str(found[0].info.run_id)
    tags = {MLFLOW_USER: getpass.getuser(), MLFLOW_SOURCE_NAME: "dovetail monitor", **version.tags()}
    made = client.create_run(experiment, None, tags, f"{version.model} {version.version}").info
    first, *others = [run.info for run in _runs(client, experiment, version)] or [made]
    for other in others:  # mine; of the same moment is what MLflow's client asked for again, its answer being lost
        if other.run_id == made.run_id or other.start_time == made.start_time:
            client.delete_run(other.run_id)
    if made.start_time == first.start_time:
        _link(client, first.run_id, version)
        client.set_terminated(first.run_id)
    return str(first.run_id)


def add(client: "MlflowClient", run_id: str, metrics: Mapping[str, float], seconds: float) -> None:
    """Add a point to each metric; its step is the seconds since the first look, so that a plot is true to time.

    What drifted once has a chart among the first ones; each later look adds to it, drifted or not.
    """
    from mlflow.entities import Metric

    time = round(seconds * 1000)
    run = client.get_run(run_id)
    step = max(0, time - run.info.start_time) // 1000
    later = {DRIFTED + name.removeprefix(_PSI): value for name, value in metrics.items() if name.startswith(_PSI)}
    known = {name: value for name, value in later.items() if tag_keys.shown_name(name) in run.data.metrics}
    points = [Metric(tag_keys.shown_name(name), value, time, step) for name, value in {**known, **metrics}.items()]
    for start in range(0, len(points), _BATCH):
        client.log_batch(run_id, metrics=points[start : start + _BATCH])


def _runs(client: "MlflowClient", experiment: str, version: MonitoredVersion) -> list[Any]:
    """Those of the version, oldest first."""
    question = " and ".join(f"tags.`{key}` = '{value}'" for key, value in version.tags().items())
    return list(client.search_runs([experiment], question, order_by=["attributes.start_time ASC"]))


def _link(client: "MlflowClient", run_id: str, version: MonitoredVersion) -> None:
    """Name the version's logged model as the run's input: MLflow then shows the one with the other."""
    from mlflow.entities import LoggedModelInput

    source = str(client.get_model_version(version.model, str(version.version)).source)
    if source.startswith(_LOGGED):  # the version itself does not say which logged model it is
        client.log_inputs(run_id, models=[LoggedModelInput(source.removeprefix(_LOGGED))])
