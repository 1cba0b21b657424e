"""What people read of a run and its version, kept current: descriptions, and the readable ones of their tags.

`values.description` and `values.readable_tags` say what git, DVC and MLflow know. They are written where they changed,
and the words of others in them stay. What is said of a run comes from git, DVC and the run itself, so that a store
that is made anew says the same.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from dovetail.errors import UserError
from dovetail.gates import rules
from dovetail.gates.evidence import Evidence
from dovetail.registration.resolve import first_commit_of
from dovetail.registration.row_counts import RowCounts
from dovetail.repo.dvc_values import Model
from dovetail.repo.git_values import Commit
from dovetail.repo.ledger import FORCE, PROMOTE, ROLLBACK, Event, Ledger
from dovetail.repo.tree import Tree
from dovetail.repo.workspace import Workspace
from dovetail.tracking.store import Run, RunDetails, Store, Version
from dovetail.values import description, readable_tags, tag_keys
from dovetail.values.description import CommitFact, DataFact, EventFact, Facts, GateFact, LookFact
from dovetail.values.description_block import merged
from dovetail.values.lineage import FileRef, Lineage
from dovetail.values.tag_layout import TagChange

_FEWER = (6, 3, 0)  # lines of each list, where MLflow takes no more


@dataclass(frozen=True, slots=True)
class Subject:
    """What git and DVC say of a model's state.

    Attributes:
        commit: The first commit that holds it; None where none does, or where it is not known.
        find_commit: Gives the commit of a sha.
        rows: Counts those of a data file, where that can be done here.
    """

    model: Model
    lineage: Lineage
    ledger: Ledger
    find_commit: Callable[[str], Commit | None]
    commit: Commit | None = None
    experiment: str | None = None
    rows: Callable[[FileRef, Lineage], int | None] = lambda _ref, _lineage: None

    @property
    def events(self) -> list[Event]:
        """What git's tags say of these bytes, oldest first."""
        return self.ledger.of_bytes(self.model.name, self.lineage.artifact.md5)


def subject(tree: Tree, model: Model, lineage: Lineage) -> Subject:
    """The model as it is in `tree`."""
    is_commit = tree.time is not None and tree.experiment is None  # what HEAD holds, only `sync` looks up
    commit = tree.commit if is_commit else None
    return Subject(model, lineage, tree.ledger, tree.find_commit, commit, tree.experiment)


@dataclass
class Descriptions:
    """What a walk through commits, oldest first, finds to be described.

    The first commit that holds a state is its commit; gates and the description in dvc.yaml are those of the last.
    """

    subjects: dict[tuple[str, str], Subject] = field(default_factory=dict)  # by model and fingerprint
    places: dict[tuple[str, str], tuple[Run, Version | None]] = field(default_factory=dict)

    def see(self, one: Subject) -> None:
        """Note that a tree holds this."""
        key = one.model.name, one.lineage.fingerprint
        before = self.subjects.get(key)
        if before is None or (before.experiment and not one.experiment):
            self.subjects[key] = one
        elif not one.experiment:
            self.subjects[key] = replace(one, commit=before.commit or one.commit)

    def found(self, lineage: Lineage, run: Run, version: Version | None) -> None:
        """Note where MLflow shows it."""
        key = lineage.model, lineage.fingerprint
        known = self.places.get(key, (run, None))[1]
        self.places[key] = run, version or known

    def write(self, store: Store, counts: RowCounts) -> None:
        """Describe all of it."""
        for key, (run, version) in self.places.items():
            describe(store, replace(self.subjects[key], rows=counts.of), run, version)


def readable(one: Subject, metrics: Mapping[str, float], facts: Mapping[str, str]) -> dict[str, str]:
    """What a run and a version show first from their first moment on: these tags are to be the first ones."""
    made = Run("", complete=False, experiment="", tags=facts, metrics=metrics)
    said = readable_tags.of_run(_facts(one, made, None, _commit(one, facts)))
    return dict(readable_tags.change({}, said).set)


def describe(store: Store, one: Subject, run: Run | RunDetails, version: Version | None) -> None:
    """Write what people read of the run and of its version, where it is not what it should be."""
    commit = _commit(one, run.tags)
    facts = _facts(one, run, version, commit)
    note = _text(facts, run.tags.get(tag_keys.NOTE, ""))
    changed = {tag_keys.NOTE: note} if note is not None else {}
    if commit and run.tags.get(tag_keys.COMMITTED) != commit.sha:
        changed[tag_keys.COMMITTED] = commit.sha
    tags = readable_tags.change(run.tags, readable_tags.of_run(facts))
    if changed or tags:
        store.describe_run(run.id, TagChange({**tags.set, **changed}, tags.delete))
    if version and version.run_id == run.id:
        said = readable_tags.of_version(facts)
        if changed := {key: text for key, text in said.items() if version.tags.get(key) != text}:
            store.tag_version(version, changed)
        text = _text(facts, version.description, one.model.desc or "")
        if text is not None:
            store.describe_version(version, text)


