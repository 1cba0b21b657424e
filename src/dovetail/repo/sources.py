"""What every tree of one repository is read from."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dovetail.repo.dvc_values import Model
from dovetail.repo.git import Git
from dovetail.repo.ledger import Ledger
from dovetail.repo.pipeline import Pipeline
from dovetail.repo.storage import Storage

if TYPE_CHECKING:
    from dovetail.repo.revision import Revision


@dataclass(frozen=True, slots=True)
class Sources:
    """What a tree is read from.

    Attributes:
        ledger: Reads git's tags when it is asked for the first time.
        today: The models that are declared now.
        head: The tree of the commit where git stands; None before the first one.
    """

    git: Git
    pipeline: Pipeline
    storage: Storage
    ledger: Callable[[], Ledger]
    today: Callable[[], Mapping[str, Model]]
    head: Callable[[], "Revision | None"]
