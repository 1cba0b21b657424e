"""A part that is not scored, and why."""


class BadPart(Exception):
    """One line that says what is wrong with a part; the others go on."""
