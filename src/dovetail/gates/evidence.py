"""What is known of a version before it may become what others rely on, as plain values."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class ProvenanceEvidence:
    """Where a version comes from, as git and DVC know it.

    Attributes:
        commit: The newest commit that holds the model; None for one that no commit holds.
        differing: Files whose content at that commit is not what dvc.lock says that the stages read.
        not_cached: Data that is neither in the cache nor in the remote.
        not_in_remote: Data that the remote lacks; None where no remote is set or it does not answer.
        remote_problem: Why the remote did not answer.
        remote_next: The command for that.
        unkept: Data among it that a stage makes with `cache: false` and that git does not keep, either.
        pushed: Whether a remote branch holds the commit.
        reproduced: The verdict of `dovetail reproduce` that the version carries.
    """

    commit: str | None
    differing: tuple[str, ...] = ()
    not_cached: tuple[str, ...] = ()
    not_in_remote: tuple[str, ...] | None = None
    remote_problem: str = ""
    remote_next: str = ""
    unkept: tuple[str, ...] = ()
    pushed: bool = False
    reproduced: str | None = None


@dataclass(frozen=True, slots=True)
class TriedPackage:
    """How the registry's artifact behaved in a process of its own.

    Attributes:
        md5: The digest of the model's bytes, as DVC recorded it.
        stored_md5: That of the bytes that the registry holds; None where it holds none.
        size: In bytes.
        refused: What the pickle names outside the allow-list.
        allowed_later: Names that a later commit than the version's own allows.
        allowed_by: That commit; None where there are none.
        error: Why it does not load or predict.
        has_example: Whether it was registered with an input example to answer.
        package: The digest of the registry's whole package that `package_source` says; None where nothing says one.
        stored_package: That of the files that the registry holds.
        package_source: The version's tag in MLflow, or the tag in git of a promotion.
        missing: Whether a row without values was answered; None where it was not asked.
        p99_ms: The time of one row, 99th percentile in milliseconds.
    """

    md5: str
    stored_md5: str | None
    size: int = 0
    refused: str = ""
    error: str = ""
    missing: bool | None = None
    p99_ms: float | None = None
    has_example: bool = True
    package: str | None = None
    stored_package: str | None = None
    package_source: str = ""
    allowed_later: tuple[str, ...] = ()
    allowed_by: str | None = None

    @property
    def may_be_read(self) -> bool:
        """Whether what the registry holds is what was registered, as far as that is known."""
        return self.stored_md5 == self.md5 and self.package in (None, self.stored_package)


@dataclass(frozen=True, slots=True)
class Compared:
    """Candidate against champion on the same rows.

    Attributes:
        champion: The number of the version that the alias names; None where it names none.
        metric: By which they were compared.
        rows: On how many rows.
        dropped: Rows of the test part that the champion was trained on, left out.
        difference, low, high: Candidate minus champion, positive where the candidate is better, with its interval.
        error: Why they could not be compared.
        unknown: What is not known that a comparison needs; no fault of either.
        is_champion: Whether the alias names the candidate itself.
    """

    champion: int | None
    metric: str = ""
    rows: int = 0
    dropped: int = 0
    difference: float = 0.0
    low: float = 0.0
    high: float = 0.0
    error: str = ""
    unknown: str = ""
    is_champion: bool = False


@dataclass(frozen=True, slots=True)
class Slice:
    """The rows of the test part with one value of a column."""

    value: str
    rows: int
    metric: float


@dataclass(frozen=True, slots=True)
class Evidence:
    """All that verdicts are told from; what is None was not asked, and its gates give no verdict."""

    metrics: Mapping[str, float]
    has_signature: bool | None = None
    origin: ProvenanceEvidence | None = None
    served: TriedPackage | None = None
    compared: Compared | None = None
    slices: Mapping[str, tuple[Slice, ...] | str] | None = None  # by column; a text says why not

    def as_json(self) -> dict[str, Any]:
        """The evidence as it is kept beside the run."""
        return asdict(self)
