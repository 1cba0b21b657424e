"""Where a server is between its start and its end; `/ready` says it to who sends requests its way."""

from enum import Enum


class Phase(Enum):
    """A server's."""

    STARTING = "starting"
    READY = "ready"
    DRAINING = "draining"
    REPLACED = "replaced"  # another server answers on this port; this one finishes what it has begun
