"""What batch scoring did, for people."""

from collections.abc import Iterator
from typing import Any

_SHOWN = 10


def predicted(answer: dict[str, Any]) -> str:
    """The rows and where they are, then what failed."""
    return "\n".join(_lines(answer))


def _lines(answer: dict[str, Any]) -> Iterator[str]:
    parts = answer["parts"]
    kept = sum(part["how"] == "kept" for part in parts)
    scored = sum(part["how"] == "scored" for part in parts)
    before = f", {_count(kept, 'part')} from before" if kept else ""
    what = f"{answer['model']}/{answer['version']}: {_count(answer['rows'], 'row')} in {answer['out']}"
    yield f"{what}  ({_count(scored, 'part')} scored{before})"
    for part in parts:
        if part["how"] == "failed":
            yield f"  FAIL  {part['part']}: {part['why']}"
    for title, names in (("no part any more for", answer["left_over"]), ("not scored, no rows", answer["ignored"])):
        if names:
            more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
            yield f"  {title}: {', '.join(names[:_SHOWN])}{more}"
    if answer["failed"]:
        yield "the other parts are whole; repair these and run the same command again"


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" + ("" if number == 1 else "s")
