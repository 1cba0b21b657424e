"""What is known not to be in MLflow, so that it need not be asked for one by one."""

from collections.abc import Callable
from dataclasses import dataclass

_PATIENCE = 8  # questions that may be answered with nothing before all there is gets read: that may be a lot


@dataclass(slots=True)
class Absence:
    """Of one kind of value: which are nowhere. `read` gives all there are, or None where they are too many."""

    read: Callable[[], set[str] | None]
    misses: int = 0
    there: set[str] | None = None

    def has(self, value: str) -> bool:
        """Whether `value` is certainly nowhere."""
        return self.there is not None and value not in self.there

    def miss(self) -> None:
        """A question was answered with nothing."""
        self.misses += 1
        if self.misses == _PATIENCE:
            self.there = self.read()

    def end(self, value: str) -> None:
        """`value` is there from now on."""
        if self.there is not None:
            self.there.add(value)
