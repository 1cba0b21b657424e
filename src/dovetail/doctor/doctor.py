"""What is broken or risky in the joint state of git, DVC and MLflow, each with the command that mends it."""

from collections.abc import Callable, Iterator
from typing import Any

from dovetail.doctor import check_data, check_git, check_locks, check_registry, check_sandbox, check_tracking
from dovetail.errors import DovetailError, StoreError
from dovetail.repo.workspace import Workspace
from dovetail.tracking.connection import has_store, open_store
from dovetail.tracking.store import Store
from dovetail.values.finding import Finding

CHECKS: tuple[Callable[[Workspace], Iterator[Finding]], ...] = (
    check_locks.stale_locks,
    check_data.missing_objects,
    check_data.unkept_sources,
    check_data.unpushed_objects,
    check_git.unignored_outputs,
    check_git.tracked_view,
    check_git.shallow_clone,
    check_tracking.relative_folder,
    check_tracking.relative_uris_in_code,
    check_tracking.shared_sqlite,
    check_tracking.lost_store,
    check_tracking.outdated_mlflow,
    check_sandbox.missing_walls,
)
STORE_CHECKS: tuple[Callable[[Workspace, Store], Iterator[Finding]], ...] = (
    check_registry.broken_versions,
    check_registry.moved_aliases,
    check_registry.lost_data,
    check_registry.unpushed_data,
    check_registry.uncommitted_versions,
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
            problems.append(Finding.of(error, "MLflow does not answer"))
    distinct = dict.fromkeys(problems)  # one broken file stops several checks
    return {"problems": [problem.as_json() for problem in distinct]}


def _found(checks: tuple[Callable[..., Iterator[Finding]], ...], *asked: object) -> Iterator[Finding]:
    for check in checks:
        try:
            yield from check(*asked)
        except StoreError:
            raise
        except DovetailError as error:
            yield Finding.of(error, "the repository cannot be read in whole")
