"""Values that MLflow is known not to have, so that it is not asked for each of them."""

from collections.abc import Callable
from dataclasses import dataclass

_MISSES = 8  # searches without a result before all values are read: there may be many


@dataclass(slots=True)
class KnownMissing:
    """The values of one kind that are missing. `read` gives all that exist, or None where they are too many."""

    read: Callable[[], set[str] | None]
    misses: int = 0
    existing: set[str] | None = None

    def has(self, value: str) -> bool:
        """Whether `value` is certainly missing."""
        return self.existing is not None and value not in self.existing

    def note_miss(self) -> None:
        """A search had no result."""
        self.misses += 1
        if self.misses == _MISSES:
            self.existing = self.read()

    def note_created(self, value: str) -> None:
        """`value` exists from now on."""
        if self.existing is not None:
            self.existing.add(value)
