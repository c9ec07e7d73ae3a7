"""Around every request: its id, its time limit, its cancellation if the client leaves, its log line and its metrics."""

import asyncio
import re
import time
import uuid

import structlog
from starlette.requests import ClientDisconnect, Request
from starlette.types import ASGIApp, Receive, Scope, Send

from serving.server.error_responses import REQUEST_ID_HEADER, error_response, log_fault
from serving.server.log import log_request
from serving.server.metrics import Metrics
from serving.server.request_messages import RequestMessages
from serving.server.trace_context import TRACEPARENT
from serving.server.tracing import Tracing, span_attributes

CLIENT_LEFT = 499  # nginx's status for this; no client receives it
REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
MAX_LOGGED_PATH = 200  # characters


class RequestMiddleware:
    """ASGI middleware around the whole app. Every request gets exactly one response, whatever is raised inside.

    A request's id is its header `x-request-id` if that consists of up to 64 letters, digits, dots, dashes and
    underscores. A request with a valid header `traceparent` has its trace in all its log lines, and the response goes
    on with it. HEAD is answered like GET, without the body. A path may begin with the root path
    or not, as the proxy sends it.
    """

    def __init__(self, app: ASGIApp, timeout_s: float, metrics: Metrics, tracing: Tracing, root_path: str = ""):
        self.app = app
        self.timeout_s = timeout_s
        self.metrics = metrics
        self.tracing = tracing
        self.root_path = root_path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started = time.perf_counter()
        method, path = scope["method"], scope["path"]
        request = Request(self._inner_scope(scope))
        given = request.headers.get(REQUEST_ID_HEADER, "")
        request.state.request_id = given if REQUEST_ID.fullmatch(given) else uuid.uuid4().hex[:12]
        span = self.tracing.begin(request.headers.get(TRACEPARENT, ""))
        request.state.trace = trace = span.trace
        request.state.log = {}  # fields that the routes add to the log line
        messages = RequestMessages(request, method == "HEAD", receive, send)
        context = {"request_id": request.state.request_id} | (trace.log_fields if trace else {})
        with structlog.contextvars.bound_contextvars(**context):
            await self._answer(request, messages)
            # uvloop sends the response in the next turn of the loop: so it does not wait for the log line.
            await asyncio.sleep(0)
            seconds = time.perf_counter() - started
            route = getattr(request.scope.get("route"), "path", "none")
            self.metrics.on_request(route, messages.status, seconds)
            fields = {
                "method": method,
                "path": path[:MAX_LOGGED_PATH],
                "client": scope["client"][0] if scope.get("client") else "",
                "status": messages.status,
                "ms": round(1000 * seconds, 3),
                "received_bytes": messages.received_bytes,
            }
            log_request(__name__, **fields, **request.state.log)
            about = {"http.request.method": method, "http.route": route, "http.response.status_code": messages.status}
            span.end(f"{method} {route}", messages.status, about | span_attributes(fields | request.state.log))

    def _inner_scope(self, scope: Scope) -> Scope:
        changes = {}
        if scope["method"] == "HEAD":
            changes["method"] = "GET"
        if self.root_path:
            changes["root_path"] = self.root_path
            if not scope["path"].startswith(self.root_path + "/"):
                changes["path"] = self.root_path + scope["path"]  # ASGI's path contains the root path
        return {**scope, **changes} if changes else scope

    async def _answer(self, request: Request, messages: RequestMessages) -> None:
        status, message, headers = 500, "", {}
        try:
            async with asyncio.timeout(self.timeout_s):
                with messages:
                    await self.app(request.scope, messages.receive, messages.send)
            return
        except ClientDisconnect:  # while its body was read
            messages.status = messages.status or CLIENT_LEFT
            return
        except TimeoutError:
            if messages.body_is_complete:
                status, message = 503, f"not answered within {self.timeout_s:g} s; try again later"
                headers = {"retry-after": "1"}
            else:
                status, message = 408, f"the upload took longer than {self.timeout_s:g} s; send it faster"
                headers = {"connection": "close"}
        except asyncio.CancelledError:
            if not messages.client_left:
                raise
            messages.status = messages.status or CLIENT_LEFT
            return
        except Exception as error:
            message = log_fault(request.state.request_id, f"{request.method} {request.url.path!r}", error)
        if not messages.status:  # otherwise a response has begun, and the client sees that it is incomplete
            await error_response(request, status, message, headers)(request.scope, messages.receive, messages.send)
