"""A span for each request, sent to an OpenTelemetry collector (OTLP over HTTP) by a thread of its own.

Sending never delays a request: spans wait in a bounded queue, and are dropped if it is full or the collector does not
answer.
"""

import os
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from serving.errors import UsageError
from serving.extras import pip_install
from serving.server.trace_context import TraceContext, take_up_trace

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Span

INSTALL = f"OpenTelemetry is not installed; get it with: {pip_install('otel')}"
ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")  # OpenTelemetry's own variables
SERVICE = "unheard"
CLOSE_S = 2.0  # at the end for the spans that are not sent yet


@dataclass(frozen=True)
class RequestSpan:
    """One request in its trace.

    trace  None: the request belongs to none
    """

    trace: TraceContext | None
    span: "Span | None" = None

    def end(self, name: str, status: int, attributes: Mapping[str, Any]) -> None:
        """End the span.

        name        like "POST /v1/embed"
        status      of HTTP; from 500 on the span is an error
        attributes  text and numbers; None and empty text are left out
        """
        if self.span is None:
            return
        from opentelemetry.trace import Status, StatusCode

        self.span.update_name(name)
        self.span.set_attributes({key: value for key, value in attributes.items() if value not in (None, "")})
        if status >= 500:
            self.span.set_status(Status(StatusCode.ERROR))
        self.span.end()


def span_attributes(log: Mapping[str, Any]) -> dict[str, Any]:
    """The attributes of a span that are in the fields of the request's log line too."""
    stages = {f"{SERVICE}.{stage}_ms": ms for stage, ms in log.get("stages_ms", {}).items()}
    own = {f"{SERVICE}.{name}": log.get(name) for name in ("key", "files", "audio_s", "received_bytes")}
    return {"client.address": log["client"], "url.path": log["path"], **own, **stages}


class Tracing:
    """Begins the span of each request. Without a provider, the traces of clients go on and nothing is sent."""

    def __init__(self, provider: "TracerProvider | None" = None):
        self._provider = provider
        self._tracer = provider.get_tracer(SERVICE) if provider else None

    @classmethod
    def open(cls, endpoint: str | None) -> "Tracing":
        """Send spans to a collector.

        endpoint  like http://127.0.0.1:4318; None: the one in OpenTelemetry's variables; without any, nothing is sent
        errors    UsageError: OpenTelemetry is not installed
        """
        if not endpoint and not any(os.environ.get(name) for name in ENDPOINTS):
            return cls()
        try:
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
            from opentelemetry.sdk.resources import SERVICE_NAME, Resource
            from opentelemetry.sdk.trace import TracerProvider
            from opentelemetry.sdk.trace.export import BatchSpanProcessor
        except ImportError as error:
            flag = "--otlp-endpoint" if endpoint else next(name for name in ENDPOINTS if os.environ.get(name))
            raise UsageError(f"{flag}: {INSTALL}") from error
        named = {} if os.environ.get("OTEL_SERVICE_NAME") else {SERVICE_NAME: SERVICE}
        provider = TracerProvider(resource=Resource.create(named), shutdown_on_exit=False)
        exporter = OTLPSpanExporter(f"{endpoint.rstrip('/')}/v1/traces" if endpoint else None)
        provider.add_span_processor(BatchSpanProcessor(exporter))
        return cls(provider)

    def begin(self, header: str) -> RequestSpan:
        """Begin the span of a request. header: its `traceparent`, "" if it has none."""
        given = take_up_trace(header)
        if self._tracer is None:
            return RequestSpan(given)
        from opentelemetry import trace
        from opentelemetry.context import Context

        parent = Context()
        if given:
            assert given.parent_id, "a trace that was taken up has a sender"
            ids = int(given.trace_id, 16), int(given.parent_id, 16)
            flags = trace.TraceFlags(int(given.flags, 16))
            sender = trace.SpanContext(*ids, is_remote=True, trace_flags=flags)
            parent = trace.set_span_in_context(trace.NonRecordingSpan(sender), parent)
        span = self._tracer.start_span("request", parent, trace.SpanKind.SERVER)
        own = span.get_span_context()
        if not own.is_valid:  # OTEL_SDK_DISABLED
            return RequestSpan(given)
        parent_id = given.parent_id if given else None
        context = TraceContext(f"{own.trace_id:032x}", parent_id, f"{own.span_id:016x}", f"{own.trace_flags:02x}")
        return RequestSpan(context, span)

    def close(self) -> None:
        """Send what waits, for CLOSE_S at most."""
        if self._provider:
            thread = threading.Thread(target=self._provider.shutdown, name="spans", daemon=True)
            thread.start()
            thread.join(CLOSE_S)
