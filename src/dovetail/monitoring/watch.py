"""Looking again and again, for as long as somebody wants to know."""

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from dovetail.errors import DovetailError, UserError
from dovetail.monitoring.monitor import Wish, monitor
from dovetail.repo.workspace import Workspace
from dovetail.system.processes import interruptible

if TYPE_CHECKING:
    from dovetail.monitoring.baseline import Reference


def watch(
    workspace: Workspace,
    wish: Wish,
    seconds: float,
    told: Callable[[dict[str, Any]], None],
    failed: Callable[[DovetailError], None],
) -> None:
    """Look every `seconds` until somebody asks to end; what fails meanwhile is said, and tried again.

    Raises:
        UserError: when the first look shows that what is asked for is not there.
    """
    known: dict[str, Reference] = {}
    is_first = True
    try:
        with interruptible():
            while True:
                try:
                    told(monitor(workspace, wish, known))
                except DovetailError as error:
                    if is_first and isinstance(error, UserError):
                        raise
                    failed(error)
                is_first = False
                time.sleep(seconds)
    except KeyboardInterrupt:
        return
