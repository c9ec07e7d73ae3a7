"""What Prometheus is told at /metrics."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, ProcessCollector, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

from serving.server.admission import Admission

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4
# From a cache hit's worth of work to the longest that a request may take.
SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
WINDOWS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 1024)


class Metrics:
    """The counters of one server, in a registry of their own. Safe to use from several threads."""

    def __init__(self, admission: Admission, info: dict[str, str]):
        """info: what serves, as labels of `unheard_info`."""
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)  # resident memory, CPU seconds, open files
        Info("unheard", "what serves", registry=self.registry).info(info)
        self.requests = Counter(
            "unheard_requests", "requests answered; 499: the client left before", ["route", "code"],
            registry=self.registry,
        )  # fmt: skip
        self.request_seconds = self._histogram("request_seconds", "from a request's headers to its answer", ["route"])
        self.decode_seconds = self._histogram("decode_seconds", "all that comes before the model, for one recording")
        self.queue_seconds = self._histogram("queue_seconds", "a request's windows waited so long for the model")
        self.model_seconds = self._histogram("model_seconds", "one call of the model")
        self.batch_windows = Histogram(
            "unheard_batch_windows", "windows in one call of the model", buckets=WINDOWS, registry=self.registry
        )
        held = Gauge("unheard_queued_audio_seconds", "sound taken in and not yet answered", registry=self.registry)
        held.set_function(lambda: admission.seconds)
        held = Gauge("unheard_held_upload_bytes", "request bodies in memory", registry=self.registry)
        held.set_function(lambda: admission.held_bytes)

    def _histogram(self, name: str, told: str, labels: list[str] | None = None) -> Histogram:
        return Histogram(f"unheard_{name}", told, labels or [], buckets=SECONDS, registry=self.registry)

    def on_request(self, route: str, code: int, seconds: float) -> None:
        """An answered request. route: as the app declares it, so that nobody can invent new ones."""
        self.requests.labels(route, str(code)).inc()
        self.request_seconds.labels(route).observe(seconds)

    def on_batch(self, windows: int, seconds: float) -> None:
        """A call of the model."""
        self.batch_windows.observe(windows)
        self.model_seconds.observe(seconds)

    def text(self) -> bytes:
        """All of them in Prometheus's text format."""
        return generate_latest(self.registry)
