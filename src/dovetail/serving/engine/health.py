"""What is wrong with a server, by what it concerns; `/health` and the metrics say it."""

from dovetail.serving.metrics import Metrics
from dovetail.serving.trust import NONE

BROKEN = "server"  # the problem of a server that has to be started again


class Health:
    """The problems of one server.

    Attributes:
        problems: A line for each of `store`, `load`, `engine`, `copy`, `columns` and `server` that has one.
        trust: Who vouches for the version that answers, besides MLflow: a `file`, the `ledger` or `none`.
        loading: The version that is loaded beside the one that answers.
    """

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self.problems: dict[str, str] = {}
        self.loading: int | None = None
        self.trust = NONE

    def store_answers(self) -> None:
        """MLflow answered."""
        self.problems.pop("store", None)
        self._metrics.store(answers=True)

    def store_is_lost(self, why: str, *, answers: bool = False) -> None:
        """MLflow did not answer, or what it answered names no version."""
        self.problems["store"] = why
        self._metrics.store(answers=answers)

    def load_failed(self, why: str) -> None:
        """A version could not be loaded."""
        self._metrics.load_failures.inc()
        self.problems["load"] = why

    def is_served(self, columns: str = "") -> None:
        """What should be served answers; `columns` says what the log does not keep of it as it should."""
        for solved in ("load", "engine", "columns"):
            self.problems.pop(solved, None)
        if columns:
            self.problems["columns"] = columns
