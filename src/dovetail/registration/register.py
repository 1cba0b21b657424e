"""Show a model of the workspace in MLflow: its run, its version, its `staging` alias. Found by content, made once."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from dovetail.compiling import compiled_model, to_onnx
from dovetail.errors import DovetailError
from dovetail.gates import rules
from dovetail.gates.evidence import Evidence
from dovetail.gates.rules import Verdict
from dovetail.repo.dvc_values import Model
from dovetail.repo.tree import Tree
from dovetail.repo.workspace import open_workspace
from dovetail.system.locks import write_lock
from dovetail.system.processes import in_parallel
from dovetail.tracking.connection import import_mlflow, open_store
from dovetail.tracking.model_package import ModelContent
from dovetail.tracking.run_content import ENVIRONMENT_FILE, LINEAGE_FILE
from dovetail.tracking.store import Run, RunContent, Store, Version
from dovetail.values import environment, tag_keys
from dovetail.values.environment import Environment
from dovetail.values.lineage import Lineage
from dovetail.values.reference import STAGING
from dovetail.values.tag_keys import Provenance


@dataclass(frozen=True, slots=True)
class Projection:
    """All that MLflow is to show of one model, read before MLflow is touched."""

    model: Model
    lineage: Lineage
    provenance: Provenance
    run: RunContent
    artifact: ModelContent
    verdicts: tuple[Verdict, ...]
    moves_staging: bool  # not where git tags say what `staging` names
    number: int | None  # of the version, if it was promoted under one
    to_compile: to_onnx.Order | None = None  # where dvc.yaml asks for it

    @property
    def earns_staging(self) -> bool:
        """Whether `staging` is to name the version, if it names no newer one."""
        return self.moves_staging and all(verdict.passed for verdict in self.verdicts)


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
    onnx: str = ""  # what was said of the compiled model; empty where nobody asked for one

    def as_json(self) -> dict[str, Any]:
        """The answer of `dovetail register --json` for one model."""
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
        }


def register(names: Sequence[str]) -> list[Registration]:
    """Make MLflow show the models `names` (none: all) as they lie in the current workspace, and write their receipts.

    What is there already, by fingerprint and by md5, stays as it is; what an interruption left half done is completed.

    Raises:
        UserError: before anything is written, when a model, its card or its metrics are missing or not recorded.
        StoreError: when MLflow does not take it; running it again goes on from there.
        Busy: when another process holds the lock for five minutes.
    """
    plan = in_parallel(partial(_plan, tuple(names)), import_mlflow)
    done = []
    with write_lock(plan.store_root), open_store(plan.store_root) as store:
        for projection in plan.projections:
            done.append(apply(store, projection))
            _allow(store, projection)
            _write_receipt(plan.root / projection.model.receipt, projection.lineage.fingerprint)
    return done


@dataclass(frozen=True, slots=True)
class _Plan:
    root: Path
    store_root: Path
    projections: list[Projection]


def _plan(names: Sequence[str]) -> _Plan:
    with open_workspace() as workspace:
        tree = workspace.tree
        models = [tree.model(name) for name in names or tree.declared.models]
        return _Plan(workspace.root, workspace.store_root, [project(tree, model, workspace.root) for model in models])


def project(tree: Tree, model: Model, folder: Path) -> Projection:
    """Read all that MLflow is to show of `model` as it is in `tree`; what has to be laid out goes below `folder`."""
    lineage = tree.lineage(model)
    card = tree.card(model)
    metrics = tree.metrics(model, lineage)
    packages = tree.environment
    file = tree.as_file(lineage.artifact, folder)
    allow = tuple(rules.settings(model.gates, rules.PICKLE)["allow"])
    return Projection(
        model=model,
        lineage=lineage,
        provenance=Provenance(
            fingerprint=lineage.fingerprint,
            model_md5=lineage.artifact.md5,
            data={ref.path: ref.md5 for ref in lineage.data},
            env_md5=packages.md5 if packages else None,
            commit=tree.commit.sha if tree.commit else None,
            dirty=tree.dirty,
            stage=tree.stage,
            experiment=tree.experiment,
            signature=card is not None,
        ),
        run=RunContent(
            params=tree.params(lineage),
            metrics=metrics,
            data=lineage.data,
            artifacts=tree.plots(model, lineage, folder),
            texts=_texts(lineage, packages),
            time=tree.time,
        ),
        artifact=ModelContent(
            file=file,
            md5=lineage.artifact.md5,
            card=card,
            requirements=environment.requirements(card.get("packages") if card else None, packages),
            allow=allow,
        ),
        verdicts=tuple(rules.evaluate(model.gates, Evidence(metrics, has_signature=card is not None))),
        moves_staging=(model.name, STAGING) not in tree.ledger.aliases,
        number=tree.ledger.number(model.name, lineage.artifact.md5),
        to_compile=to_onnx.Order(str(file), allow, _types(card), tuple(_evaluated(tree, lineage, folder)))
        if to_onnx.is_wanted(model.name, model.serving) and tree.experiment is None
        else None,
    )


def _types(card: Mapping[str, Any] | None) -> dict[str, str] | None:
    try:
        return {column["name"]: column["dtype"] for column in card["inputs"]} if card else None
    except (KeyError, TypeError):  # making the version says so
        return None


def _evaluated(tree: Tree, lineage: Lineage, folder: Path) -> Iterator[tuple[str, str]]:
    """The tables that the model was evaluated on, as far as they are to be had, with their names."""
    from dovetail.values.tables import has_frame

    for ref in (ref for ref, role in lineage.data.items() if role == "evaluation" and has_frame(ref.path)):
        with suppress(DovetailError):
            yield str(tree.as_file(ref, folder)), ref.path


def apply(store: Store, projection: Projection) -> Registration:
    """Carry a projection out: run, version and `staging`."""
    done = record(store, projection)
    if done.version is None:
        return done
    name = projection.model.name
    aliases = move_staging(store, name, done.version) if projection.earns_staging else store.aliases(name)
    return replace(done, aliases=tuple(sorted(alias for alias, number in aliases.items() if number == done.version)))


def record(store: Store, projection: Projection) -> Registration:
    """Make the run and the version. An experiment makes a run alone: a sweep of fifty must not make fifty versions."""
    model, tags = projection.model, projection.provenance.tags()
    experiment = projection.provenance.experiment
    place = store.experiment(model.name)
    run = found = store.find_run(place, projection.lineage.fingerprint)
    run = _live(store, projection.lineage, found, tags)
    if run is None:
        name = experiment or f"{model.name}-{projection.lineage.fingerprint[:8]}"
        run = store.create_run(place, name, tags, projection.run.time)
    model_id = None
    if not run.complete:
        store.fill_run(run, projection.run)
        model_id = logged_model(store, run, projection)
        store.link_model(run, model_id)
        store.finish_run(run, projection.run.time)
    version, created, verdict = None, False, ""
    if experiment is None:
        version = store.find_version(model.name, projection.artifact.md5)
        if version is None:
            model_id = model_id or logged_model(store, run, projection)
            if projection.number:
                store.skip_numbers(model.name, projection.number)
            allowed = {tag_keys.PICKLE_ALLOW: ",".join(projection.artifact.allow)} if projection.artifact.allow else {}
            version, created = store.create_version(model.name, model_id, run, tags | allowed, model.desc), True
        verdict = compile_version(store, version, projection)
    return Registration(
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


def compile_version(store: Store, version: Version, projection: Projection, *, anew: bool = False) -> str:
    """Compile the version's model where dvc.yaml asks for it and that was not done, or is to be done `anew`.

    Returns what is said of it: whether the compiled model says the same as the model.
    """
    if projection.to_compile is None or (to_onnx.is_final(version.onnx) and not anew):
        return version.onnx
    outcome = to_onnx.run(projection.to_compile)
    if to_onnx.is_final(version.onnx) and not to_onnx.is_final(outcome.verdict):
        return version.onnx  # what was said counts on: its file is used if it is still there, by its digest
    tags = {}
    if outcome.content:
        store.lay_beside(version, compiled_model.FILE, outcome.content)
        tags[tag_keys.ONNX_MD5] = hashlib.md5(outcome.content, usedforsecurity=False).hexdigest()
    store.tag_version(version, tags | {tag_keys.ONNX: outcome.verdict})  # the verdict last: with it, it is done
    return outcome.verdict


def _allow(store: Store, projection: Projection) -> None:
    """Let the version's loader accept what the workspace's gates allow now, where that was something else before."""
    version = store.find_version(projection.model.name, projection.artifact.md5)
    allowed = ",".join(projection.artifact.allow)
    if version is not None and version.allow != allowed:
        store.lay_anew(version, projection.artifact)
        store.tag_version(version, {tag_keys.PICKLE_ALLOW: allowed})


def _live(store: Store, lineage: Lineage, found: Run | None, tags: Mapping[str, str]) -> Run | None:
    """The run that the training script opened itself, adopted; `found` where there is one already.

    The last of the last execution made the bytes that lie there. What else that execution made is shown below it; what
    earlier ones made of the same inputs are repeats, as all are once a run is found: into MLflow's trash.
    """
    live = store.live_runs(lineage.maker.inputs) if lineage.maker else []
    last = None if found or not live else live[-1]
    repeats = [other for other in live if last is None or other.execution != last.execution]
    for other in live:
        if last and other not in repeats and other != last:
            store.nest_run(other.run, last.run)
    run = store.adopt_run(last.run, tags) if last else found
    for repeat in repeats:
        store.delete_run(repeat.run)
    return run


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


def _texts(lineage: Lineage, packages: Environment | None) -> dict[str, str]:
    """What the run keeps so that it can be explained without git: the stages' records and the packages."""
    texts = {LINEAGE_FILE: json.dumps(lineage.as_json(), indent=2) + "\n"}
    return texts | {ENVIRONMENT_FILE: packages.text} if packages else texts


def _write_receipt(path: Path, fingerprint: str) -> None:
    """The proof for DVC that MLflow was filled: content and nothing of this machine, so that a clone's is the same."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text(json.dumps({"fingerprint": fingerprint}) + "\n", encoding="utf-8")
    temporary.replace(path)
