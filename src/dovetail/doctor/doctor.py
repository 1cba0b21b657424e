"""What is broken or risky in the joint state of git, DVC and MLflow, each with the command that repairs it."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from dovetail.doctor import (
    check_data,
    check_git,
    check_ledger,
    check_locks,
    check_registry,
    check_sandbox,
    check_tracking,
)
from dovetail.errors import DataUnavailable, DovetailError, ForeignStore, StoreError
from dovetail.repo.workspace import Workspace
from dovetail.tracking.connection import Tracking
from dovetail.tracking.store import Store
from dovetail.values.answer import Answer
from dovetail.values.finding import Finding

CHECKS: tuple[Callable[[Workspace], Iterator[Finding]], ...] = (
    check_locks.stale_locks,
    check_data.unknown_inputs,
    check_data.missing_objects,
    check_data.unkept_sources,
    check_data.unpushed_objects,
    check_git.unignored_outputs,
    check_git.unread_documents,
    check_git.converted_lines,
    check_git.tracked_view,
    check_git.shallow_clone,
    check_ledger.unpushed_tags,
    check_sandbox.missing_walls,
)
TRACKING_CHECKS: tuple[Callable[[Workspace, Tracking], Iterator[Finding]], ...] = (
    check_tracking.relative_folder,
    check_tracking.uris_in_code,
    check_tracking.shared_sqlite,
    check_tracking.lost_store,
    check_tracking.outdated_mlflow,
)
STORE_CHECKS: tuple[Callable[[Workspace, Store], Iterator[Finding]], ...] = (
    check_registry.broken_versions,
    check_registry.unreadable_versions,
    check_registry.moved_aliases,
    check_ledger.unfit_tags,
    check_ledger.other_numbers,
    check_ledger.changed_evidence,
    check_registry.lost_data,
    check_registry.unpushed_data,
    check_registry.uncommitted_versions,
)


@dataclass(frozen=True, slots=True)
class DoctorRequest:
    """Every check."""


@dataclass(frozen=True, slots=True, repr=False)
class DoctorAnswer(Answer):
    """Every problem that a check finds."""

    problems: tuple[Finding, ...]

    def __repr__(self) -> str:
        errors = sum(problem.severity == "error" for problem in self.problems)
        return f"<DoctorAnswer {errors} errors, {len(self.problems) - errors} warnings>"

    def as_json(self) -> dict[str, Any]:
        """The answer of `dovetail doctor --json`."""
        return {"problems": [problem.as_json() for problem in self.problems]}


def doctor(workspace: Workspace, tracking: Tracking, request: DoctorRequest = DoctorRequest()) -> DoctorAnswer:  # noqa: ARG001  (the shape of every verb)
    """Run every check.

    What cannot be asked is a problem itself, and the other checks go on.

    A store that was not made yet is not made; model files are read, data files never.
    """
    problems = [*_found(CHECKS, workspace), *_found(TRACKING_CHECKS, workspace, tracking)]
    if tracking.exists:
        try:
            with tracking.store() as store:
                problems.extend(_found(STORE_CHECKS, workspace, store))
        except StoreError as error:
            is_foreign = isinstance(error, ForeignStore)
            what = "MLflow's store names another folder" if is_foreign else "MLflow does not answer"
            problems.append(Finding.of(error, what))
    distinct = dict.fromkeys(problems)  # one broken file stops several checks
    return DoctorAnswer(tuple(distinct))


def _found(checks: tuple[Callable[..., Iterator[Finding]], ...], *asked: object) -> Iterator[Finding]:
    for check in checks:
        try:
            yield from check(*asked)
        except StoreError:
            raise
        except DataUnavailable as error:
            yield Finding.of(error, "DVC cannot ask for all data: what only the remote may have is not known")
        except DovetailError as error:
            yield Finding.of(error, "the repository cannot be read in whole")
