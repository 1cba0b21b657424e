"""The part of a description that is written by Dovetail, among the words of others, which stay.

The block begins with the line that ends in its opening mark, and ends with the closing mark. Both are comments of HTML,
which no page shows. The opening mark has a digest of what lies between: so it shows where somebody edited there.
"""

import hashlib
import re

MOST = 5000  # characters that MLflow's databases keep of a version's description
_END = "<!-- /dovetail -->"
_OPENING = re.compile(r"^(?P<first>.*?)[ \t]*<!-- dovetail (?P<digest>[0-9a-f]{8}):[^\n]*?-->[ \t]*$", re.MULTILINE)
_SAYS = "written by Dovetail and kept current; your own words above or below it stay"


def block(headline: str, body: str) -> str:
    """The block of a headline, which is one line, and a body."""
    return f"{headline} <!-- dovetail {_digest(headline, body)}: {_SAYS} -->\n\n{body.strip()}\n\n{_END}"


def merged(existing: str, headline: str, body: str, *, former: str = "") -> str | None:
    """`existing` with its block replaced, or with one added below; None where that would be too long for MLflow.

    `former` is all that was written there before there were blocks: it goes. Words that somebody wrote within the block
    stay, below it.
    """
    fresh = block(headline, body)
    text = existing.replace("\r\n", "\n")
    opening = _OPENING.search(text)
    if opening is None:
        own = text.strip()
        text = fresh if own in ("", former.strip()) else f"{own}\n\n{fresh}"
    else:
        before, first, rest = text[: opening.start()], opening["first"], text[opening.end() :]
        inside, mark, after = rest.partition(_END)
        if not mark:  # somebody took the closing mark away
            after = ""
        kept = "" if _digest(first, inside) == opening["digest"] else _added(f"{first}\n{inside}", fresh)
        text = "\n\n".join(part for part in (before.strip(), fresh, kept, after.strip()) if part)
    return text if len(text) <= MOST else None


def _added(inside: str, fresh: str) -> str:
    """The lines of an edited block that the new one does not have."""
    known = {line.strip() for line in fresh.split("\n")}
    return "\n".join(line for line in inside.split("\n") if line.strip() and line.strip() not in known)


def _digest(headline: str, body: str) -> str:
    lines = [line.rstrip() for line in f"{headline.strip()}\n{body.strip()}".split("\n")]
    return hashlib.sha256("\n".join(lines).encode(errors="surrogateescape")).hexdigest()[:8]
