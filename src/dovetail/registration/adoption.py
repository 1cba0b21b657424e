"""Whether a repository uses Dovetail at all: one that does not gets no store."""

from collections.abc import Iterable

from dovetail.errors import DovetailError
from dovetail.repo.tree import Tree


def declares_models(trees: Iterable[Tree]) -> bool:
    """Whether one of the trees declares a model; what cannot be read declares none."""
    return any(_declares(tree) for tree in trees)


def _declares(tree: Tree) -> bool:
    try:
        return bool(tree.declared.models)
    except DovetailError:
        return False
