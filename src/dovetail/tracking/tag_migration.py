"""Tags of the former layout, found in a store and written as `values.tag_layout` has them.

Each run and each version is read again before it is changed. What is new is set before what is old is deleted, and a
reader of both takes the old: killed in between, or done by two clones at once, it loses nothing and is done again.

Logged models keep their tags: no page shows them, and MLflow's server cannot delete one with a slash in its key.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dovetail.tracking.client import none_if_missing, pages
from dovetail.values import tag_layout

if TYPE_CHECKING:
    from mlflow import MlflowClient

_BATCH = 100  # tags that one log_batch call may carry


@dataclass(frozen=True, slots=True)
class Outdated:
    """A run, or the version `number` of the model `name`, with tags of the former layout."""

    name: str
    run: str | None = None
    number: int | None = None


def outdated(client: "MlflowClient", names: Iterable[str], experiments: list[str]) -> list[Outdated]:
    """The versions of the models `names` and the runs of the experiments that have tags of the former layout."""
    versions = [
        Outdated(name, number=int(version.version))
        for name in names
        for version in pages(client.search_model_versions, filter_string=f"name = '{name}'")
        if tag_layout.is_outdated(version.tags)
    ]
    return [*versions, *(Outdated("", run=run) for run in _runs(client, experiments))]


def _runs(client: "MlflowClient", experiments: list[str]) -> Iterator[str]:
    seen = set[str]()
    for key in tag_layout.FORMER_OF_RUNS if experiments else ():
        question = {"experiment_ids": experiments, "filter_string": f"tags.`{key}` LIKE '%'"}
        for run in pages(client.search_runs, **question):
            if run.info.run_id not in seen:
                seen.add(run.info.run_id)
                yield run.info.run_id


def migrate(client: "MlflowClient", one: Outdated) -> None:
    """Write its tags as they are laid out now; what somebody deleted meanwhile is left alone."""
    with none_if_missing():
        if one.run is None:
            of_version(client, one.name, one.number or 0)
        else:
            _of_run(client, one.run)


def of_version(client: "MlflowClient", name: str, number: int) -> None:
    """Do so for a version; what its run says at length goes."""
    version = client.get_model_version(name, str(number))
    change = tag_layout.migration(version.tags, _facts(client, version.run_id))
    for key, value in change.set.items():
        client.set_model_version_tag(name, str(number), key, value)
    for key in change.delete:
        with none_if_missing():  # another clone was faster
            client.delete_model_version_tag(name, str(number), key)


def _facts(client: "MlflowClient", run_id: str | None) -> dict[str, str]:
    with none_if_missing():
        return tag_layout.plain(client.get_run(run_id or "").data.tags)
    return {}


def _of_run(client: "MlflowClient", run_id: str) -> None:
    set_run_tags(client, run_id, tag_layout.migration(client.get_run(run_id).data.tags))


def set_run_tags(client: "MlflowClient", run_id: str, change: tag_layout.TagChange) -> None:
    """Set and delete tags of a run."""
    from mlflow.entities import RunTag

    written = [RunTag(key, value) for key, value in change.set.items()]
    for start in range(0, len(written), _BATCH):
        client.log_batch(run_id, tags=written[start : start + _BATCH])
    for key in change.delete:
        with none_if_missing():
            client.delete_tag(run_id, key)
