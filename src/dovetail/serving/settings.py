"""What a server is told, and how much it takes on at a time. Every option, its default and its help stand here once."""

from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

from dovetail.serving.log.location import ENV_LOG, FOLDER, Place

ENV_TOKENS = "DOVETAIL_SERVE_TOKENS"  # with commas between them
ENV_ID_KEY = "DOVETAIL_SERVE_ID_KEY"  # any text; servers that have the same take feedback on each other's answers
SECRETS = (ENV_TOKENS, ENV_ID_KEY)  # no process that a server starts has them
MIB = 1 << 20
LOG_FORMATS = PLAIN, DELTA = ("parquet", "delta")
_LEAST_WAITING_MB = 256


def _option(  # noqa: PLR0913
    default: Any,
    help_: str,
    *,
    least: float | None = None,
    most: float | None = None,
    among: tuple[str, ...] = (),
    metavar: str = "",
) -> Any:
    """A field that the command line offers as an option of its name; it takes values from `least` to `most`."""
    said = {"help": help_, "least": least, "most": most, "among": among, "metavar": metavar}
    return field(default=default, metadata=said)


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeOptions:
    """How a server listens, and what it refuses rather than queues. Flags of `dovetail serve`."""

    host: str = _option("127.0.0.1", "Address to listen on; any but loopback needs tokens.")
    port: int = _option(5001, "0 takes a free one.", least=0, most=65_535)
    workers: int = _option(1, "Processes that hold the model and answer side by side.", least=1, most=64)
    poll: float = _option(2.0, "Seconds between checks of the alias.", least=0.05)
    max_mb: int = _option(16, "Maximum size of a body in MiB; above it 413.", least=1)
    max_rows: int = _option(100_000, "Maximum rows per request; above it 422.", least=1)
    max_waiting: int = _option(1_000, "Maximum waiting requests; above it 503.", least=1)
    timeout: float = _option(30.0, "Seconds for a request to arrive and be answered.", least=0.05)
    drain: float = _option(0.0, "Seconds to keep answering after SIGTERM while /ready returns 503.", least=0)
    takeover: bool = _option(
        default=False, help_="Replace the server on this port, if there is one, without a request refused."
    )
    no_log: bool = _option(
        default=False, help_=f"Log no predictions; else they go to {FOLDER}/MODEL/, or below ${ENV_LOG}."
    )
    log_as: str = _option(
        "parquet",
        "How the log is kept: parquet, plain files; delta, Delta Lake tables (in S3 always).",
        among=LOG_FORMATS,
    )
    keep: str = _option("", "Delete log rows older than this (90d, 12w); default: keep everything.", metavar="AGE")
    leave_out: tuple[str, ...] = _option((), "A column to leave out of the log.")
    trust: str = _option(
        "", "Serve only what this file vouches for; `dovetail promote --trust` writes it.", metavar="FILE"
    )

    @property
    def body_bytes(self) -> int:
        """Of a request; above it 413."""
        return self.max_mb * MIB

    @property
    def waiting_bytes(self) -> int:
        """Of the bodies of all requests under way; above it 503."""
        return max(_LEAST_WAITING_MB, 2 * self.max_mb) * MIB


@dataclass(frozen=True, slots=True)
class Settings:
    """Which model is served, from which store, to whom.

    Attributes:
        root: Where the tracking store is looked for: a repository's root, else the current folder.
        alias: The alias that is followed; None: `version` it is, for good.
        ledger: The repository whose tags say what may be served; None where there is none.
        tokens: One of them has to come with a request; none: nothing is asked.
        log: Where the prediction log is; None: nothing is kept.
        log_age: How old what is in there may become; None: any.
        columns_of: The columns of each model of the server, as it is loaded; None where they are not known.
    """

    root: Path
    model: str
    alias: str | None
    version: int | None = None
    ledger: Path | None = None
    options: ServeOptions = ServeOptions()
    tokens: tuple[str, ...] = field(default=(), repr=False)
    log: Place | None = None
    log_age: timedelta | None = None
    columns_of: dict[str, frozenset[str] | None] = field(default_factory=dict, repr=False, compare=False)

    @property
    def what(self) -> str:
        """The reference that is served."""
        return f"{self.model}@{self.alias}" if self.alias else f"{self.model}/{self.version}"

    @property
    def keep(self) -> Path:
        """Where the last good copies are: a folder that git and DVC ignore already."""
        return self.root / "mlruns" / "serving" / (self.what.replace("/", "@"))
