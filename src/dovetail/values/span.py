"""From when to when something took."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Span:
    """Two times in milliseconds since the epoch."""

    began: int
    ended: int

    def as_json(self) -> list[int]:
        """As it is kept; `from_json` is the inverse."""
        return [self.began, self.ended]

    @classmethod
    def from_json(cls, content: Any) -> "Span | None":
        """The span that `as_json` wrote; None where it did not write this."""
        match content:
            case [int(began), int(ended)] if 0 < began <= ended:
                return cls(began, ended)
        return None
