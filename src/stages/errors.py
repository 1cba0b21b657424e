"""What a user can mend, as opposed to a defect of ours: one line and exit code 2, no traceback."""


class StageError(Exception):
    """The user must change something: the message names the thing, its value and what to do."""

    exit_code = 2


class OutsideError(StageError):
    """Something outside this project failed (a server, a database): try again, or mend it there."""

    exit_code = 3
