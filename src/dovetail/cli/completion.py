"""What a shell is offered when Tab is pressed: names of models, aliases, versions, stages. Nobody waits for MLflow.

It is read without DVC and MLflow, from dvc.yaml, git's tags and a SQLite store, in a tenth of a second.
"""

import sqlite3
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem


class _Name(click.types.StringParamType):
    """A text with an idea of what it may be."""

    def __init__(self, name: str) -> None:
        self.name = name

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """The names that begin so; none where the repository cannot be read."""
        del param
        try:
            names = list(_names(self.name, str(ctx.params.get("model") or "")))
        except Exception:  # noqa: BLE001  (a shell has no use for an error)
            return []
        return [CompletionItem(name) for name in dict.fromkeys(names) if name.startswith(incomplete)]


MODEL, ALIAS, REF, STAGE, VERSION = map(_Name, ("model", "alias", "ref", "stage", "version"))


def _names(kind: str, model: str) -> Iterable[str]:
    from dovetail.repo.git import Git
    from dovetail.values.reference import STANDARD

    root = Git.of_dvc().root
    if kind == "stage":
        return _stages(root)
    models = _models(root)
    if kind == "model":
        return models
    if kind == "alias":
        return [*(alias for _, alias, _ in _registered(root, "aliases")), *STANDARD]
    versions = [(name, str(number)) for name, number, _ in _registered(root, "versions")]
    if kind == "version":
        return [number for name, number in versions if model in ("", name)]
    aliases = [f"{name}@{alias}" for name, alias, _ in _registered(root, "aliases")]
    return [*models, *aliases, *(f"{name}/{number}" for name, number in versions)]


def _models(root: Path) -> list[str]:
    from dovetail.repo.dvc_files import model_names

    return model_names((root / "dvc.yaml").read_bytes())


def _stages(root: Path) -> list[str]:
    """The stages by their names in dvc.lock, where those of `foreach` have their keys, else by those in dvc.yaml."""
    from dovetail.values.documents import load_yaml, mapping

    files = [file for file in (root / "dvc.lock", root / "dvc.yaml") if file.exists()]
    whole = [mapping(load_yaml(file.read_bytes()), file.name) for file in files]
    return [name for content in whole for name in mapping(content.get("stages"), "stages")]


def _registered(root: Path, kind: str) -> list[tuple[str, Any, None]]:
    """Aliases or versions of a SQLite store in the repository; a server is not asked, it may not answer soon."""
    store = root / "mlflow.db"
    if not store.exists():
        return []
    query = {
        "aliases": "SELECT name, alias, NULL FROM registered_model_aliases ORDER BY name, alias",
        "versions": "SELECT name, version, NULL FROM model_versions ORDER BY name, version DESC",
    }[kind]
    with closing(sqlite3.connect(f"{store.as_uri()}?mode=ro", uri=True, timeout=0.2)) as connection:
        return connection.execute(query).fetchall()
