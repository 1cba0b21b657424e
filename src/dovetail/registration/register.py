"""Show a model of the workspace in MLflow: its run, its version, its `staging` alias. Found by content, made once."""

import hashlib
import json
import os
import sys
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from dovetail.compiling import compiled_model, to_onnx
from dovetail.errors import ForeignStore, NotPermitted, StoreError, TurnLost, UserError
from dovetail.gates.gate_verdict import Verdict
from dovetail.models.value import same_value
from dovetail.registration import live_runs, loading, probe, script_uris, stage_times
from dovetail.registration.describe import describe, readable
from dovetail.registration.projection import Projection, project
from dovetail.registration.row_counts import RowCounts
from dovetail.repo.workspace import Workspace
from dovetail.system.locks import write_lock
from dovetail.system.processes import in_parallel
from dovetail.tracking.connection import Tracking, import_mlflow
from dovetail.tracking.store import Run, Store, Version
from dovetail.values import tag_keys
from dovetail.values.answer import Answer
from dovetail.values.finding import Finding
from dovetail.values.reference import STAGING

ENV_OFFLINE = "DOVETAIL_OFFLINE"  # set: what MLflow does not take is left to the next `dovetail sync`


@dataclass(frozen=True, slots=True)
class RegisterRequest:
    """The models of the workspace to register; none named: all that dvc.yaml declares."""

    names: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Registration:
    """What MLflow shows now, and what of it is new."""

    model: str
    fingerprint: str
    run_id: str
    run_created: bool
    version: int | None
    version_created: bool
    aliases: tuple[str, ...]
    gates: tuple[Verdict, ...]
    onnx: str = ""  # the verdict on the compiled model; empty where dvc.yaml asks for none
    warnings: tuple[Finding, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """The entry of one model in the answer of `dovetail register --json`."""
        return {
            "model": self.model,
            "fingerprint": self.fingerprint,
            "run_id": self.run_id,
            "run_created": self.run_created,
            "version": self.version,
            "version_created": self.version_created,
            "aliases": list(self.aliases),
            "gates": [verdict.as_json() for verdict in self.gates],
            "onnx": self.onnx or None,
            "warnings": [warning.as_json() for warning in self.warnings],
        }


@dataclass(frozen=True, slots=True, repr=False)
class RegisterAnswer(Answer):
    """What MLflow shows of each model that was asked for, in that order."""

    registrations: tuple[Registration, ...]

    def __repr__(self) -> str:
        shown = (f"{one.model}/{one.version}" if one.version else f"{one.model} run" for one in self.registrations)
        return f"<RegisterAnswer {', '.join(shown) or 'no model'}>"

    def as_json(self) -> list[dict[str, Any]]:
        """The answer of `dovetail register --json`."""
        return [one.as_json() for one in self.registrations]


def register(workspace: Workspace, tracking: Tracking, request: RegisterRequest = RegisterRequest()) -> RegisterAnswer:
    """Make MLflow show models as they are in the workspace, and write their receipts.

    What is there already, by fingerprint and by md5, stays as it is; what an interruption left half done is completed.
    Where MLflow does not answer and DOVETAIL_OFFLINE is set, the receipts alone are written: `sync` does the rest.

    Raises:
        UserError: before anything is written, when a model, its card or its metrics are missing or not recorded, or
            the model cannot be read, has no way to predict or does not answer its card's example.
        StoreError: when MLflow does not take it; running it again goes on from there.
        Busy: when another process holds the lock for five minutes.
    """
    try:
        return _register(workspace, tracking, request)
    except StoreError as error:
        if not os.environ.get(ENV_OFFLINE) or isinstance(error, ForeignStore | NotPermitted):
            raise
        with write_lock(tracking.root):
            return RegisterAnswer(
                tuple(_put_off(workspace, each, error) for each in _projections(workspace, request.names))
            )


def _put_off(workspace: Workspace, projection: Projection, error: StoreError) -> Registration:
    """Let DVC go on, and keep the commit or the experiment that it makes: from there `sync` finds it."""
    name, fingerprint = projection.model.name, projection.lineage.fingerprint
    _write_receipt(workspace.root / projection.model.receipt, fingerprint)
    why = f"{error.message}. Once a commit or an experiment holds it, `dovetail sync --all` writes it"
    later = Finding("warning", f"{name} is not in MLflow yet", why, "dovetail sync --all")
    return Registration(name, fingerprint, "", False, None, False, (), (), warnings=(later,))  # noqa: FBT003


def _register(workspace: Workspace, tracking: Tracking, request: RegisterRequest) -> RegisterAnswer:
    read = partial(_projections, workspace, request.names)
    # Importing MLflow takes as long as reading the workspace: where nobody has imported it yet, both happen at once.
    projections = read() if "mlflow" in sys.modules else in_parallel(read, import_mlflow)
    if not projections:
        return RegisterAnswer(())  # no store for a repository that declares no model
    projections = [one.with_git(workspace.git) for one in projections]  # this process's, which is closed with it
    probes = [probe.start(projection) for projection in projections]  # before the lock: a child would hold it, too
    scripts, done = script_uris.Scripts(workspace.root), []
    # While the probes work, and nobody waits for the lock.
    told = [tuple(script_uris.of_model(scripts, one.lineage, tracking.uri)) for one in projections]
    with write_lock(tracking.root), tracking.store() as store:
        asked = [probe.finish(*each) for each in zip(projections, probes, strict=True)]
        for known, found, warnings in zip(projections, asked, told, strict=True):
            judged = replace(known, verdicts=(*known.verdicts, *found.verdicts))
            projection = judged.with_value(found.value).with_computing(found.computing)
            done.append(replace(apply(store, projection), warnings=warnings))
            _allow(store, projection)
            if not found.verdicts:
                loading.remember(workspace, projection.lineage.artifact.md5, tuple(projection.artifact.allow))
            _write_receipt(workspace.root / projection.model.receipt, projection.lineage.fingerprint)
    return RegisterAnswer(tuple(done))


def _projections(workspace: Workspace, names: tuple[str, ...]) -> list[Projection]:
    tree = workspace.tree
    models = [tree.model(name) for name in names or tree.declared.models]
    for model in models:
        if (workspace.root / model.receipt).is_dir():
            raise UserError(
                f"{model.receipt} is a folder, and the receipt of {model.name} goes there",
                f"rm -r {workspace.typed(model.receipt)}",
            )
    projections = (project(tree, model, workspace.root) for model in models)
    counts = RowCounts(workspace)
    return [
        one.with_span(stage_times.seen(workspace, one.lineage)).with_rows(counts.counted(one.lineage).of)
        for one in projections
    ]


@dataclass(frozen=True, slots=True)
class RecordedRun:
    """What `record` answers, and the run and the version as they were found or made."""

    done: Registration
    run: Run
    version: Version | None


def apply(store: Store, projection: Projection) -> Registration:
    """Carry a projection out: run, version and `staging`."""
    recorded = record(store, projection)
    done = recorded.done
    describe(store, projection.subject, recorded.run, recorded.version)
    if done.version is None:
        return done
    name = projection.model.name
    aliases = move_staging(store, name, done.version) if projection.earns_staging else store.aliases(name)
    return replace(done, aliases=tuple(sorted(alias for alias, number in aliases.items() if number == done.version)))


def record(store: Store, projection: Projection) -> RecordedRun:
    """Make the run and the version. An experiment makes a run alone: a sweep of fifty must not make fifty versions."""
    if not store.is_shared or _is_recorded(store, projection):
        return _record(store, projection)
    # The machine slept: what was made so far is found then, whoever made it.
    with suppress(TurnLost), store.locked(projection.model.name):
        return _record(store, projection)
    with store.locked(projection.model.name):
        return _record(store, projection)


def _is_recorded(store: Store, projection: Projection) -> bool:
    """Whether there is nothing left that another clone could be making at the same time."""
    name = projection.model.name
    run = store.find_run(store.experiment(name), projection.lineage.fingerprint)
    is_experiment = projection.provenance.experiment is not None
    return bool(run and run.complete and (is_experiment or store.find_version(name, projection.artifact.md5)))


def _record(store: Store, projection: Projection) -> RecordedRun:
    live = live_runs.find(store, projection)
    projection = projection.with_stages_computing(live_runs.computing(live))
    model, tags = projection.model, projection.provenance.tags()
    shown = {tag_keys.shown_name(name): value for name, value in projection.run.metrics.items()}
    first = readable(projection.subject, shown, tags)
    experiment = projection.provenance.experiment
    place = store.experiment(model.name)
    found = store.find_run(place, projection.lineage.fingerprint)
    run = live_runs.choose(store, projection, live, found)
    if run is not None and found is None:
        run = store.adopt_run(run, tags)
    if run is None:
        name = experiment or f"{model.name}-{projection.lineage.fingerprint[:8]}"
        run = store.create_run(place, name, first | tags, projection.run.began)
    live_runs.gather(store, projection, live, run, created=not run.complete)
    model_id = None
    if not run.complete:
        store.fill_run(run, projection.run)
        store.show_trials(run, projection.run)
        model_id = logged_model(store, run, projection)
        store.link_model(run, model_id)
        span = projection.run.span
        store.finish_run(run, span.ended if span else None)
    version, created, verdict = None, False, ""
    if experiment is None:
        version = store.find_version(model.name, projection.artifact.md5)
        if version is None:
            model_id = model_id or logged_model(store, run, projection)
            if projection.number:
                store.skip_numbers(model.name, projection.number)
            allowed = {tag_keys.PICKLE_ALLOW: ",".join(projection.artifact.allow)} if projection.artifact.allow else {}
            version, created = store.create_version(model.name, model_id, run, first | tags | allowed, model.desc), True
        elif same_value(version.value, projection.provenance.value) is None and projection.provenance.value:
            # Registered before values had a digest, or with one of another form.
            store.tag_version(version, {tag_keys.MODEL_VALUE: projection.provenance.value})
        verdict = compile_version(store, version, projection)
    done = Registration(
        model=model.name,
        fingerprint=projection.lineage.fingerprint,
        run_id=run.id,
        run_created=found is None,
        version=version.number if version else None,
        version_created=created,
        aliases=(),
        gates=projection.verdicts,
        onnx=verdict,
    )
    return RecordedRun(done, replace(run, tags={**run.tags, **tags}, metrics={**run.metrics, **shown}), version)


def compile_version(store: Store, version: Version, projection: Projection, *, again: bool = False) -> str:
    """Compile the version's model where dvc.yaml asks for it and that was not done, or is to be done `again`.

    Returns the verdict: whether the compiled model answers the same as the model.
    """
    if projection.to_compile is None or (to_onnx.is_final(version.onnx) and not again):
        return version.onnx
    outcome = to_onnx.run(projection.to_compile)
    if to_onnx.is_final(version.onnx) and not to_onnx.is_final(outcome.verdict):
        return version.onnx  # the earlier verdict stands: its file is used, if it is still there
    tags = {}
    if outcome.content:
        store.add_file(version, compiled_model.FILE, outcome.content)
        tags[tag_keys.ONNX_MD5] = hashlib.md5(outcome.content, usedforsecurity=False).hexdigest()
    store.tag_version(version, tags | {tag_keys.ONNX: outcome.verdict})  # the verdict last: with it, it is done
    return outcome.verdict


def _allow(store: Store, projection: Projection) -> None:
    """Let the version's loader accept what the workspace's gates allow now, where they allowed others before."""
    version = store.find_version(projection.model.name, projection.artifact.md5)
    allowed = ",".join(projection.artifact.allow)
    if version is not None and version.allow != allowed:
        store.replace_files(version, projection.artifact)
        store.tag_version(version, {tag_keys.PICKLE_ALLOW: allowed})


def logged_model(store: Store, run: Run, projection: Projection) -> str:
    """The run's logged model, made if it is not there."""
    artifact = projection.artifact
    found = None if run.new else store.find_model(run, artifact.md5)
    return found or store.log_model(run, projection.model.name, artifact, projection.provenance.tags())


def move_staging(store: Store, model: str, number: int) -> dict[str, int]:
    """`staging` goes to the version, never backwards: checking out an old commit moves nothing. Returns all aliases."""
    aliases = store.aliases(model)
    if number > aliases.get(STAGING, 0):
        store.set_alias(model, STAGING, number)
        aliases[STAGING] = number
    return aliases


def _write_receipt(path: Path, fingerprint: str) -> None:
    """The proof for DVC that MLflow was filled: content and nothing of this machine, so that a clone's is the same."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text(json.dumps({"fingerprint": fingerprint}) + "\n", encoding="utf-8")
    temporary.replace(path)
