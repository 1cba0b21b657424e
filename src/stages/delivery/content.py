"""The rows that are delivered to one target."""

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Content:
    """The rows to deliver to one target.

    Attributes:
        file: the cleaned Parquet, or a folder of parts.
        rows: in it.
        digest: of its bytes and the target's entry: what is the same need not be delivered again.
        place: of the entry in params.yaml.
    """

    file: Path
    rows: int
    digest: str
    place: str

    @property
    def note(self) -> dict[str, Any]:
        """What stands beside the target."""
        return {"digest": self.digest, "rows": self.rows, "time": datetime.now(UTC).isoformat(timespec="seconds")}
