"""What a server is told, and how much it takes on at a time."""

from dataclasses import dataclass, field
from pathlib import Path

ENV_TOKENS = "DOVETAIL_SERVE_TOKENS"  # with commas between them
MIB = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What is refused rather than queued.

    Attributes:
        body_bytes: Of a request; above it 413.
        rows: Of a request; above it 422.
        waiting: Requests that wait for their answer at a time; above it 503.
        waiting_bytes: Of the bodies of all requests under way; above it 503.
        seconds: For a request to arrive (408 after it) and to be answered (503 after it).
    """

    body_bytes: int = 16 * MIB
    rows: int = 100_000
    waiting: int = 1_000
    waiting_bytes: int = 256 * MIB
    seconds: float = 30.0


@dataclass(frozen=True, slots=True)
class Settings:
    """Which model is served, where, to whom.

    Attributes:
        root: Where the tracking store is looked for: a repository's root, else the current folder.
        alias: The alias that is followed; None: `version` it is, for good.
        promoted: The md5 that git's tags say the alias names: a copy with it is served without waiting for MLflow.
        poll: Seconds between two looks at the alias.
        tokens: One of them has to come with a request; none: nothing is asked.
        log: The folder of the prediction log; None: nothing is kept.
    """

    root: Path
    model: str
    alias: str | None
    version: int | None = None
    promoted: str | None = None
    host: str = "127.0.0.1"
    port: int = 5001
    poll: float = 2.0
    tokens: tuple[str, ...] = field(default=(), repr=False)
    limits: Limits = Limits()
    log: Path | None = None
    leave_out: frozenset[str] = frozenset()

    @property
    def what(self) -> str:
        """The reference that is served."""
        return f"{self.model}@{self.alias}" if self.alias else f"{self.model}/{self.version}"

    @property
    def keep(self) -> Path:
        """Where the last good copies lie: a folder that git and DVC ignore already."""
        return self.root / "mlruns" / "serving" / (self.what.replace("/", "@"))
