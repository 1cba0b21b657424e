"""The MLflow side: runs, logged models, versions and aliases, found by content."""

from collections.abc import Iterable
from typing import Any

from dovetail import trash
from dovetail.asking import SQLITE
from dovetail.registry import Registry, Version, columns_of
from dovetail.run_content import SOURCE_TYPE, RunContent
from dovetail.runs import Live, Run, Runs, Shown
from dovetail.trash import Discarded

__all__ = ["SOURCE_TYPE", "SQLITE", "Live", "Run", "RunContent", "Shown", "Store", "Version", "load_model"]


class Store(Runs, Registry):
    """One repository's MLflow store. Every write either happens whole or can be repeated without doubling."""

    def discarded(self, names: Iterable[str]) -> list[Discarded]:
        """What lies in the trash of the experiments `names` and still has bytes, and uploads that never ended."""
        return trash.discarded(self._client, names)

    def empty(self, item: Discarded) -> None:
        """Delete the bytes of what lies in the trash."""
        trash.empty(self._client, item)


def load_model(uri: str, source: str) -> tuple[Any, Any, list[str], list[str]]:
    """What MLflow loads from `source`: the pyfunc model, its input example, its columns and those that may be missing.

    For a process that does nothing else: it unpickles.
    """
    import mlflow

    mlflow.set_tracking_uri(uri)
    model = mlflow.pyfunc.load_model(source)
    return model, model.input_example, *columns_of(model.metadata.signature)
