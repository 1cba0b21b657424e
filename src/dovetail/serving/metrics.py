"""What a server counts, as Prometheus reads it."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

TYPE = CONTENT_TYPE_LATEST
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_TOGETHER = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class Metrics:
    """One server's. Each answer is labelled with the model and the version that gave it."""

    def __init__(self) -> None:
        """All at zero, in a registry of their own."""
        self._registry = registry = CollectorRegistry()
        by_version = ("model", "version")
        self._requests = Counter(
            "dovetail_requests", "Answers to /invocations", (*by_version, "status"), registry=registry
        )
        self._rows = Counter("dovetail_predicted_rows", "Rows predicted", by_version, registry=registry)
        self._seconds = Histogram(
            "dovetail_request_seconds", "From the first byte to the answer", by_version, registry=registry,
            buckets=_SECONDS,
        )  # fmt: skip
        self._together = Histogram(
            "dovetail_batch_requests", "Requests that shared a prediction", registry=registry, buckets=_TOGETHER
        )
        self._served = Gauge(
            "dovetail_model_info", "1 for the version that is served", (*by_version, "md5"), registry=registry
        )
        self._store = Gauge("dovetail_store_up", "1 if MLflow answered last", registry=registry)
        self.load_failures = Counter("dovetail_load_failures", "Versions that could not be loaded", registry=registry)
        self.engine_restarts = Counter(
            "dovetail_engine_restarts", "Processes that predict and were lost", registry=registry
        )
        self.waiting = Gauge("dovetail_waiting_requests", "Requests without an answer yet", registry=registry)
        self.log_dropped = Gauge("dovetail_log_dropped_rows", "Rows that the log did not keep", registry=registry)
        self._now: dict[str, tuple[str, str, str]] = {}  # what is served of each model
        self._answered: dict[tuple[str, str, int], tuple[Counter, Counter, Histogram]] = {}

    def answered(self, model: str, version: str, status: int, rows: int, seconds: float) -> None:
        """An answer was given."""
        key = (model, version, status)
        if key not in self._answered:  # a lookup by labels takes longer than the counting
            self._answered[key] = (
                self._requests.labels(model, version, str(status)),
                self._rows.labels(model, version),
                self._seconds.labels(model, version),
            )
        requests, predicted, took = self._answered[key]
        requests.inc()
        if rows:
            predicted.inc(rows)
        took.observe(seconds)

    def batch(self, requests: int) -> None:
        """That many requests share a prediction."""
        self._together.observe(requests)

    def serving(self, model: str, version: int, md5: str) -> None:
        """This version answers from now on."""
        now = (model, str(version), md5)
        if before := self._now.get(model):
            self._served.remove(*before)
        self._served.labels(*now).set(1)
        self._now[model] = now

    def store(self, *, answers: bool) -> None:
        """Whether MLflow answered."""
        self._store.set(int(answers))

    def text(self) -> bytes:
        """All of them in Prometheus' format."""
        return generate_latest(self._registry)
