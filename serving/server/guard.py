"""Around every request: an id, a limit of time, an end when its client leaves, a log line, the counters."""

import asyncio
import re
import time
import uuid

import structlog
from starlette.datastructures import MutableHeaders
from starlette.requests import ClientDisconnect, Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.server.failures import REQUEST_ID_HEADER, failure, unexpected
from serving.server.log import request_line
from serving.server.metrics import Metrics

CLIENT_LEFT = 499  # as nginx counts it; nobody is there to receive it
# Bytes of a refused upload that are worth reading to keep the connection. Under overload a new one costs far more: with
# clips of 441 kB a refusal came after 1 to 2 s where it ended the connection, after 15 ms where it does not.
SMALL_REST = 2**20
REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


class RequestGuard:
    """ASGI middleware around the whole app. Whatever is raised inside, the client gets an answer, and one only.

    The id is the client's own where `x-request-id` is up to 64 letters, digits, dots, dashes and underscores.
    """

    def __init__(self, app: ASGIApp, timeout_s: float, metrics: Metrics):
        self.app = app
        self.timeout_s = timeout_s
        self.metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started = time.perf_counter()
        request = Request(scope)
        given = request.headers.get(REQUEST_ID_HEADER, "")
        request.state.request_id = given if REQUEST_ID.fullmatch(given) else uuid.uuid4().hex[:12]
        request.state.log = {}  # what the routes have to tell
        exchange = _Exchange(request, receive, send)
        with structlog.contextvars.bound_contextvars(request_id=request.state.request_id):
            await self._answer(request, exchange)
            # uvloop sends what it was given when the loop has come round: the answer does not wait for its line.
            await asyncio.sleep(0)
            seconds = time.perf_counter() - started
            route = getattr(scope.get("route"), "path", "none")
            self.metrics.on_request(route, exchange.status, seconds)
            fields = {
                "method": request.method,
                "path": scope["path"][:200],
                "status": exchange.status,
                "ms": round(1000 * seconds, 3),
                "received_bytes": exchange.received_bytes,
            }
            request_line(__name__, **fields, **request.state.log)

    async def _answer(self, request: Request, exchange: "_Exchange") -> None:
        status, message, headers = 500, "", {}
        try:
            async with asyncio.timeout(self.timeout_s):
                with exchange:
                    await self.app(request.scope, exchange.receive, exchange.send)
            return
        except ClientDisconnect:  # while its body was read
            exchange.status = exchange.status or CLIENT_LEFT
            return
        except TimeoutError:
            if exchange.body_is_whole:
                status, message = 503, f"not answered within {self.timeout_s:g} s; try again later"
                headers = {"retry-after": "1"}
            else:
                status, message = 408, f"the upload took longer than {self.timeout_s:g} s; send it faster"
                headers = {"connection": "close"}
        except asyncio.CancelledError:
            if not exchange.client_left:
                raise
            exchange.status = exchange.status or CLIENT_LEFT
            return
        except Exception as error:
            message = unexpected(request, error)
        if not exchange.status:  # else the client sees a broken answer, which is the truth
            await failure(request, status, message, headers)(request.scope, exchange.receive, exchange.send)


class _Exchange:
    """The messages of one request, watched. A context manager in the task that works on it.

    status          of the answer, 0 before it starts
    received_bytes  of the body
    body_is_whole   nothing more of it is to come
    client_left     it closed the connection before the answer was whole, and the task was cancelled
    """

    def __init__(self, request: Request, receive: Receive, send: Send):
        self.status = 0
        self.received_bytes = 0
        self.body_is_whole = False
        self.client_left = False
        self._answered = False
        self._request_id = request.state.request_id
        length = request.headers.get("content-length", "0")
        # Who asks before sending may never send the rest, and the next request would be taken for it.
        self._is_long = (
            any(name in request.headers for name in ("transfer-encoding", "expect"))
            or not length.isdigit()
            or int(length) > SMALL_REST
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
        message = await self._receive()
        if message["type"] == "http.request":
            self.received_bytes += len(message.get("body", b""))
            if not message.get("more_body"):
                self.body_is_whole = True
                # Only a disconnect can come now, and only who waits for it learns of it.
                self._watch = asyncio.create_task(self._cancel_when_client_leaves())
        return message

    async def _cancel_when_client_leaves(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        if not self._answered and self._task:
            self.client_left = True
            self._task.cancel()

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = MutableHeaders(scope=message)
            headers[REQUEST_ID_HEADER] = self._request_id
            if self._is_long and not self.body_is_whole:
                headers["connection"] = "close"  # its client need not send the rest, nor the server read it
        elif not message.get("more_body"):
            self._answered = True  # from now on the server itself ends the exchange with a disconnect
        await self._send(message)
