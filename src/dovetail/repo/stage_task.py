"""One stage of a pipeline to be run elsewhere, and what came of it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from dovetail.repo.snapshot import Snapshot


@dataclass(frozen=True, slots=True)
class StageTask:
    """A stage to run in a clean copy of the working tree.

    Attributes:
        address: DVC's address of the stage.
        snapshot: The working tree.
        lock: The dvc.lock that the copy gets in place of its own: of each file, the entries of the stages whose outputs
            this one reads.
        files: What else differs from the snapshot, by path: .dvc files, and outputs that DVC does not cache.
        needs: The outputs that DVC checks out before the stage runs.
        deps: The digests of what the stage reads, by path: where the copy has others, it is not run there.
        force: Run it although DVC's run-cache has it.
    """

    address: str
    snapshot: Snapshot
    lock: Mapping[str, Mapping[str, Any]]
    files: Mapping[str, bytes]
    needs: tuple[str, ...]
    deps: Mapping[str, str]
    force: bool = False


@dataclass(frozen=True, slots=True)
class StageRun:
    """What came of a task.

    Attributes:
        entry: The stage's entry in dvc.lock; None where it was not run to its end.
        output: What its command printed.
        failed: Why it failed, in one line, where its command did; empty otherwise.
        unusable: Why this worker could not run it, where another may; empty otherwise.
        died: Whether the process that ran it died, of its own or by somebody's hand.
        worker: Who ran it, and for how many `seconds`.
        since: When DVC was asked to run it, in seconds since the epoch.
    """

    entry: Mapping[str, Any] | None = None
    output: str = ""
    failed: str = ""
    unusable: str = ""
    died: bool = False
    worker: str = ""
    seconds: float = field(default=0.0, compare=False)
    since: float = field(default=0.0, compare=False)
