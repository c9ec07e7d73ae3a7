"""One TCP connection: uvicorn's protocol with limits on headers, pipelining, reading, writing and idle connections."""

import asyncio
import uuid
from collections.abc import Callable
from json import dumps
from typing import Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from serving.server.error_responses import REQUEST_ID_HEADER, error_content
from serving.server.limits import Limits
from serving.server.lingering import LingeringTransport

MAX_HEADER_BYTES, MAX_HEADER_FIELDS = 32_768, 100  # of one request, its URL and trailers included
MAX_PIPELINED = 32  # requests that wait on one connection
SPARE_CONNECTIONS = 64  # above the limit, to tell their clients 503; further ones are closed without a word

# status, message, request id, client's address
OnRefusal = Callable[[int, str, str, str], None]


class _RefusedRequestError(Exception):
    """Stops the parser."""


def connection_class(limits: Limits, on_refusal: OnRefusal) -> type["ClientConnection"]:
    """A protocol for `uvicorn.Config(http=...)`, which takes a class and no arguments for it.

    on_refusal   called for each request or connection that is refused before the application sees it
    """
    shared = {"limits": limits, "on_refusal": staticmethod(on_refusal), "idle": {}}
    return type("LimitedConnection", (ClientConnection,), shared)


class ClientConnection(HttpToolsProtocol):
    """A client has `limits.request_timeout_s` to send the headers of a request and to read a response.

    The class overrides methods that uvicorn does not document. pyproject.toml therefore pins the versions of uvicorn
    that were tested; tests/serving/server/test_connection.py fails if a method or an attribute is gone, and
    test_attacks.py if uvicorn no longer calls it.
    The time of the request between its headers and its response is limited by RequestMiddleware.
    """

    limits: Limits
    on_refusal: OnRefusal
    idle: "dict[ClientConnection, None]"  # connections without a request, the longest idle first

    _running: RequestResponseCycle | None = None
    _read_deadline: asyncio.TimerHandle | None = None
    _write_deadline: asyncio.TimerHandle | None = None
    _refusal = (400, "")
    _ignores_input = False
    _unparsed_bytes = 0  # received since the last complete header section or piece of a body
    _header_bytes = 0
    _header_fields = 0

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        lingering: Any = LingeringTransport(transport, self._has_input_left, self.limits.request_timeout_s)
        super().connection_made(lingering)
        excess = len(self.connections) - self.limits.max_connections
        if excess > 0 and not self._close_idle_connection():
            if excess > SPARE_CONNECTIONS:
                transport.abort()
            else:
                self._refuse(503, f"too many connections: this server takes {self.limits.max_connections}; try later")
            return
        self.idle[self] = None
        self._abort_reading_in(self.limits.request_timeout_s)

    def connection_lost(self, exc: Exception | None) -> None:
        self.idle.pop(self, None)
        self._abort_reading_in(None)
        self._abort_writing_in(None)
        if self._running and not self._running.response_complete:  # uvicorn tells only the newest pipelined request
            self._running.disconnected = True
            self._running.message_event.set()
        self.pipeline.clear()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._ignores_input or self.transport.lingers:  # type: ignore[attr-defined]
            return
        self._unparsed_bytes += len(data)
        super().data_received(data)
        if self._unparsed_bytes > MAX_HEADER_BYTES and not self.transport.is_closing():
            self._refusal = _headers_too_large()
            self.send_400_response("")
        elif self._is_busy():
            self.idle.pop(self, None)
            self._abort_reading_in(None)
        elif self._read_deadline is None:
            self._abort_reading_in(self.limits.request_timeout_s)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._abort_writing_in(self.limits.request_timeout_s)

    def resume_writing(self) -> None:
        self._abort_writing_in(None)
        super().resume_writing()

    # uvicorn's parser callbacks

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._header_bytes = self._header_fields = 0

    def on_url(self, url: bytes) -> None:
        super().on_url(url)
        self._count_header(len(url))

    def on_header(self, name: bytes, value: bytes) -> None:
        super().on_header(name, value)
        self._header_fields += 1
        self._count_header(len(name) + len(value) + 4)

    def on_headers_complete(self) -> None:
        self._unparsed_bytes = 0
        if len(self.pipeline) >= MAX_PIPELINED:
            # Not answered: the connection closes after the response to the last request that is.
            self.pipeline[0][0].keep_alive = False
            self._ignores_input = True
            raise _RefusedRequestError
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._unparsed_bytes = 0
        super().on_body(body)

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if not self._is_busy() and not self.transport.is_closing():
            self.idle[self] = None

    # the rest of uvicorn's protocol

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._running = cycle
        super()._start_asgi_task(cycle, app)

    def send_400_response(self, msg: str) -> None:
        """Called by uvicorn if the parser stops."""
        if self._ignores_input:
            return
        status, message = self._refusal
        self._refuse(status, message or "not a valid HTTP/1.1 request; see RFC 9112")

    def shutdown(self) -> None:
        """Called by uvicorn when the server ends. Pipelined requests that wait are dropped; clients send them again."""
        self.pipeline.clear()
        if self._running and self._is_busy():
            self._running.keep_alive = False
        else:
            self.transport.close()

    def _count_header(self, n_bytes: int) -> None:
        self._header_bytes += n_bytes
        if self._header_bytes > MAX_HEADER_BYTES or self._header_fields > MAX_HEADER_FIELDS:
            self._refusal = _headers_too_large()
            raise _RefusedRequestError

    def _refuse(self, status: int, message: str) -> None:
        """Answer what the application does not see, and close the connection."""
        self.idle.pop(self, None)
        self.pipeline.clear()
        self._ignores_input = True
        self._abort_reading_in(None)
        if running := self._is_busy() and self._running:
            running.disconnected = True
            running.message_event.set()
            if running.response_started:  # a second response within the first would be read as part of it
                self.transport.close()
                return
        request_id = uuid.uuid4().hex[:12]
        client = self.client[0] if self.client else ""
        self.on_refusal(status, message, request_id, client)
        body = dumps(error_content(message, request_id)).encode()
        headers = [
            *self.server_state.default_headers,
            (b"content-type", b"application/json"),
            (b"content-length", b"%d" % len(body)),
            (b"connection", b"close"),
            (b"x-content-type-options", b"nosniff"),
            (REQUEST_ID_HEADER.encode(), request_id.encode()),
        ]
        lines = [STATUS_LINE[status], *(name + b": " + value + b"\r\n" for name, value in headers), b"\r\n", body]
        self.transport.write(b"".join(lines))
        self.transport.close()

    def _is_busy(self) -> bool:
        return self._running is not None and not self._running.response_complete

    def _has_input_left(self) -> bool:
        """Whether the client is still sending, so that closing at once would destroy the response on its way."""
        if self.flow is None or not (self._ignores_input or (self.cycle is not None and self.cycle.more_body)):
            return False
        self.flow.resume_reading()
        return True

    def _close_idle_connection(self) -> bool:
        """Close the connection that has been idle for longest. False: none is idle."""
        if not self.idle:
            return False
        connection = next(iter(self.idle))
        del self.idle[connection]
        connection.transport.abort()
        return True

    def _abort_reading_in(self, seconds: float | None) -> None:
        if self._read_deadline is not None:
            self._read_deadline.cancel()
        self._read_deadline = None if seconds is None else self.loop.call_later(seconds, self.transport.abort)

    def _abort_writing_in(self, seconds: float | None) -> None:
        if self._write_deadline is not None:
            self._write_deadline.cancel()
        self._write_deadline = None if seconds is None else self.loop.call_later(seconds, self.transport.abort)


def _headers_too_large() -> tuple[int, str]:
    return 431, (
        f"the headers are too large; wanted at most {MAX_HEADER_BYTES} bytes and {MAX_HEADER_FIELDS} fields, the URL "
        "included"
    )
