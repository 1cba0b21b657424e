"""`dovetail monitor --watch`: the same comparison repeated until it is interrupted."""

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dovetail.errors import DovetailError, UserError
from dovetail.monitoring.monitor import MonitorAnswer, MonitorRequest, monitor
from dovetail.repo.workspace import Workspace
from dovetail.system.processes import interruptible
from dovetail.tracking.connection import Tracking

if TYPE_CHECKING:
    from dovetail.monitoring.baseline import Baseline


@dataclass(frozen=True, slots=True)
class WatchRequest:
    """What to compare, and how many seconds to wait between two comparisons."""

    monitor: MonitorRequest
    seconds: float


def watch(
    opened: Callable[[], AbstractContextManager[tuple[Workspace, Tracking]]],
    request: WatchRequest,
    *,
    tell: Callable[[MonitorAnswer], None],
    failed: Callable[[DovetailError], None],
) -> None:
    """Compare until Ctrl-C or a signal; `tell` gets each answer, `failed` each error, after which it tries again.

    Each look opens the repository by `opened`: it may have other commits and tags than before.

    Raises:
        UserError: when the first comparison shows that what is asked for is not there.
    """
    baselines: dict[str, Baseline] = {}
    is_first = True
    try:
        with interruptible():
            while True:
                try:
                    with opened() as (workspace, tracking):
                        tell(monitor(workspace, tracking, request.monitor, baselines=baselines))
                except DovetailError as error:
                    if is_first and isinstance(error, UserError):
                        raise
                    failed(error)
                is_first = False
                time.sleep(request.seconds)
    except KeyboardInterrupt:
        return
