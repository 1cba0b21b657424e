"""A name that nothing has: the one sentence that says so, everywhere, and the name that is nearest to it."""

from collections.abc import Iterable
from difflib import get_close_matches

_SHOWN = 12  # names that are read; there may be thousands


def unknown(where: str, what: str, name: object, known: Iterable[object]) -> str:
    """`dvc.yaml has no model 'irs', did you mean 'iris'? It has: iris, penguins`.

    Args:
        where: What was looked at: a file, a model, git.
        what: What was looked for: a model, a version, an alias.
        name: As it was typed.
        known: Those that there are.
    """
    there = list(dict.fromkeys(map(str, known)))
    shown = f"{', '.join(there[:_SHOWN])} and {len(there) - _SHOWN} more" if len(there) > _SHOWN else ", ".join(there)
    close = nearest(str(name), there)
    asked = f", did you mean {close!r}? It" if close else "; it"
    return f"{where} has no {what} {name!r}{asked} has: {shown or 'none'}"


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name that is most like this one, if one is like it."""
    by_lower = {one.lower(): one for one in known}
    found = get_close_matches(name.lower(), by_lower, n=1)
    return by_lower[found[0]] if found else None
