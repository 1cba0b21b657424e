"""One gate's answer."""

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Verdict:
    """One gate's answer; `value` is what was measured, `limit` what was asked."""

    name: str
    passed: bool
    value: float | None
    limit: str
    detail: str = ""
    next: str = ""

    def as_json(self) -> dict[str, Any]:
        """The verdict as `--json` gives it."""
        return asdict(self)


def yes(name: str, limit: str, detail: str = "") -> Verdict:
    """A verdict that passes without a number."""
    return Verdict(name, passed=True, value=None, limit=limit, detail=detail)


def no(name: str, limit: str, detail: str, next_command: str) -> Verdict:
    """A verdict that does not, with what to do."""
    return Verdict(name, passed=False, value=None, limit=limit, detail=detail, next=next_command)
