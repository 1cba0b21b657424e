"""What is wrong, why it matters and what repairs it: the one shape of every finding."""

from dataclasses import asdict, dataclass
from typing import Any, Literal

from dovetail.errors import DovetailError

Severity = Literal["error", "warning"]  # it is broken or will be lost; it is a risk


@dataclass(frozen=True, slots=True)
class Finding:
    """Something to know; `next` is the command that changes it, or says which edit does."""

    severity: Severity
    what: str
    why: str
    next: str

    @classmethod
    def of(cls, error: DovetailError, what: str) -> "Finding":
        """The finding that `what` could not be looked at."""
        return cls("error", what, error.message, error.next_command)

    def as_json(self, *keys: str) -> dict[str, Any]:
        """The finding as `--json` gives it: all of it, or only `keys`, in their order."""
        whole = asdict(self)
        return {key: whole[key] for key in keys or whole}
