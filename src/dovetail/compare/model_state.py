"""The state of a model: as a version, a run, a commit, an experiment or the workspace has it."""

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from dovetail.errors import UnknownReference, UserError
from dovetail.registration.resolve import commit_of, resolve
from dovetail.repo.dvc_values import Model
from dovetail.repo.git_values import Commit
from dovetail.repo.tree import Tree
from dovetail.repo.working_tree import WorkingTree
from dovetail.repo.workspace import WORKSPACE, Workspace
from dovetail.tracking.connection import Tracking
from dovetail.tracking.run_content import ENVIRONMENT_FILE
from dovetail.tracking.store import Store
from dovetail.values.environment import Environment, pinned
from dovetail.values.lineage import Lineage
from dovetail.values.names import unknown
from dovetail.values.reference import ByAlias, ByCommit, ByDigest, ByPath, ByRun, ByVersion, Reference, parse
from dovetail.values.tag_keys import shown_name


@dataclass(frozen=True, slots=True)
class ModelState:
    """What is known of a model in one place.

    Attributes:
        ref: what was typed.
        kind: `version`, `run`, `commit`, `experiment` or `workspace`.
        metrics: under the names that MLflow shows.
        environment: None where nothing says which packages there were.
        gates: as declared there, of a version or a run in its commit; None where nothing says.
        has_card: whether a card describes the model's signature; None where nothing says.
        commit: whose files of git belong to it; of the workspace HEAD.
        dirty: of the workspace: whether a tracked file differs from HEAD.
    """

    ref: str
    kind: str
    lineage: Lineage
    metrics: Mapping[str, float] = field(default_factory=dict)
    environment: Environment | None = None
    gates: Mapping[str, Any] | None = None
    has_card: bool | None = None
    commit: Commit | None = None
    dirty: bool | None = None
    experiment: str | None = None
    version: int | None = None
    aliases: tuple[str, ...] = ()
    run_id: str | None = None

    def as_json(self) -> dict[str, Any]:
        """Which state this is, in the answer of `dovetail diff --json`."""
        return {
            "ref": self.ref,
            "kind": self.kind,
            "model": self.lineage.model,
            "md5": self.lineage.artifact.md5,
            "fingerprint": self.lineage.fingerprint,
            "version": self.version,
            "aliases": list(self.aliases),
            "run_id": self.run_id,
            "commit": self.commit.sha if self.commit else None,
            "dirty": self.dirty,
            "experiment": self.experiment,
        }


def read_states(workspace: Workspace, tracking: Tracking, a: str | None, b: str) -> tuple[ModelState, ModelState]:
    """The two states that are named; None: the model's production, else staging.

    A revision without a model means the model of the other state, else the only one that is declared. MLflow is asked
    for versions and runs alone.

    Raises:
        UnknownReference, UnknownModel: naming what there is.
        UserError: when several models are declared and neither reference names one, or a state cannot be read.
        StoreError: when MLflow is asked and does not answer.
    """
    with ExitStack() as stack:
        reader = _Reader(workspace, tracking, stack)
        first, second = (reader.named(a) if a else None), reader.named(b)
        named = first or second
        model = named.lineage.model if named else _only_model(workspace, a)
        if first is None:
            first = reader.revision(a, model) if a else reader.tracked(model, ByAlias(model))
        return first, second or reader.revision(b, model)


def names_no_model(workspace: Workspace, a: str | None, b: str) -> bool:
    """Whether both sides are revisions alone.

    Raises:
        UnknownReference: when one of them is neither a revision nor a model.
    """
    models = frozenset(workspace.tree.declared.models)
    for text in (one for one in (a, b) if one):
        reference = parse(text, models)
        known = isinstance(reference, ByVersion | ByAlias) and reference.model in models
        if known or isinstance(reference, ByCommit | ByRun) or text.startswith("models:/"):
            return False
        try:
            workspace.tree_of(text)
        except UnknownReference:  # the comparison says which name it is that nothing has
            return False
    return True


def _only_model(workspace: Workspace, rev: str | None) -> str:
    models = list(workspace.tree.declared.models)
    if len(models) == 1:
        return models[0]
    known = f"no model is named, and dvc.yaml declares: {', '.join(models) or 'none'}"
    if not models:
        raise UserError(known, "dovetail init")
    raise UserError(known, f"name one on either side: dovetail diff {f'{rev}:' if rev else ''}{models[-1]}")


