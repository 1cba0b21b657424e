"""What MLflow lacks of the models in trees, and in which order it is restored: versions get their old numbers."""

from collections.abc import Callable
from dataclasses import dataclass

from dovetail.repo.dvc_values import Model
from dovetail.repo.tree import Tree
from dovetail.values.lineage import Lineage


@dataclass(frozen=True, slots=True, eq=False)
class Restorable:
    """A model in a tree whose run or version MLflow lacks; `number` is that of a version that was promoted."""

    tree: Tree
    model: Model
    lineage: Lineage
    is_version: bool
    number: int | None


def in_order(missing: list[Restorable], next_number: Callable[[str], int]) -> list[Restorable]:
    """As they came, except that experiments are first, and that a promoted version comes no later than its number.

    A commit that was an experiment before is shown by the experiment's run, under its name: as it was when it was made.
    What was never committed took a number too, so there may be too few before it: `skip_numbers` uses up the rest.
    Where there are too many before it, they come after.
    """
    missing = sorted(missing, key=lambda one: one.is_version)
    ordered: dict[Restorable, None] = {}
    for name in dict.fromkeys(one.model.name for one in missing):
        mine = [one for one in missing if one.model.name == name]
        promoted = sorted((one for one in mine if one.number), key=lambda one: one.number or 0)
        number = next_number(name)
        for one in mine:
            due = [first for first in promoted if (first.number or 0) <= number and first not in ordered]
            for first in (*due, one):
                if first not in ordered:
                    ordered[first] = None
                    number = max(number, first.number or 0) + first.is_version
    return list(ordered)
