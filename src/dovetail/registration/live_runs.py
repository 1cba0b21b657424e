"""The runs that scripts opened in a model's stages: which one is the model's, which ones are shown below it."""

from collections.abc import Mapping, Sequence

from dovetail.registration.projection import Projection
from dovetail.tracking.store import LiveRun, Run, Store

LiveRuns = Mapping[str, Sequence[LiveRun]]  # by the stage that a script opened them in, oldest first


def find(store: Store, projection: Projection) -> LiveRuns:
    """The runs that scripts opened in the stages upstream of the model."""
    return {stage.name: store.live_runs(stage.inputs) for stage in projection.lineage.stages}


def computing(live: LiveRuns) -> dict[str, Mapping[str, str]]:
    """What the last process of each stage said that it computes with."""
    return {stage: runs[-1].computing for stage, runs in live.items() if runs}


def choose(store: Store, projection: Projection, live: LiveRuns, found: Run | None) -> Run | None:
    """The run of the script that made the model, if there is none by fingerprint yet; else `found`.

    The last execution of the stage made the bytes in the workspace. If it opened one run, that is the model's. If it
    opened several, the model's is the one that logged these very bytes; where none or more than one did, nobody can
    tell, and Dovetail opens one of its own.
    """
    maker = projection.lineage.maker
    if found or maker is None:
        return found
    current = _last_execution([one for one in live[maker.name] if one.is_loose])
    if len(current) == 1:
        return current[0].run
    file, md5 = projection.artifact.file, projection.lineage.artifact.md5
    size = file.stat().st_size if file.is_file() else -1  # a folder has no digest that a logged file could have
    logged = [one.run for one in current if store.has_logged(one.run, md5, size)]
    return logged[0] if len(logged) == 1 else None


def gather(store: Store, projection: Projection, found: LiveRuns, run: Run, *, created: bool) -> None:
    """Show below `run` what scripts opened in the stages upstream of the model; repeats go to MLflow's trash.

    `created` says that the run was made or adopted just now, or was never finished. A stage that makes another model
    leaves its runs to that model.
    """
    for stage in projection.lineage.stages:
        is_maker, is_shared = stage == projection.lineage.maker, stage.name in projection.makers
        if is_maker or not is_shared:
            live = found[stage.name]
            loose = [one for one in live if one.is_loose and one.run.id != run.id]
            current = _current(live, loose, run, made_now=created, is_maker=is_maker)
            for one in loose:
                if one.execution not in current:
                    store.delete_run(one.run)
                elif not is_shared:
                    store.nest_run(one.run, run)


def _current(
    live: Sequence[LiveRun], loose: Sequence[LiveRun], run: Run, *, made_now: bool, is_maker: bool
) -> set[str | None]:
    """The executions of a stage whose runs belong to `run` or to another model's; those of the others are repeats."""
    if adopted := {one.execution for one in live if one.run.id == run.id}:
        return adopted
    ids = {one.run.id for one in live}
    known = {one.execution for one in live if one.is_adopted or (one.parent and one.parent not in ids)}
    if made_now or not (known or is_maker):
        return {one.execution for one in _last_execution(loose)}
    return known


def _last_execution(live: Sequence[LiveRun]) -> list[LiveRun]:
    return [one for one in live if one.execution == live[-1].execution]
