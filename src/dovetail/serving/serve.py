"""`dovetail serve`: a server for aliases or versions of models, until it is asked to end."""

import logging
import os
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from dovetail.errors import MissingPackage, NotARepository, OutsideError, UserError
from dovetail.repo.git import Git
from dovetail.serving.log import object_store, packages
from dovetail.serving.log.location import S3Folder, log_folder
from dovetail.serving.settings import DELTA, ENV_TOKENS, ServeOptions, Settings
from dovetail.serving.trust_file import check_trust
from dovetail.tracking.connection import ENV_TRACKING_URI
from dovetail.values.age import age
from dovetail.values.reference import PRODUCTION, ByAlias, ByVersion, parse


@dataclass(frozen=True, slots=True)
class ServeRequest:
    """What to serve: `refs` are aliases or versions, each of another model."""

    refs: tuple[str, ...]
    options: ServeOptions = field(default_factory=ServeOptions)


def serve(request: ServeRequest, tell: Callable[[str], None]) -> None:
    """Serve until SIGTERM or Ctrl-C; `tell` hears the address and the versions once the first request is answered.

    From then on standard error gets a line with the time for each move to another version, and for what goes wrong.

    Raises:
        UserError: when a ref names something that is not served, or it would listen to the network without a token.
        MissingPackage: when what `dovetail-ml[serve]` brings is not installed.
        OutsideError: when the port is taken, or there is nothing to serve.
    """
    try:
        from dovetail.serving.http.server import run
    except ModuleNotFoundError as error:
        what = f"serving needs the package {error.name}, which is not installed"
        raise MissingPackage(what, "pip install 'dovetail-ml[serve]'") from error

    models = _each(request)
    _log_to_stderr()
    run(models, tell)


def _log_to_stderr() -> None:
    form = logging.Formatter("%(asctime)s %(message)s", "%Y-%m-%dT%H:%M:%SZ")
    form.converter = time.gmtime
    handler = logging.StreamHandler()
    handler.setFormatter(form)
    log = logging.getLogger(__package__)
    log.addHandler(handler)
    log.setLevel(logging.INFO)


def _each(request: ServeRequest) -> list[Settings]:
    """The settings of the server for each model.

    Raises:
        UserError: when a ref names something that is not served, two name one model, or the trust file is none.
    """
    found = [settings(ref, request.options) for ref in request.refs]
    names = [each.model for each in found]
    for each in found:
        if names.count(each.model) > 1:
            also = next(other for other in found if other.model == each.model and other is not each)
            what = f"{each.what} and {also.what} are one model; a server has one path for each"
            raise UserError(what, f"dovetail serve {also.what} --port 5002")
    columns_of: dict[str, frozenset[str] | None] = dict.fromkeys(names)
    return [replace(each, columns_of=columns_of) for each in found]


def settings(ref: str, options: ServeOptions, verb: str = "serve", start: Path | None = None) -> Settings:
    """The settings for one model, with what the current folder (or `start`) and the environment say.

    Raises:
        UserError: when `ref` names something that is not served, or the trust file is none.
    """
    named = parse(ref, None)
    if not isinstance(named, ByAlias | ByVersion):
        raise UserError(f"{ref} is neither an alias nor a version of a model", f"dovetail {verb} MODEL@production")
    root, has_ledger = _root(start)
    if options.trust:
        check_trust(Path(options.trust))
    alias = (named.alias or PRODUCTION) if isinstance(named, ByAlias) else None
    log = None if options.no_log else log_folder(root, named.model)
    if isinstance(log, S3Folder) or (log and options.log_as == DELTA):
        packages.deltalake(), packages.obstore()
        object_store.check_name(log)
    if isinstance(log, S3Folder):
        with suppress(OutsideError):  # it is away: rows wait in memory, and /health says why
            object_store.check(log)
    log_age = age(options.keep)
    if options.keep and (not log_age or options.keep.strip()[-1] not in "dw"):  # 3m is meant as months
        what = f"--keep {options.keep!r} is not a number of days or weeks"
        raise UserError(what, f"dovetail {verb} {ref} --keep 90d")
    return Settings(
        root=root,
        model=named.model,
        alias=alias,
        version=named.version if isinstance(named, ByVersion) else None,
        ledger=root if has_ledger else None,
        options=options,
        tokens=tuple(filter(None, (token.strip() for token in os.environ.get(ENV_TOKENS, "").split(",")))),
        log=log,
        log_age=log_age,
    )


def _root(start: Path | None) -> tuple[Path, bool]:
    """The repository's root, and whether it is one.

    A machine that only serves has no repository, but a tracking server to ask.

    Raises:
        NotARepository: when there is neither.
    """
    try:
        return Git.of_dvc(start).root, True
    except NotARepository:
        if ENV_TRACKING_URI in os.environ:
            return start or Path.cwd(), False
        raise
