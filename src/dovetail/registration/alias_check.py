"""Aliases follow the ledger: what its tags say against what MLflow shows, told by content."""

from collections.abc import Iterator
from dataclasses import dataclass

from dovetail.errors import DovetailError, UnknownModel
from dovetail.repo.ledger import Event
from dovetail.repo.workspace import Workspace
from dovetail.tracking.store import Store, Version
from dovetail.values.reference import PRODUCTION


@dataclass(frozen=True, slots=True)
class Disagreement:
    """An alias that MLflow shows otherwise than the ledger says.

    Attributes:
        shown: The number that MLflow's alias names, if any.
        said: The version that the ledger names; None where it was taken back or MLflow does not have it.
        event: The last assignment; None where no tag says anything of the alias.
        why: What is wrong, in words.
    """

    model: str
    alias: str
    shown: int | None
    said: Version | None
    event: Event | None
    why: str


class Followed:
    """The ledger of a workspace, its events resolved to bytes."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self.ledger = workspace.ledger

    def md5(self, event: Event) -> str:
        """The model's bytes that an event names.

        Raises:
            DovetailError: when the commit of an assignment made with plain GTO does not hold the model.
        """
        return event.note.md5 if event.note else self._workspace.bytes_at(event.model, event.tag.commit)

    def disagreements(self, store: Store, models: set[str]) -> Iterator[Disagreement]:
        """Where MLflow's aliases of the models are not what the ledger says."""
        for (model, alias), event in self.ledger.aliases.items():
            if model in models:
                shown = store.aliases(model).get(alias)
                if found := self._compare(store, model, alias, event, shown):
                    yield found
        for model in models:
            number = store.aliases(model).get(PRODUCTION)
            if number is not None and (model, PRODUCTION) not in self.ledger.aliases:
                why = f"@{PRODUCTION} names version {number}, which no tag says: it was moved by hand"
                yield Disagreement(model, PRODUCTION, number, None, None, why)

    def _compare(
        self, store: Store, model: str, alias: str, event: Event | None, shown: int | None
    ) -> Disagreement | None:
        if event is None:
            last = self.ledger.of(model, alias)[-1]
            why = f"@{alias} names version {shown}, and {last.tag.name} took it back"
            return None if shown is None else Disagreement(model, alias, shown, None, last, why)
        try:
            said = store.find_version(model, self.md5(event))
        except DovetailError as error:
            if isinstance(error, UnknownModel) and shown is None:
                return None  # GTO's tag is older than the model's entry in dvc.yaml: there is nothing to follow
            return Disagreement(model, alias, shown, None, event, f"{event.tag.name}: {error.message}")
        if said is None:
            why = f"MLflow has no version with the bytes that {event.tag.name} names"
            return Disagreement(model, alias, shown, None, event, why)
        names = f"names version {shown}" if shown else "names nothing"
        why = f"@{alias} {names} in MLflow, {event.tag.name} says version {said.number}"
        return None if shown == said.number else Disagreement(model, alias, shown, said, event, why)
