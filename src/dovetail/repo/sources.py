"""What every tree of one repository is read from."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from dovetail.repo.checked_out import CheckedOut
from dovetail.repo.dvc_values import Model
from dovetail.repo.git import Git
from dovetail.repo.ledger import Ledger
from dovetail.repo.pipeline import Pipeline
from dovetail.repo.storage import Storage


class DeclaringTree(Protocol):
    """The tree of a commit, asked whether DVC, which has read the working tree, has read the same there."""

    def declares_what_is_here(self, key: tuple[object, ...]) -> bool:
        """Whether `key` names what DVC reads of the commit's pipeline, and the working tree has that and no more."""


@dataclass(frozen=True, slots=True)
class Sources:
    """What a tree is read from.

    Attributes:
        ledger: Reads git's tags when it is asked for the first time.
        today: The models that are declared now.
        here: What git says of the working tree.
        head: The tree of the commit where git stands; None before the first one.
    """

    git: Git
    pipeline: Pipeline
    storage: Storage
    here: CheckedOut
    ledger: Callable[[], Ledger]
    today: Callable[[], Mapping[str, Model]]
    head: Callable[[], DeclaringTree | None]
