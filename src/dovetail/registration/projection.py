"""What MLflow is to show of a model, read from git and DVC before MLflow is touched."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from dovetail.compiling import to_onnx
from dovetail.errors import DovetailError
from dovetail.gates import rules
from dovetail.gates.evidence import Evidence
from dovetail.gates.gate_verdict import Verdict
from dovetail.models.folder_model import has_own_signature
from dovetail.models.reader import packages_of
from dovetail.registration.describe import Subject, subject
from dovetail.registration.result_tables import result_tables
from dovetail.repo.dvc_values import Model
from dovetail.repo.git import Git
from dovetail.repo.note import Note
from dovetail.repo.tree import Tree
from dovetail.tracking.model_package import ModelContent
from dovetail.tracking.package_parts import pins
from dovetail.tracking.run_content import ENVIRONMENT_FILE, LINEAGE_FILE
from dovetail.tracking.store import RunContent
from dovetail.values import computing, environment, stage_settings
from dovetail.values.environment import Environment
from dovetail.values.lineage import FileRef, Lineage
from dovetail.values.reference import STAGING
from dovetail.values.span import Span
from dovetail.values.tag_keys import Provenance
from dovetail.values.trials import trials_of


@dataclass(frozen=True, slots=True)
class Projection:
    """All that MLflow is to show of one model."""

    model: Model
    lineage: Lineage
    provenance: Provenance
    run: RunContent
    artifact: ModelContent
    verdicts: tuple[Verdict, ...]
    moves_staging: bool  # not where git tags say what `staging` names
    number: int | None  # of the version, if it was promoted under one
    subject: Subject  # what its descriptions say besides
    to_compile: to_onnx.CompileRequest | None = None  # where dvc.yaml asks for it
    makers: frozenset[str] = frozenset()  # names of the stages upstream that make other models
    computing: Mapping[str, str] = field(default_factory=dict)  # what this machine computes with, and what stages set

    @property
    def earns_staging(self) -> bool:
        """Whether `staging` is to name the version, if it names no newer one."""
        return self.moves_staging and all(verdict.passed for verdict in self.verdicts)

    def with_value(self, value: str | None) -> "Projection":
        """The same, with the digest of what the model is."""
        return replace(self, provenance=replace(self.provenance, value=value))

    def with_rows(self, count: Callable[[FileRef, Lineage], int | None]) -> "Projection":
        """The same, with who counts the rows of its data."""
        return replace(self, subject=replace(self.subject, rows=count))

    def with_git(self, git: Git) -> "Projection":
        """The same, which asks `git` for commits."""
        return replace(self, subject=replace(self.subject, find_commit=git.commit))

    def with_span(self, span: Span | None) -> "Projection":
        """The same, with when the stage ran that made the model."""
        return replace(self, run=replace(self.run, span=span))

    def with_computing(self, facts: Mapping[str, str]) -> "Projection":
        """The same, with what this machine computes with: it stands beside the packages."""
        if not facts or ENVIRONMENT_FILE not in self.run.texts:
            return self
        packages = self.run.texts[ENVIRONMENT_FILE].removesuffix(computing.text(self.computing))
        texts = {**self.run.texts, ENVIRONMENT_FILE: packages + computing.text(facts)}
        provenance = replace(self.provenance, computing_md5=computing.digest(facts))
        return replace(self, provenance=provenance, run=replace(self.run, texts=texts), computing=facts)

    def with_stages_computing(self, said: Mapping[str, Mapping[str, str]]) -> "Projection":
        """The same, with what single stages set for themselves; `said` is what their processes said, by their name."""
        if not self.computing:
            return self
        own = stage_settings.of_stages(self.lineage.stages, self.computing, said)
        return self.with_computing({**self.computing, **own})


def project(tree: Tree, model: Model, folder: Path) -> Projection:
    """Read all that MLflow is to show of `model` as it is in `tree`; files are written below `folder`."""
    lineage = tree.lineage(model)
    card = tree.card(model)
    metrics = tree.metrics(model, lineage)
    packages = tree.environment
    file = tree.as_file(lineage.artifact, folder)
    promoted = _promoted(tree, model, lineage)
    has_signature = card is not None or has_own_signature(file)
    allow = tuple(
        dict.fromkeys([*rules.settings(model.gates, rules.PICKLE)["allow"], *(promoted.allow if promoted else ())])
    )
    plots = tree.plots(model, lineage, folder)
    tables = result_tables(tree, model, lineage, plots)
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
            signature=has_signature,
        ),
        run=RunContent(
            params=tree.params(lineage),
            metrics=metrics,
            data=lineage.data,
            artifacts=plots,
            texts=_texts(lineage, packages) | tables,
            tables=tuple(tables),
            time=tree.time,
            trials=trials_of(card),
        ),
        artifact=ModelContent(
            file=file,
            md5=lineage.artifact.md5,
            card=card,
            requirements=(promoted.requirements if promoted else ())
            or (pins(file) if file.is_dir() else environment.requirements(_packages(card, file), packages)),
            allow=allow,
        ),
        verdicts=tuple(rules.evaluate(model.gates, Evidence(metrics, has_signature=has_signature))),
        moves_staging=(model.name, STAGING) not in tree.ledger.aliases,
        number=tree.ledger.number(model.name, lineage.artifact.md5),
        subject=subject(tree, model, lineage),
        makers=frozenset(
            stage.name
            for stage in lineage.stages
            for other in tree.models.values()
            if other.name != model.name and stage.makes(other.path)
        ),
        to_compile=to_onnx.CompileRequest(str(file), allow, _types(card), tuple(_evaluated(tree, lineage, folder)))
        if to_onnx.is_wanted(model.declared_name, model.serving) and tree.experiment is None
        else None,
    )


def _promoted(tree: Tree, model: Model, lineage: Lineage) -> Note | None:
    """With what the model was promoted: its package is to have the digest that git's tag says."""
    event = tree.ledger.package(model.name, lineage.artifact.md5)
    return event.note if event else None


def _packages(card: Mapping[str, Any] | None, file: Path) -> Sequence[str] | None:
    """The distributions that the model needs, as far as its card or its format says; None: those of scikit-learn."""
    needed = packages_of(file)
    named = card.get("packages") if card else None
    return [*(named or ()), *needed] if needed else named


def _types(card: Mapping[str, Any] | None) -> dict[str, str] | None:
    try:
        return {column["name"]: column["dtype"] for column in card["inputs"]} if card else None
    except (KeyError, TypeError):  # making the version says so
        return None


def _evaluated(tree: Tree, lineage: Lineage, folder: Path) -> Iterator[tuple[str, str]]:
    """The tables that the model was evaluated on, as far as their bytes are available, with their names."""
    from dovetail.values.tables import has_frame

    for ref in (ref for ref, role in lineage.data.items() if role == "evaluation" and has_frame(ref.path)):
        with suppress(DovetailError):
            yield str(tree.as_file(ref, folder)), ref.path


def _texts(lineage: Lineage, packages: Environment | None) -> dict[str, str]:
    """What the run keeps so that it can be explained without git: the stages' records and the packages."""
    texts = {LINEAGE_FILE: json.dumps(lineage.as_json(), indent=2) + "\n"}
    return texts | {ENVIRONMENT_FILE: packages.text} if packages else texts
