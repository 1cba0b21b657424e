"""How long ago: `7d`, `12h`, `30m`, `2w`."""

import re
from datetime import timedelta

_AGE = re.compile(r"(?P<number>\d{1,6})(?P<unit>[mhdw])")
_UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_LONGEST = timedelta(days=36_500)  # a calendar begins two thousand years ago: there is no time 999999 days ago


def age(text: str) -> timedelta | None:
    """The time that is meant, at most a hundred years: nothing here is older; None where it is none."""
    found = _AGE.fullmatch(text.strip())
    return min(timedelta(**{_UNITS[found["unit"]]: int(found["number"])}), _LONGEST) if found else None
