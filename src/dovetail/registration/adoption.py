"""Which models a tree has: those that it declares, and those of before that the working tree declares today."""

from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import replace

from dovetail.errors import DovetailError
from dovetail.repo.dvc_values import Model
from dovetail.repo.tree import Tree
from dovetail.repo.workspace import Workspace


def declares_models(trees: Iterable[Tree]) -> bool:
    """Whether one of the trees declares a model; what cannot be read declares none."""
    return any(_declares(tree) for tree in trees)


def models_of(tree: Tree, today: Mapping[str, Model]) -> list[Model]:
    """The models that `tree` declares, and those of `today` whose path a stage recorded there already made.

    Nobody can add an `artifacts:` entry to a commit of before: today's is used, without what was not there then.
    """
    declared = tree.declared.models
    taken = {model.path for model in declared.values()}
    found = [_as_of(tree, model) for model in today.values() if model.name not in declared and model.path not in taken]
    return [*declared.values(), *filter(None, found)]


def _as_of(tree: Tree, model: Model) -> Model | None:
    records = tree.records.values()
    if not any(out.path == model.path for record in records for out in record.outs):
        return None
    card = model.card if model.card and any(record.makes(model.card) for record in records) else None
    beside = tuple(path for path in model.beside if any(record.makes(path) for record in records))
    return replace(model, card=card, beside=beside)


def _declares(tree: Tree) -> bool:
    try:
        return bool(tree.declared.models)
    except DovetailError:
        return False


def named(workspace: Workspace) -> frozenset[str]:
    """The fingerprints of the models that the working tree, a branch or a tag names, less those that were taken back.

    What cannot be read names none.
    """
    today, back = workspace.tree.declared.models, workspace.ledger.taken_back
    tips = workspace.git.commits(["--no-walk", "--branches", "--tags", "--remotes", "HEAD"])
    found, gone = set[str](), set[str]()
    for tree in (workspace.tree, *map(workspace.at, tips)):
        with suppress(DovetailError):
            for model in models_of(tree, today):
                with suppress(DovetailError):
                    is_gone = tree.commit is not None and (model.name, tree.commit.sha) in back
                    (gone if is_gone else found).add(tree.lineage(model).fingerprint)
    return frozenset(found - gone)
