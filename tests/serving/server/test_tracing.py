"""With --otlp-endpoint each request is a span of its client's trace; a collector that fails changes no answer."""

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import pytest

from demo.bundle_choice import FROM_SCRATCH
from tests.absent_packages import environment_without
from tests.servers import running
from tests.sounds import encoded, harmonics

pytest.importorskip("opentelemetry.exporter.otlp.proto.http", reason="the extra otel is not installed")
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

BUNDLE = FROM_SCRATCH
SOUND = encoded(harmonics(16_000, 6.0))
TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


class Collector:
    """An OTLP/HTTP receiver on a free port. delay_s: before each of its answers."""

    def __init__(self, delay_s: float = 0.0):
        self.spans: list[Any] = []
        self.services: set[str] = set()
        self.paths: set[str] = set()
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                collector.receive(self.path, self.rfile.read(int(self.headers["content-length"])))
                time.sleep(delay_s)
                self.send_response(200)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def receive(self, path: str, content: bytes) -> None:
        self.paths.add(path)
        for resource in ExportTraceServiceRequest.FromString(content).resource_spans:
            self.services |= {a.value.string_value for a in resource.resource.attributes if a.key == "service.name"}
            self.spans += [span for scope in resource.scope_spans for span in scope.spans]


@pytest.fixture
def collector() -> Iterator[Collector]:
    collector = Collector()
    yield collector
    collector.server.shutdown()


def attributes(span: Any) -> dict[str, Any]:
    return {each.key: getattr(each.value, each.value.WhichOneof("value")) for each in span.attributes}


def test_each_request_is_a_span_of_its_trace_with_its_stages(tmp_path, collector):
    with running(BUNDLE, tmp_path / "log", "--otlp-endpoint", collector.address) as server:
        given = {"traceparent": f"00-{TRACE}-{PARENT}-01"}
        answer = httpx.post(f"{server.address}/v1/embed", content=SOUND, headers=given, timeout=60)
        own = httpx.get(f"{server.address}/healthz").headers["traceparent"].split("-")
        httpx.get(f"{server.address}/v1/nothing")
        httpx.get(f"{server.address}/healthz", headers={"traceparent": f"00-{TRACE}-{PARENT}-00"})  # is not sampled
        server.process.terminate()
        assert server.process.wait(30) == 0
        lines = [line for line in server.log() if line["event"] == "request"]
    assert (collector.paths, collector.services) == ({"/v1/traces"}, {"unheard"})
    spans = {span.name: span for span in collector.spans}
    assert sorted(spans) == ["GET /healthz", "GET none", "POST /v1/embed"]
    embed = spans["POST /v1/embed"]
    assert (embed.trace_id.hex(), embed.parent_span_id.hex()) == (TRACE, PARENT)
    assert answer.headers["traceparent"] == f"00-{TRACE}-{embed.span_id.hex()}-01"
    told = attributes(embed)
    assert (told["http.response.status_code"], told["http.route"], told["unheard.audio_s"]) == (200, "/v1/embed", 6.0)
    stages = {stage: told[f"unheard.{stage}_ms"] for stage in ("decode", "resample", "front_end", "queue", "model")}
    assert 0 < stages["model"] <= sum(stages.values()) <= (embed.end_time_unix_nano - embed.start_time_unix_nano) / 1e6
    health = spans["GET /healthz"]
    assert (health.trace_id.hex(), health.span_id.hex(), health.parent_span_id) == (own[1], own[2], b"")
    assert [line["span_id"] for line in lines[:2]] == [embed.span_id.hex(), health.span_id.hex()]
    assert (lines[0]["parent_span_id"], lines[0]["stages_ms"]["model"]) == (PARENT, stages["model"])
    assert "parent_span_id" not in lines[1]


def test_opentelemetrys_own_variable_names_the_collector_too(tmp_path, collector, monkeypatch):
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.address)
    monkeypatch.setenv("OTEL_SERVICE_NAME", "ours")
    with running(BUNDLE, tmp_path / "log") as server:
        httpx.get(f"{server.address}/healthz")
        server.process.terminate()
        assert server.process.wait(30) == 0
    assert (len(collector.spans), collector.services) == (1, {"ours"})


@pytest.mark.parametrize("kind", ["nobody listens", "no answer for a minute"])
def test_a_collector_that_does_not_answer_delays_no_request_and_no_end(tmp_path, kind):
    address = Collector(delay_s=60).address if kind == "no answer for a minute" else "http://127.0.0.1:9"
    with running(BUNDLE, tmp_path / "log", "--otlp-endpoint", address) as server:
        with httpx.Client(timeout=60) as client:
            started = time.monotonic()
            for _ in range(600):  # more than one batch of spans
                assert client.get(f"{server.address}/healthz").status_code == 200
            assert client.post(f"{server.address}/v1/embed", content=SOUND).status_code == 200
            assert time.monotonic() - started < 10  # the exporter's own time limit is 10 s
        started = time.monotonic()
        server.process.terminate()
        assert server.process.wait(30) == 0
        assert time.monotonic() - started < 8


def test_grpc_calls_are_spans_too(tmp_path, collector):
    grpc = pytest.importorskip("grpc", reason="grpcio is not installed")
    with running(BUNDLE, tmp_path / "log", "--grpc-port", "0", "--otlp-endpoint", collector.address) as server:
        with grpc.insecure_channel(server.grpc_address) as channel:
            metadata = [("traceparent", f"00-{TRACE}-{PARENT}-01")]
            channel.unary_unary("/inference.GRPCInferenceService/ServerReady")(b"", metadata=metadata)
        server.process.terminate()
        assert server.process.wait(30) == 0
    (span,) = collector.spans
    assert (span.name, span.trace_id.hex()) == ("inference.GRPCInferenceService/ServerReady", TRACE)
    assert attributes(span)["rpc.method"] == "ServerReady"


@pytest.mark.parametrize(
    ("flags", "absent", "words"),
    [
        (["--otlp-endpoint", "127.0.0.1:4318"], [], "--otlp-endpoint: got 127.0.0.1:4318; wanted one like http://"),
        (["--otlp-endpoint", "http://127.0.0.1:4318"], ["opentelemetry.sdk"], 'pip install -e ".[otel]"'),
    ],
    ids=["no URL", "not installed"],
)
def test_an_endpoint_that_cannot_be_used_is_refused_with_one_line(flags, absent, words):
    command = [sys.executable, "-m", "serving", str(BUNDLE), "--port", "0", *flags]
    done = subprocess.run(command, env=environment_without(*absent), capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert words in line
