"""An answer that is lost on the way: MLflow's client asks again, and what it asks to be made is there once."""

import time

import pytest
from lossy_proxy import lossy_proxy
from mlflow import MlflowClient
from tracking_server import tracking_server

from dovetail.tracking import monitoring_runs, trial_runs
from dovetail.tracking.monitoring_runs import MonitoredVersion
from dovetail.tracking.store import Store
from dovetail.values.trials import Trial

MADE = ("/runs/create", "/logged-models", "/registered-models/create", "/model-versions/create", "/experiments/create")


@pytest.mark.slow
@pytest.mark.parametrize("how", ["502", "closed"])
def test_what_is_asked_for_twice_is_registered_once(small, tmp_path, how):
    artifacts = ("--artifacts-destination", str(tmp_path / "artifacts"))
    with (
        tracking_server(tmp_path, f"sqlite:///{tmp_path}/server.db", *artifacts) as server,
        lossy_proxy(server.uri, MADE, how) as (address, gone),
    ):
        small.env |= {"MLFLOW_TRACKING_URI": address, "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "0"}
        (answer,) = small.json("register")
        assert gone == set(MADE)
        assert (answer["version"], answer["version_created"], answer["aliases"]) == (1, True, ["staging"])
        shown = small.store()
        assert shown.counts() == (1, 1)
        assert [model.status.name for model in shown.models()] == ["READY"]
        assert [model.name for model in shown.client.search_registered_models()] == ["m"]
        assert small.json("register")[0]["version_created"] is False


@pytest.mark.slow
def test_whatever_write_is_asked_for_twice_is_done_once(small, tmp_path):
    artifacts = ("--artifacts-destination", str(tmp_path / "artifacts"))
    with (
        tracking_server(tmp_path, f"sqlite:///{tmp_path}/server.db", *artifacts) as server,
        lossy_proxy(server.uri) as (address, gone),
    ):
        small.env |= {"MLFLOW_TRACKING_URI": address, "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "0"}
        (answer,) = small.json("register")
        assert (answer["version"], answer["aliases"]) == (1, ["staging"])
        shown = small.store()
        (run,) = shown.runs()
        assert (shown.counts(), run.info.status, run.data.metrics["accuracy"]) == ((1, 1), "FINISHED", 0.7)
        assert [model.status.name for model in shown.models()] == ["READY"]
        assert len(run.outputs.model_outputs) == 1
        assert len(run.inputs.dataset_inputs) == 1
        assert [model.name for model in shown.client.search_registered_models()] == ["m"]
        assert len(gone) > len(MADE)


@pytest.mark.slow
def test_of_numbers_that_are_used_up_no_version_stays(tmp_path):
    with tracking_server(tmp_path, f"sqlite:///{tmp_path}/server.db") as server:
        client = MlflowClient(server.uri, server.uri)
        with lossy_proxy(server.uri, ("/model-versions/create",)) as (address, gone):
            Store(MlflowClient(address, address), tmp_path / "repository", address).skip_numbers("m", 4)
            assert gone
        assert client.search_model_versions("name = 'm'") == []


class Again(MlflowClient):
    """Of each run that it is to make it makes two, as one does whose first answer was lost."""

    def create_run(self, experiment_id, start_time=None, tags=None, run_name=None):
        at = start_time or round(time.time() * 1000)
        super().create_run(experiment_id, at, tags, run_name)
        return super().create_run(experiment_id, at, tags, run_name)


@pytest.fixture
def again(tmp_path):
    return Again(f"sqlite:///{tmp_path}/store.db", f"sqlite:///{tmp_path}/store.db")


def test_a_trial_has_one_run(again):
    parent = MlflowClient(again.tracking_uri).create_run("0").info.run_id
    trials = [Trial(number, {"depth": str(number)}, {"auc": 0.5}) for number in range(2)]
    for _ in range(2):
        trial_runs.show(again, "0", parent, trials, None)
        found = [run for run in again.search_runs(["0"]) if run.info.run_id != parent]
        assert sorted(run.info.run_name for run in found) == ["trial 0", "trial 1"]
        assert {run.info.status for run in found} == {"FINISHED"}


def test_what_is_monitored_has_one_run(again):
    again.create_registered_model("m")
    again.create_model_version("m", "elsewhere")
    watched = MonitoredVersion("m", 1, "0" * 32)
    first = monitoring_runs.run_of(again, "0", watched)
    assert monitoring_runs.run_of(again, "0", watched) == first
    (run,) = again.search_runs(["0"])
    assert (run.info.run_id, run.info.status) == (first, "FINISHED")