class _Reader:
    """Reads states; MLflow is opened when the first one needs it."""

    def __init__(self, workspace: Workspace, tracking: Tracking, stack: ExitStack) -> None:
        self._workspace = workspace
        self._tracking = tracking
        self._stack = stack

    @cached_property
    def _store(self) -> Store:
        if not self._tracking.exists:
            raise UnknownReference("there is no MLflow store here to ask for versions and runs", "dovetail sync")
        return self._stack.enter_context(self._tracking.reading())

    def named(self, text: str) -> ModelState | None:
        """The state that `text` names; None where it is a revision without a model."""
        models = frozenset(self._workspace.tree.declared.models)
        reference = parse(text, models)
        if isinstance(reference, ByCommit):
            return self.revision(reference.rev, reference.model, text)
        if isinstance(reference, ByRun) or text.startswith("models:/"):
            return self.tracked(text, reference)
        if isinstance(reference, ByVersion | ByAlias) and reference.model in models:
            return self.tracked(text, reference)
        try:  # a branch may look like a version or an alias of a model that is not declared: `feature/3`
            self._workspace.tree_of(text)
        except UnknownReference as error:
            if not isinstance(reference, ByPath | ByDigest):
                return self.tracked(text, reference)
            known = [
                *self._workspace.tree.declared.models,
                *self._workspace.git.experiments(),
                *self._workspace.git.names(),
            ]
            what = unknown("this repository", "model or revision", text, known)
            raise UnknownReference(what, "dovetail list, or: git log --oneline --all") from error
        return None

    def revision(self, rev: str, model: str, text: str | None = None) -> ModelState:
        """The model of a tree: of the workspace, a commit or an experiment."""
        tree = self._workspace.tree_of(rev)
        return state_in(tree, model, text or f"{rev}:{model}")

    def tracked(self, text: str, reference: Reference) -> ModelState:
        """The version or run that MLflow shows; without a store what the promotions in git's tags say of an alias."""
        if isinstance(reference, ByAlias) and not self._tracking.exists:
            commit, alias = self._promoted(reference)
            if commit:
                return replace(state_in(self._workspace.at(commit), reference.model, text), aliases=(alias,))
        found = resolve(self._workspace, self._store, reference)
        packages = self._store.text(found.run.id, ENVIRONMENT_FILE)
        commit = commit_of(self._workspace, found.lineage, experiments=True)
        declared = self._declared(found.model, commit)
        aliases = self._store.aliases(found.model).items()
        return ModelState(
            ref=text,
            kind="run" if found.version is None else "version",
            lineage=found.lineage,
            metrics=found.run.metrics,
            environment=None if packages is None else pinned(packages),
            gates=declared.gates if declared else None,
            has_card=declared.card is not None if declared else None,
            commit=commit,
            version=found.version,
            aliases=tuple(sorted(alias for alias, number in aliases if number == found.version)),
            run_id=found.run.id,
        )

    def _promoted(self, reference: ByAlias) -> tuple[Commit | None, str]:
        from dovetail.values.reference import PRODUCTION, STAGING

        git = self._workspace.git
        ledger = self._workspace.read_ledger()
        aliases = (reference.alias,) if reference.alias else (PRODUCTION, STAGING)
        named = ((alias, ledger.current(reference.model, alias)) for alias in aliases)
        return next(((git.commit(event.tag.commit), alias) for alias, event in named if event), (None, ""))

    def _declared(self, model: str, commit: Commit | None) -> Model | None:
        """What is declared where the model was made, or here, if that is in no commit."""
        tree = self._workspace.at(commit) if commit else self._workspace.tree
        return tree.models.get(model)


def state_in(tree: Tree, name: str, text: str) -> ModelState:
    """The model `name` as it is in `tree`, by git and DVC alone."""
    model = tree.model(name)
    lineage = tree.lineage(model)
    in_workspace = isinstance(tree, WorkingTree)
    return ModelState(
        ref=text,
        kind=WORKSPACE if in_workspace else "experiment" if tree.experiment else "commit",
        lineage=lineage,
        metrics={shown_name(key): value for key, value in tree.metrics(model, lineage).items()},
        environment=tree.environment,
        gates=model.gates,
        has_card=model.card is not None,
        commit=tree.commit,
        dirty=tree.dirty if in_workspace else None,
        experiment=tree.experiment,
    )
