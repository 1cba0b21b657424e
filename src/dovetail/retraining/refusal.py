"""Why a retraining is not begun: it is too early, or there is nothing to add."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from dovetail.repo.git import Git
from dovetail.retraining import branches
from dovetail.retraining.pipeline_run import RetrainPlan

_LONGEST_PAUSE = 1e6  # hours: a century


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why nothing is run, and what to do instead."""

    why: str
    next: str


def too_early(git: Git, model: str, pause: float, now: datetime) -> Refusal | None:
    """Whether the last retraining is less than `pause` hours ago; 0 asks for no pause."""
    newest = branches.last_retraining(git, model)
    if newest is None or not pause:
        return None
    free = datetime.fromtimestamp(newest.time, UTC) + timedelta(hours=min(pause, _LONGEST_PAUSE))
    if now >= free:
        return None
    what = f"{model} was retrained by {newest.sha[:8]}; the next may begin at {free:%Y-%m-%dT%H:%M:%SZ}"
    return Refusal(f"{what}, {pause:g} hours after it", "run the same command again then, or by hand with --pause 0")


def nothing_new(git: Git, model: str, plan: RetrainPlan | None) -> Refusal | None:
    """Whether the commit that the retraining would start from has all rows (no plan), or an unmerged branch has."""
    if plan is None:
        why = f"nothing new: no labelled row of {model} that was not added before"
        return Refusal(why, "label predictions, or give a file")
    for branch in branches.unmerged(git, model, plan.raw.record):
        if set(plan.rows.keys) <= branch.added:
            return Refusal(f"nothing new: {branch.name} added these rows", f"merge it, or delete it: {branch.deletion}")
    return None
