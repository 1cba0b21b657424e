"""Whether the log keeps of a version what it was told to: looked at when the version is loaded, before it is asked.

A name after --leave-out that is misspelt would leave nothing out, and what was to stay private would lie in the log.
"""

import shlex
from collections.abc import Sequence

from dovetail.errors import UserError
from dovetail.serving.log.location import S3Folder
from dovetail.serving.protocol.signature import Signature
from dovetail.serving.settings import DELTA, Settings
from dovetail.values.names import nearest, unknown


def check_left_out(settings: Settings, version: int, signature: Signature) -> None:
    """Refuse to start with a version that lacks a column which is to be left out of the log.

    Raises:
        UserError: when it lacks one, and no other model of the server can have it.
    """
    lacking = _lacking(settings, signature)
    if len(settings.columns_of) > 1 or not lacking:
        return
    columns = [column.name for column in signature.columns or ()]
    right = [
        shlex.quote(nearest(name, columns) or "COLUMN") if name in lacking else shlex.quote(name)
        for name in settings.options.leave_out
    ]
    options = " ".join(f"--leave-out {name}" for name in right)
    raise UserError(_lacks(settings.model, version, lacking, columns), f"dovetail serve {settings.what} {options}")


def problem(settings: Settings, version: int, signature: Signature) -> str:
    """What the log does not keep, or keeps although it should not, of a version that answers; empty where all is well.

    Of several models one that has the column is enough, once all are loaded.
    """
    columns = [column.name for column in signature.columns or ()]
    settings.columns_of[settings.model] = None if signature.columns is None else frozenset(columns)
    found = []
    if lacking := _lacking(settings, signature):
        found.append(_lacks(settings.model, version, lacking, columns))
    if alike := _alike(settings, columns):
        found.append(
            f"no Delta table holds both {' and '.join(alike)} of {settings.model}/{version}, which differ in case "
            f"alone, so nothing of it is logged: --leave-out {shlex.quote(alike[-1])}"
        )
    return "; ".join(found)


def _lacking(settings: Settings, signature: Signature) -> list[str]:
    """The names that no model of the server has; none where that of one is not known."""
    others = [columns for model, columns in settings.columns_of.items() if model != settings.model]
    if settings.log is None or signature.names is None or None in others:
        return []
    known = signature.names.union(*filter(None, others))
    return [name for name in settings.options.leave_out if name not in known]


def _lacks(model: str, version: int, names: Sequence[str], columns: Sequence[str]) -> str:
    return "--leave-out: " + "; ".join(unknown(f"{model}/{version}", "column", name, columns) for name in names)


def _alike(settings: Settings, columns: Sequence[str]) -> list[str]:
    """The first columns whose names a Delta table takes for one."""
    if settings.log is None or not (settings.options.log_as == DELTA or isinstance(settings.log, S3Folder)):
        return []
    kept = [name for name in columns if name not in settings.options.leave_out]
    return next((same for one in kept if len(same := [name for name in kept if name.lower() == one.lower()]) > 1), [])
