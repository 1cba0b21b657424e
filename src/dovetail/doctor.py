"""What is broken or risky in the joint state of git, DVC and MLflow, each with the command that mends it."""

from collections.abc import Callable, Iterator
from typing import Any

from dovetail.checks import data, git, locks, registry, tracking
from dovetail.connection import has_store, open_store
from dovetail.errors import DovetailError, StoreError
from dovetail.problem import Problem
from dovetail.store import Store
from dovetail.workspace import Workspace

CHECKS: tuple[Callable[[Workspace], Iterator[Problem]], ...] = (
    locks.stale_locks,
    data.missing_objects,
    data.unkept_sources,
    data.unpushed_objects,
    git.unignored_outputs,
    git.tracked_view,
    git.shallow_clone,
    tracking.relative_folder,
    tracking.relative_uris_in_code,
    tracking.shared_sqlite,
    tracking.lost_store,
    tracking.outdated_mlflow,
)
STORE_CHECKS: tuple[Callable[[Workspace, Store], Iterator[Problem]], ...] = (
    registry.broken_versions,
    registry.strayed_aliases,
    registry.lost_data,
    registry.unpushed_data,
    registry.uncommitted_versions,
)


def doctor(workspace: Workspace) -> dict[str, Any]:
    """The answer of `dovetail doctor`: every problem that a check finds.

    What cannot be asked is a problem itself, and the other checks go on.

    A store that was not made yet is not made; model files are read anew, data files never.
    """
    problems = list(_found(CHECKS, workspace))
    if has_store(workspace.store_root):
        try:
            with open_store(workspace.store_root) as store:
                problems.extend(_found(STORE_CHECKS, workspace, store))
        except StoreError as error:
            problems.append(Problem.of(error, "MLflow does not answer"))
    distinct = dict.fromkeys(problems)  # one broken file stops several checks
    return {"problems": [problem.as_json() for problem in distinct]}


def _found(checks: tuple[Callable[..., Iterator[Problem]], ...], *asked: object) -> Iterator[Problem]:
    for check in checks:
        try:
            yield from check(*asked)
        except StoreError:
            raise
        except DovetailError as error:
            yield Problem.of(error, "the repository cannot be read in whole")
