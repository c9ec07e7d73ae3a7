"""The ASGI messages of one request: what was received, what was answered, and whether the client left."""

import asyncio
import re

from starlette.requests import Request
from starlette.types import Message, Receive, Send

from serving.server.error_responses import REQUEST_ID_HEADER
from serving.server.trace_context import TRACEPARENT

# The rest of a refused upload up to this size is read, to keep the connection open. A new connection costs far more
# under overload: with clips of 441 kB a refusal took 1 to 2 s if it closed the connection, and 15 ms if it did not.
MAX_DISCARDED_BYTES = 2**20
# Not allowed in a header (RFC 9110, section 5.5). uvicorn refuses it when it is too late for another response.
CONTROL_CHARACTER = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")


class RequestMessages:
    """Receives and sends the messages of one request. A context manager in the task that handles the request.

    status             of the response, 0 before it starts
    received_bytes     of the body
    body_is_complete   the whole body was received
    client_left        the client closed the connection before the response was complete, and the task was cancelled
    """

    def __init__(self, request: Request, omit_body: bool, receive: Receive, send: Send):
        """omit_body: answer with the headers only, as for HEAD."""
        self.status = 0
        self.received_bytes = 0
        self.body_is_complete = False
        self.client_left = False
        self._answered = False
        self._omits_body = omit_body
        self._headers = [
            (REQUEST_ID_HEADER.encode(), request.state.request_id.encode()),
            (b"x-content-type-options", b"nosniff"),
        ]
        if request.state.trace:
            self._headers.append((TRACEPARENT.encode(), request.state.trace.traceparent.encode()))
        length = request.headers.get("content-length", "0")
        # A client that sends `expect` may never send its body, and then its next request would be read as that body.
        self._is_long = (
            any(name in request.headers for name in ("transfer-encoding", "expect"))
            or not length.isdigit()
            or int(length) > MAX_DISCARDED_BYTES
        )
        self._receive = receive
        self._send = send
        self._watch: asyncio.Task[None] | None = None
        self._task = asyncio.current_task()

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        if self._watch:
            self._watch.cancel()
        if self.client_left and self._task:
            self._task.uncancel()

    async def receive(self) -> Message:
        """The next message to the application."""
        message = await self._receive()
        if message["type"] == "http.request":
            self.received_bytes += len(message.get("body", b""))
            if not message.get("more_body"):
                self.body_is_complete = True
                # Only a disconnect can follow, and it is reported only to a task that waits for it.
                self._watch = asyncio.create_task(self._cancel_if_client_leaves())
        return message

    async def _cancel_if_client_leaves(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        if not self._answered and self._task:
            self.client_left = True
            self._task.cancel()

    async def send(self, message: Message) -> None:
        """Send a message of the application, with the headers that every response has.

        errors   ValueError: a header has a control character; nothing is sent
        """
        if message["type"] == "http.response.start":
            headers = [*message.get("headers", ()), *self._headers]
            for name, value in headers:
                if CONTROL_CHARACTER.search(value):
                    raise ValueError(f"header {name!r}: has a control character: {value!r:.200}")
            self.status = message["status"]
            if self._is_long and not self.body_is_complete:
                # The client need not send the rest, nor the server read it.
                headers = [header for header in headers if header[0] != b"connection"] + [(b"connection", b"close")]
            message = {**message, "headers": headers}
        else:
            if not message.get("more_body"):
                self._answered = True  # from now on the server itself ends the exchange with a disconnect
            if self._omits_body:
                message = {**message, "body": b""}
        await self._send(message)
