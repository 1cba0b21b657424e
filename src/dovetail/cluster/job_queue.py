"""Workers that a job queue such as Slurm is asked for."""

import importlib
import shlex
from pathlib import Path
from typing import Any

from dovetail.cluster.resource_amount import resource_amount
from dovetail.errors import UserError, one_line

# `slurm:…` and the like: the class of dask-jobqueue that asks such a queue for workers.
_QUEUES = {
    "htcondor": "HTCondorCluster", "lsf": "LSFCluster", "moab": "MoabCluster", "oar": "OARCluster", "pbs": "PBSCluster",
    "sge": "SGECluster", "slurm": "SLURMCluster",
}  # fmt: skip
_COUNTS = ("jobs", "cores", "processes")


def is_queue(cluster: str) -> bool:
    """Whether this names a job queue, not the address of a scheduler."""
    return cluster.partition(":")[0] in _QUEUES


def open_queue(cluster: str, logs: Path | None) -> Any:
    """The workers that a job queue is asked for: `slurm:jobs=4,cores=2,memory=8GB,queue=short`.

    Raises:
        UserError: when dask-jobqueue is not installed, or an option is none.
    """
    kind, _, said = cluster.partition(":")
    options: dict[str, Any] = ({"log_directory": str(logs)} if logs else {}) | dict(
        part.partition("=")[::2] for part in said.split(",") if part
    )
    for name in _COUNTS:
        if name in options:
            options[name] = _count(cluster, name, options[name])
    jobs = options.pop("jobs", 1)
    cores, memory = options.setdefault("cores", 1), options.setdefault("memory", "4GB")
    if (size := resource_amount(memory)) is None:
        raise _refused(cluster, f"memory = {memory!r} is not an amount such as 8GB")
    try:
        made = getattr(importlib.import_module("dask_jobqueue"), _QUEUES[kind])(
            **options, worker_extra_args=["--resources", shlex.quote(f"cpu={cores} memory={size:.0f}")]
        )
        made.scale(jobs=jobs)
    except ImportError as error:
        raise UserError(f"{error.name} is not installed", "pip install 'dovetail-ml[cluster]'") from error
    except (TypeError, ValueError, OSError) as error:
        raise _refused(cluster, one_line(error)) from error
    return made


def _count(cluster: str, name: str, value: str) -> int:
    if not (value.isdecimal() and int(value)):
        raise _refused(cluster, f"{name} = {value!r} is not a whole number from 1 on")
    return int(value)


def _refused(cluster: str, why: str) -> UserError:
    kind = cluster.partition(":")[0]
    return UserError(f"{cluster}: {why}", f"--cluster {kind}:jobs=4,cores=2,memory=8GB")
