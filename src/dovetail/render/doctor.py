"""What the doctor found, for people."""

from typing import Any


def doctor(answer: dict[str, Any]) -> str:
    """A block for each problem, the broken before the risky."""
    order = sorted(answer["problems"], key=lambda problem: problem["severity"] != "error")
    found = [_block(problem) for problem in order] or ["no problems found"]
    return "\n".join([*found, *(f"not seen: {what}" for what in answer.get("unseen", ()))])


def _block(problem: dict[str, Any]) -> str:
    return f"{problem['severity']}: {problem['what']}\n  {problem['why']}\n  next: {problem['next']}"
