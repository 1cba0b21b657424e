"""Errors that are not a defect of the stages: one line and an exit code, no traceback."""

from collections.abc import Iterable


def listed(names: Iterable[object]) -> str:
    """Names in a message, in one line whatever they hold."""
    texts = map(str, names)
    return ", ".join(text if text.isprintable() else repr(text) for text in texts)


class StageError(Exception):
    """The user must change something: the message names the thing, its value and what to do."""

    exit_code = 2


class OutsideError(StageError):
    """Something outside this project failed (a server, a database): try again, or correct it there."""

    exit_code = 3
