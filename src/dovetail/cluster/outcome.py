"""What became of a stage."""

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class StageOutcome:
    """What became of a stage.

    Attributes:
        how: unchanged, restored (from the run-cache), ran, failed, skipped because of a failure, or would run.
        worker: Where it ran, for how many `seconds`, and what it printed.
        why: It failed, was skipped, or ran here although a worker could have run it.
    """

    stage: str
    how: str
    worker: str = ""
    seconds: float = 0.0
    output: str = field(default="", repr=False)
    why: str = ""

    def as_json(self) -> dict[str, Any]:
        """The outcome as `--json` gives it."""
        return {
            "stage": self.stage, "how": self.how, "worker": self.worker or None, "seconds": round(self.seconds, 3),
            "why": self.why or None,
        }  # fmt: skip
