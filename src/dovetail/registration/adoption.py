"""Whether a repository has adopted Dovetail, and which of its models a ref names."""

from collections.abc import Iterable
from contextlib import suppress

from dovetail.errors import DovetailError
from dovetail.repo.tree import Tree
from dovetail.repo.workspace import Workspace


def declares_models(trees: Iterable[Tree]) -> bool:
    """Whether one of the trees declares a model; what cannot be read declares none."""
    return any(_declares(tree) for tree in trees)


def _declares(tree: Tree) -> bool:
    try:
        return bool(tree.declared.models)
    except DovetailError:
        return False


def named(workspace: Workspace) -> frozenset[str]:
    """The fingerprints of the models that the working tree, a branch or a tag names, less those that were taken back.

    What cannot be read names none.
    """
    back = workspace.ledger.taken_back
    tips = workspace.git.commits(["--no-walk", "--branches", "--tags", "--remotes", "HEAD"])
    found, gone = set[str](), set[str]()
    for tree in (workspace.tree, *map(workspace.at, tips)):
        with suppress(DovetailError):
            for model in tree.models.values():
                with suppress(DovetailError):
                    is_gone = tree.commit is not None and (model.name, tree.commit.sha) in back
                    (gone if is_gone else found).add(tree.lineage(model).fingerprint)
    return frozenset(found - gone)
