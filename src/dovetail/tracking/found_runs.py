"""Runs as a store shows them: found by fingerprint, opened by a script, with all that is known of one."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from dovetail.values import tag_keys, tag_layout


@dataclass(frozen=True, slots=True)
class Run:
    """A run found by its fingerprint; one that is not `complete` was interrupted."""

    id: str
    complete: bool
    experiment: str
    ended: int | None = None  # when the script that opened it ended; None: Dovetail opened it
    new: Any = field(default=None, compare=False, repr=False)  # as MLflow has just made it: it holds nothing yet
    tags: Mapping[str, str] = field(default_factory=dict, compare=False, repr=False)  # when it was found
    metrics: Mapping[str, float] = field(default_factory=dict, compare=False, repr=False)  # likewise


@dataclass(frozen=True, slots=True)
class LiveRun:
    """A run that a script opened inside a stage, and the execution of the stage that it belongs to.

    Attributes:
        is_adopted: Whether it is a model's run.
        parent: The id of the run that it is shown below.
        computing: What the script's process said that it computes with.
    """

    run: Run
    execution: str | None
    is_adopted: bool
    parent: str | None
    computing: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_loose(self) -> bool:
        """Whether it is neither a model's run nor shown below another one."""
        return not self.is_adopted and self.parent is None


@dataclass(frozen=True, slots=True)
class RunDetails:
    """What MLflow shows of a run; one that is not `active` was deleted and can still be restored."""

    id: str
    active: bool
    tags: Mapping[str, str]
    metrics: Mapping[str, float]
    params: Mapping[str, str]
    experiment: str = ""
    started: int = 0  # in milliseconds since the epoch; where nobody saw it run, when its commit was made
    ended: int = 0  # likewise; 0 where that is not known

    @property
    def model_md5(self) -> str | None:
        """The digest of the model that the run made."""
        return self.tags.get(tag_keys.MODEL_MD5)


def run_of(entity: Any) -> Run:
    """The run as MLflow's client gives it."""
    complete = entity.info.status == "FINISHED"
    ended = entity.info.end_time if tag_keys.DVC_INPUTS in entity.data.tags else None
    data = entity.data
    return Run(
        entity.info.run_id, complete, str(entity.info.experiment_id), ended, tags=tag_layout.plain(data.tags),
        metrics=data.metrics,
    )  # fmt: skip


def details_of(run: Any) -> RunDetails:
    """All of it, likewise."""
    info, data = run.info, run.data
    active, experiment = info.lifecycle_stage == "active", str(info.experiment_id)
    tags = tag_layout.plain(data.tags)
    started, ended = info.start_time or 0, info.end_time or 0
    return RunDetails(info.run_id, active, tags, data.metrics, data.params, experiment, started, ended)
