"""Models and aliases by name: what git's tags, dvc.yaml and MLflow know of, before something is asked of it or made."""

from typing import TYPE_CHECKING

from dovetail.errors import UnknownAlias
from dovetail.repo.ledger import Ledger
from dovetail.values.names import nearest, unknown
from dovetail.values.reference import PRODUCTION, STANDARD

if TYPE_CHECKING:
    from dovetail.repo.workspace import Workspace
    from dovetail.tracking.store import Store


def check_named(workspace: "Workspace", ledger: Ledger, model: str, alias: str | None) -> None:
    """Check the names of what has no event in the ledger.

    Raises:
        UnknownModel: when the model has none at all, and dvc.yaml does not declare it.
        UnknownAlias: when the model never had this alias, which is none of the usual ones.
    """
    told = ledger.all_events(model)
    if not told and not workspace.declares(model):
        workspace.tree.model(model)
    if alias not in (None, *STANDARD, *(event.alias for event in told)):
        known = [event.alias for event in told]
        raise UnknownAlias(unknown(model, "alias", alias, known or [PRODUCTION]), f"dovetail history {model}")


def check_alias(workspace: "Workspace", store: "Store", model: str, alias: str) -> None:
    """Check that the alias is a usual one, or that some model has or had it.

    Raises:
        UnknownAlias: when nobody ever used it: most likely another one is meant.
    """
    used = [*STANDARD[:2], *(event.alias for event in workspace.ledger.events)]
    if alias in (*STANDARD, *used) or alias in store.aliases(model):
        return
    used += [one for name in workspace.tree.declared.models for one in store.aliases(name)]
    if alias not in used:
        meant = nearest(alias, used)
        instead = f"dovetail promote {model} --to {meant}; " if meant else ""
        raise UnknownAlias(unknown("this repository", "alias", alias, used), f"{instead}a new one is taken with --yes")
