"""What is wrong, why it matters and what mends it: the one shape of every finding."""

from dataclasses import asdict, dataclass
from typing import Any, Literal

from dovetail.errors import DovetailError

Severity = Literal["error", "warning"]  # it is broken or will be lost; it is a risk


@dataclass(frozen=True, slots=True)
class Problem:
    """A finding; `next` is the command that ends it, or says which edit does."""

    severity: Severity
    what: str
    why: str
    next: str

    @classmethod
    def of(cls, error: DovetailError, what: str) -> "Problem":
        """The finding that `what` could not be looked at."""
        return cls("error", what, error.message, error.next_command)

    def as_json(self) -> dict[str, Any]:
        """The finding as `--json` gives it."""
        return asdict(self)
