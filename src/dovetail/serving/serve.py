"""What was typed, as settings: which model, which store, which limits."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dovetail.errors import NotARepository, UserError
from dovetail.repo.git import Git
from dovetail.repo.ledger import read
from dovetail.serving.settings import ENV_TOKENS, MIB, Limits, Settings
from dovetail.tracking.connection import ENV_TRACKING_URI
from dovetail.values.reference import PRODUCTION, ByAlias, ByVersion, parse


def settings(ref: str, *, leave_out: Sequence[str], **wish: Any) -> Settings:
    """The settings of a server for `ref`, a model's alias or version.

    Raises:
        UserError: when `ref` names something that is not served.
    """
    named = parse(ref, frozenset({ref}))
    if not isinstance(named, ByAlias | ByVersion):
        raise UserError(f"{ref} is no alias and no version of a model", "dovetail serve MODEL@production")
    root = _root()
    alias = (named.alias or PRODUCTION) if isinstance(named, ByAlias) else None
    event = read(Git(root).tags()).current(named.model, alias) if alias else None
    return Settings(
        root=root,
        model=named.model,
        alias=alias,
        version=named.version if isinstance(named, ByVersion) else None,
        promoted=event.note.md5 if event and event.note else None,
        host=wish["host"],
        port=wish["port"],
        poll=wish["poll"],
        tokens=tuple(filter(None, (token.strip() for token in os.environ.get(ENV_TOKENS, "").split(",")))),
        limits=Limits(
            body_bytes=wish["max_mb"] * MIB,
            rows=wish["max_rows"],
            waiting=wish["max_waiting"],
            waiting_bytes=max(256, 2 * wish["max_mb"]) * MIB,
            seconds=wish["timeout"],
        ),
        log=root / "monitoring" / named.model if not wish["no_log"] else None,
        leave_out=frozenset(leave_out),
    )


def _root() -> Path:
    """The repository's root. A machine that only serves has no repository, but a server to ask.

    Raises:
        NotARepository: when there is neither.
    """
    try:
        return Git.of_dvc().root
    except NotARepository:
        if ENV_TRACKING_URI in os.environ:
            return Path.cwd()
        raise
