"""How long ago: `7d`, `12h`, `30m`, `2w`."""

import re
from datetime import timedelta

_AGE = re.compile(r"(?P<number>\d{1,6})(?P<unit>[mhdw])")
_UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def age(text: str) -> timedelta | None:
    """The time that is meant; None where it is none."""
    found = _AGE.fullmatch(text.strip())
    return timedelta(**{_UNITS[found["unit"]]: int(found["number"])}) if found else None
