"""Errors that are not a defect of the stages: one line and an exit code, no traceback."""


class StageError(Exception):
    """The user must change something: the message names the thing, its value and what to do."""

    exit_code = 2


class OutsideError(StageError):
    """Something outside this project failed (a server, a database): try again, or correct it there."""

    exit_code = 3
