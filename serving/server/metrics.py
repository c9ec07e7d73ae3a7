"""The metrics at /metrics, in Prometheus's text format."""

from collections.abc import Callable, Iterator

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.registry import Collector

from serving.server.admission import Admission
from serving.server.log import dropped_lines

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4
# From the work for a cache hit to the longest that a request may take.
SECONDS_BUCKETS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
WINDOWS_BUCKETS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 1024)


class Metrics:
    """The metrics of one server, in a registry of their own. Any thread may use them."""

    def __init__(self, admission: Admission):
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)  # resident memory, CPU seconds, open files
        self.registry.register(_LogLines())
        self._gauges: dict[str, Gauge] = {}
        self._info = Info("unheard", "network, embedding space, backend and precision", registry=self.registry)
        self.key_requests = Counter(
            "unheard_key_requests", "requests by the name of their API key", ["key"], registry=self.registry
        )
        self.reloads = Counter(
            "unheard_reloads", "reloads of the bundle and the keys", ["outcome"], registry=self.registry
        )
        self.decode_process_ends = Counter(
            "unheard_decode_process_ends", "processes that ended while they decoded", registry=self.registry
        )
        self.requests = Counter(
            "unheard_requests", "answered requests; 499: the client closed the connection before the answer",
            ["route", "code"], registry=self.registry,
        )  # fmt: skip
        self.request_seconds = self._histogram("request_seconds", "from a request's headers to its answer", ["route"])
        self.decode_seconds = self._histogram("decode_seconds", "decoding, resampling and front end of one recording")
        self.queue_seconds = self._histogram("queue_seconds", "how long a request's windows waited for the model")
        self.model_seconds = self._histogram("model_seconds", "one call of the model")
        self.search_seconds = self._histogram("search_seconds", "one search in the index")
        self.batch_windows = Histogram(
            "unheard_batch_windows", "windows in one call of the model", buckets=WINDOWS_BUCKETS, registry=self.registry
        )
        self.watch("queued_audio_seconds", "sound of accepted, unanswered requests", lambda: admission.seconds)
        self.watch("held_upload_bytes", "request bodies in memory", lambda: admission.held_bytes)

    def _histogram(self, name: str, text: str, labels: list[str] | None = None) -> Histogram:
        return Histogram(f"unheard_{name}", text, labels or [], buckets=SECONDS_BUCKETS, registry=self.registry)

    def watch(self, name: str, text: str, value: Callable[[], float]) -> None:
        """Add a gauge that shows this value, in place of the one with this name."""
        if name not in self._gauges:
            self._gauges[name] = Gauge(f"unheard_{name}", text, registry=self.registry)
        self._gauges[name].set_function(value)

    def describe(self, info: dict[str, str]) -> None:
        """Set the labels of `unheard_info`, which say what the server runs."""
        self._info.info(info)

    def on_request(self, route: str, code: int, seconds: float) -> None:
        """Count an answered request. route: the declared one, so that clients cannot create new label values."""
        self.requests.labels(route, str(code)).inc()
        self.request_seconds.labels(route).observe(seconds)

    def on_batch(self, windows: int, seconds: float) -> None:
        """Count a call of the model."""
        self.batch_windows.observe(windows)
        self.model_seconds.observe(seconds)

    def text(self) -> bytes:
        """All metrics in Prometheus's text format."""
        return generate_latest(self.registry)


class _LogLines(Collector):
    """The log's lines that were lost, counted by the log itself."""

    def collect(self) -> Iterator[CounterMetricFamily]:
        yield CounterMetricFamily(
            "unheard_log_lines_dropped", "log lines lost because stderr was blocked or full", value=dropped_lines()
        )
