"""The trials of a model's search, each a run below the model's run."""

import getpass
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from dovetail.tracking.client import pages
from dovetail.tracking.run_content import PARENT, VALUE_LIMIT
from dovetail.values import tag_keys, tag_layout
from dovetail.values.trials import Trial

if TYPE_CHECKING:
    from mlflow import MlflowClient

_BATCH = 100  # params that one log_batch call may carry


def show(client: "MlflowClient", experiment: str, parent: str, trials: Sequence[Trial], time: int | None) -> None:
    """Make the run of each trial that has none below `parent` yet; one that an interruption left open is completed.

    They have no fingerprint: none is a run of the pipeline, and what looks for those does not find them.
    """
    if not trials:
        return
    there = dict(_there(client, experiment, parent))
    made = {}
    for trial in trials:
        number = str(trial.number)
        run = there.get(number)
        if run is None:
            run = made[number] = _created(client, experiment, parent, trial, time)
        if run.info.status == "RUNNING":
            _fill(client, run, trial)
            client.set_terminated(run.info.run_id, "FINISHED" if trial.metrics else "FAILED", run.info.start_time)
    # MLflow's client repeats a request whose answer is lost: another run is there then, which nobody fills.
    for number, run in _there(client, experiment, parent) if made else ():
        if number in made and run.info.status == "RUNNING" and run.info.run_id != made[number].info.run_id:
            client.delete_run(run.info.run_id)


def _there(client: "MlflowClient", experiment: str, parent: str) -> list[tuple[str, Any]]:
    """The runs of trials below `parent`, each with its number."""
    found = pages(client.search_runs, experiment_ids=[experiment], filter_string=f"tags.`{PARENT}` = '{parent}'")
    numbered = ((tag_layout.plain(run.data.tags).get(tag_keys.TRIAL), run) for run in found)
    return [(number, run) for number, run in numbered if number]


def _created(client: "MlflowClient", experiment: str, parent: str, trial: Trial, time: int | None) -> Any:
    from mlflow.utils.mlflow_tags import MLFLOW_SOURCE_NAME, MLFLOW_USER

    tags = {MLFLOW_USER: getpass.getuser(), MLFLOW_SOURCE_NAME: "dovetail register", PARENT: parent}
    tags |= tag_layout.stored({tag_keys.TRIAL: str(trial.number)})
    return client.create_run(experiment, time, tags, f"trial {trial.number}")


def _fill(client: "MlflowClient", run: Any, trial: Trial) -> None:
    from mlflow.entities import Metric, Param

    metrics = [
        Metric(tag_keys.shown_name(name), value, run.info.start_time, 0) for name, value in trial.metrics.items()
    ]
    params = [Param(tag_keys.shown_name(name), value[:VALUE_LIMIT]) for name, value in trial.params.items()]
    client.log_batch(run.info.run_id, metrics=metrics)
    for start in range(0, len(params), _BATCH):
        client.log_batch(run.info.run_id, params=params[start : start + _BATCH])