def update_description(workspace: Workspace, store: Store, name: str, number: int | None) -> None:
    """Write the descriptions of a version and of its run, after something was found out or decided about it."""
    model = workspace.tree.declared.models.get(name)
    version = store.version(name, number) if number else None
    run = store.run(version.run_id) if version else None
    lineage = store.lineage(run.id) if run else None
    if model is None or run is None or not run.active or lineage is None:
        return  # it was not made here, or is to be repaired first
    one = Subject(model, lineage, workspace.read_ledger(), workspace.git.commit, rows=RowCounts(workspace).of)
    if not one.events and tag_keys.COMMITTED not in run.tags:
        one = replace(one, commit=first_commit_of(workspace, lineage))
    describe(store, one, run, version)


def _text(facts: Facts, existing: str, former: str = "") -> str | None:
    """The new description; None where it stays as it is."""
    headline = description.headline(facts)
    texts = (merged(existing, headline, description.body(facts, most), former=former) for most in _FEWER)
    text = next((text for text in texts if text is not None), existing)
    return None if text == existing else text


def _commit(one: Subject, tags: Mapping[str, str]) -> Commit | None:
    """The commit that was promoted last, else the one that is known, else the one that was known before."""
    sha = one.events[-1].tag.commit if one.events else None
    if sha is None and one.commit is None:
        sha = tags.get(tag_keys.COMMITTED)
    return one.find_commit(sha) if sha else one.commit


def _facts(one: Subject, run: Run | RunDetails, version: Version | None, commit: Commit | None) -> Facts:
    return Facts(
        model=one.model.declared_name,
        version=version.number if version else None,
        about=one.model.desc or "",
        experiment=one.experiment,
        metrics=run.metrics,
        gates=tuple(_gates(one, run)),
        data=tuple(_data(one, run, version)),
        commit=CommitFact(commit.sha, commit.summary, commit.author) if commit else None,
        events=tuple(_events(one, version)),
        looks=tuple(_looks(version)) if version else (),
    )


def _data(one: Subject, run: Run | RunDetails, version: Version | None) -> Iterator[DataFact]:
    """The data with their rows: as they were counted, here or where the data were, else counted now."""
    said = description.rows_said(f"{run.tags.get(tag_keys.NOTE, '')}\n{version.description if version else ''}")
    for ref, role in one.lineage.data.items():
        rows = description.rows_of(ref, said)  # it was counted once: the same bytes have no other number
        yield DataFact(ref, role, one.rows(ref, one.lineage) if rows is None else rows)


def _gates(one: Subject, run: Run | RunDetails) -> Iterator[GateFact]:
    """The verdicts of the last promotion; where there is none, those that need nothing but the metrics."""
    judged = next((event.note.gates for event in reversed(one.events) if event.note and event.note.gates), None)
    if judged is not None:
        yield from (_gate(gate) for gate in judged)
        return
    gates = one.model.gates
    named = {name: run.metrics.get(tag_keys.shown_name(name)) for gate in gates for name in _metrics_of(gate)}
    metrics = {**run.metrics, **{name: value for name, value in named.items() if value is not None}}
    has_signature = tag_keys.Provenance.signature_in(run.tags)
    try:
        verdicts = rules.evaluate(gates, Evidence(metrics, has_signature=has_signature))
    except UserError:  # `register` and `promote` say so
        return
    for verdict in verdicts:
        yield GateFact(verdict.name, verdict.passed, verdict.value, verdict.limit)


def _metrics_of(gate: str) -> tuple[str, ...]:
    return gate, f"{gate}_low", f"{gate}_high"


def _gate(said: Mapping[str, Any]) -> GateFact:
    """A verdict as a tag has it; anybody can write a tag."""
    value = said.get("value")
    number = float(value) if isinstance(value, int | float) else None
    return GateFact(str(said.get("name", "")), said.get("passed") is True, number, str(said.get("limit", "")))


def _events(one: Subject, version: Version | None) -> Iterator[EventFact]:
    said = {
        PROMOTE: "Promoted to {}",
        FORCE: "Promoted to {} against its gates",
        ROLLBACK: "Made {} again by a rollback",
    }
    md5 = one.lineage.artifact.md5
    for event in one.ledger.of(one.model.name):
        note = event.note
        if note is None:
            continue
        if note.md5 == md5 and event.kind in said:
            yield _event(event, said[event.kind].format(event.alias))
        elif event.kind == ROLLBACK and version and note.before == version.number:
            yield _event(event, f"Taken back from {event.alias}")


def _event(event: Event, said: str) -> EventFact:
    reason = event.note.reason if event.note else ""
    actor = event.tag.actor.partition(" <")[0]  # without the address
    return EventFact(said, event.time, actor, event.tag.name, reason)


def _looks(version: Version) -> Iterator[LookFact]:
    if monitoring := tag_keys.Monitoring.parse(version.tags):
        yield LookFact("Monitored", monitoring.verdict, monitoring.time)
    if reproduced := tag_keys.Reproduction.parse(version.tags):
        yield LookFact("Reproduced", reproduced.verdict, reproduced.time)
