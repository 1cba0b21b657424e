"""`dovetail serve`: a server for a model's alias or version, until it is asked to end."""

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from dovetail.errors import MissingPackage, NotARepository, UserError
from dovetail.repo.git import Git
from dovetail.serving.log.location import log_folder
from dovetail.serving.settings import ENV_TOKENS, ServeOptions, Settings
from dovetail.serving.trust_file import check_trust
from dovetail.tracking.connection import ENV_TRACKING_URI
from dovetail.values.reference import PRODUCTION, ByAlias, ByVersion, parse


@dataclass(frozen=True, slots=True)
class ServeRequest:
    """What to serve: `ref` is a model's alias or version."""

    ref: str
    options: ServeOptions = field(default_factory=ServeOptions)


def serve(request: ServeRequest, tell: Callable[[str], None]) -> None:
    """Serve until SIGTERM or Ctrl-C; `tell` hears the address and the version once the first request is answered.

    Raises:
        UserError: when `ref` names something that is not served, or it would listen to the network without a token.
        MissingPackage: when what `dovetail-ml[serve]` brings is not installed.
        OutsideError: when the port is taken, or there is nothing to serve.
    """
    try:
        from dovetail.serving.http.server import run
    except ModuleNotFoundError as error:
        what = f"serving needs the package {error.name}, which is not installed"
        raise MissingPackage(what, "pip install 'dovetail-ml[serve]'") from error

    run(settings(request), tell)


def settings(request: ServeRequest) -> Settings:
    """The settings of the server, with what the current folder and the environment say.

    Raises:
        UserError: when `ref` names something that is not served, or the trust file is none.
    """
    ref, options = request.ref, request.options
    named = parse(ref, frozenset({ref}))
    if not isinstance(named, ByAlias | ByVersion):
        raise UserError(f"{ref} is no alias and no version of a model", "dovetail serve MODEL@production")
    root, has_ledger = _root()
    if options.trust:
        check_trust(Path(options.trust))
    alias = (named.alias or PRODUCTION) if isinstance(named, ByAlias) else None
    return Settings(
        root=root,
        model=named.model,
        alias=alias,
        version=named.version if isinstance(named, ByVersion) else None,
        ledger=root if has_ledger else None,
        options=options,
        tokens=tuple(filter(None, (token.strip() for token in os.environ.get(ENV_TOKENS, "").split(",")))),
        log=None if options.no_log else log_folder(root, named.model),
    )


def _root() -> tuple[Path, bool]:
    """The repository's root, and whether it is one.

    A machine that only serves has no repository, but a tracking server to ask.

    Raises:
        NotARepository: when there is neither.
    """
    try:
        return Git.of_dvc().root, True
    except NotARepository:
        if ENV_TRACKING_URI in os.environ:
            return Path.cwd(), False
        raise
