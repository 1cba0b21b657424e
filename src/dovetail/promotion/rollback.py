"""One step back: a tag that names what the alias named before, then the alias. It works with MLflow gone."""

from pathlib import Path
from typing import Any

from dovetail.errors import DovetailError, NothingBehind
from dovetail.repo.git import Git
from dovetail.repo.ledger import ROLLBACK, Event, Note, read, write
from dovetail.system.locks import write_lock
from dovetail.tracking.connection import has_store, open_store


def rollback(model: str, alias: str, reason: str = "", start: Path | None = None) -> dict[str, Any]:
    """The answer of `dovetail rollback`: the alias names what it named before its last promotion.

    The tag is the truth; where MLflow does not answer, `alias_moved` is false and `sync` moves the alias later.

    Raises:
        NothingBehind: when there is no step to go back.
        TagExists, TagRefused: when the tag cannot be made; nothing has changed then.
    """
    git = Git.of_dvc(start)
    with write_lock(git.root):
        ledger = read(git.tags())
        current, back = ledger.current(model, alias), ledger.previous(model, alias)
        if back is None or current is None:
            named = f"only {current.tag.name} ever named it" if current else "no tag names it"
            raise NothingBehind(f"{model}@{alias} has nothing behind: {named}", f"dovetail history {model}")
        md5 = _md5(git, back)
        note = Note(ROLLBACK, back.version, current.version, md5, reason)
        tag = write(git, model, alias, back.tag.commit, note)
        number, problem = _follow(git.root, model, alias, md5)
    return {
        "model": model,
        "alias": alias,
        "version": number or back.version,
        "from": current.version,
        "to": number or back.version,
        "promoted": True,
        "tag": tag,
        "alias_moved": problem is None,
        "problem": problem,
        "next": "dovetail sync" if problem else None,
    }


def _md5(git: Git, event: Event) -> str:
    """The bytes that an event names; those of an assignment made with plain GTO are in its commit's dvc.lock."""
    if event.note:
        return event.note.md5
    from dovetail.repo.workspace import open_workspace

    with open_workspace(git.root) as workspace:
        return workspace.bytes_at(event.model, event.tag.commit)


def _follow(root: Path, model: str, alias: str, md5: str) -> tuple[int | None, str | None]:
    """Move the alias in MLflow; else say why it stays where it is."""
    if not has_store(root):
        return None, "MLflow has no store yet"
    try:
        with open_store(root) as store:
            version = store.find_version(model, md5)
            if version is None:
                return None, f"MLflow has no version of {model} with md5 {md5}"
            store.set_alias(model, alias, version.number)
            return version.number, None
    except DovetailError as error:
        return None, error.message
