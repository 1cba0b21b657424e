"""Errors that are not a defect of the stages: one line and an exit code, no traceback."""

import unicodedata
from collections.abc import Iterable

_BREAKS = {"Cc", "Zl", "Zp"}  # Unicode's categories of controls and of what ends a line or a paragraph


def listed(names: Iterable[object]) -> str:
    """Names in a message, in one line whatever they hold."""
    texts = map(str, names)
    return ", ".join(repr(text) if _BREAKS & set(map(unicodedata.category, text)) else text for text in texts)


class StageError(Exception):
    """The user must change something: the message names the thing, its value and what to do."""

    exit_code = 2


class OutsideError(StageError):
    """Something outside this project failed (a server, a database): try again, or correct it there."""

    exit_code = 3
