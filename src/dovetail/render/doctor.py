"""What the doctor found, for people."""

from typing import Any

from dovetail.render.columns import wrapped


def doctor(answer: dict[str, Any]) -> str:
    """A block for each problem, the broken before the risky."""
    order = sorted(answer["problems"], key=lambda problem: problem["severity"] != "error")
    found = [_block(problem) for problem in order] or ["no problems found"]
    return "\n".join([*found, *(f"not seen: {what}" for what in answer.get("unseen", ()))])


def _block(problem: dict[str, Any]) -> str:
    first = wrapped(f"{problem['severity']}: {problem['what']}", 4)
    return "\n".join([first, wrapped(f"  {problem['why']}", 4), wrapped(f"  next: {problem['next']}", 4)])
