"""The copy that a server may start with while MLflow is away: one that something outside of its folder vouches for."""

from dataclasses import dataclass, replace
from pathlib import Path

from dovetail.errors import DovetailError
from dovetail.repo.binding import VersionInMlflow
from dovetail.serving.engine import kept_copies
from dovetail.serving.engine.kept_copies import VersionCopy
from dovetail.serving.settings import Settings
from dovetail.serving.trust import NONE, Trust
from dovetail.tracking.package_digest import package_digest


@dataclass(frozen=True, slots=True)
class FirstCopy:
    """What there is to start with.

    Attributes:
        copy: None where there is none that may be used.
        named: Whether git's tag or the trust file names it for what is served: there is nothing to wait for.
        problem: Why the one that is there is not used; empty where it is, or none is there.
        forged: Whether it is no copy that a server of this user kept, as far as that can be told.
    """

    copy: VersionCopy | None = None
    named: bool = False
    problem: str = ""
    forged: bool = False


def first_copy(settings: Settings) -> FirstCopy:
    """The copy that answered last, if the ledger or the trust file names it, or this user's key signed it."""
    found = kept_copies.last(settings.keep)
    if found is None:
        return FirstCopy()
    copy, signed = found
    trust = Trust(settings.ledger, Path(settings.options.trust) if settings.options.trust else None)
    try:
        vouched = trust.check(VersionInMlflow(settings.model, settings.alias, copy.version, copy.md5))
        whole = kept_copies.is_whole(Path(copy.folder), copy.md5)
        actual = package_digest(Path(copy.folder))
    except (DovetailError, OSError) as error:
        why = error.message if isinstance(error, DovetailError) else str(error)
        return FirstCopy(problem=f"the kept copy {copy.folder} is not used: {why}", forged=not signed)
    signed = signed and copy.package == actual
    if vouched.direct and vouched.trust != NONE:
        problem = ""
        if vouched.package and vouched.package[1] != actual:
            problem = f"its package has sha256 {actual}, and {vouched.package[0]} names {vouched.package[1]}"
    else:
        problem = "" if signed else "no tag and no trust file names it, and this user's key did not sign it"
    if not whole:
        problem = f"its model does not have md5 {copy.md5}"
    if problem:
        return FirstCopy(problem=f"the kept copy {copy.folder} is not used: {problem}", forged=True)
    copy = replace(
        copy,
        package=actual,
        trust=vouched.trust,
        allow=copy.allow if vouched.allow is None else vouched.allow,
        onnx=copy.onnx if signed or vouched.package else None,  # nobody else vouches for the compiled file
    )
    fixed = settings.version is not None and settings.version == copy.version
    return FirstCopy(copy, named=fixed or (vouched.direct and vouched.trust != NONE))
