"""The Open Inference Protocol over gRPC: each call, with its key, its time limit, its log line and its metrics.

    client = tritonclient.grpc.InferenceServerClient("127.0.0.1:8001")

Calls share the admission, the batches, the keys and the metrics of HTTP. A failure has the gRPC status that fits the
HTTP status of the same failure, which is also the one in the log and the metrics.
"""

import asyncio
import re
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import nullcontext
from functools import partial
from typing import Any

import structlog
from starlette.exceptions import HTTPException

from serving.server.api_keys import key_in
from serving.server.error_responses import REQUEST_ID_HEADER, log_fault
from serving.server.grpc_messages import (
    read_model,
    read_model_infer,
    write_flag,
    write_model,
    write_model_infer,
    write_server,
)
from serving.server.inference_protocol import (
    SERVER,
    VERSION,
    check_model,
    embed_inference,
    model_metadata,
    model_name,
)
from serving.server.limits import Limits
from serving.server.log import log_request
from serving.server.reload import Generation, ReloadableApp
from serving.server.request_middleware import CLIENT_LEFT, REQUEST_ID
from serving.server.tensors import ProtocolError
from serving.server.trace_context import TRACEPARENT
from serving.server.tracing import Tracing, span_attributes
from serving.server.upload_slots import UploadSlots

PREFIX = "/inference.GRPCInferenceService/"
OPEN_CALLS = frozenset(("ServerLive", "ServerReady"))  # without a key, as over HTTP
STATUS_NAMES = {
    200: "OK",
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    404: "NOT_FOUND",
    408: "DEADLINE_EXCEEDED",
    413: "INVALID_ARGUMENT",
    429: "RESOURCE_EXHAUSTED",
    503: "UNAVAILABLE",
}

Messages = AsyncIterator[bytes]


class Call:
    """One call: who sent it, and what its log line will say.

    metadata   the client's, with names in lower case
    messages   what the client sends, serialised; every call of the protocol sends one message
    """

    def __init__(self, name: str, messages: Messages, context: Any, tracing: Tracing):
        self.name = name
        self.context = context
        self.metadata = {
            str(key): value for key, value in context.invocation_metadata() or () if isinstance(value, str)
        }
        given = self.metadata.get(REQUEST_ID_HEADER, "")
        self.request_id = given if REQUEST_ID.fullmatch(given) else uuid.uuid4().hex[:12]
        self.span = tracing.begin(self.metadata.get(TRACEPARENT, ""))
        self.received_bytes = 0
        self.is_read = False
        self.log: dict[str, Any] = {}
        self._messages = messages

    async def read(self) -> bytes:
        """The message of the call. HTTPException 400: there is none."""
        content = await anext(self._messages, None)
        if not isinstance(content, bytes):
            raise HTTPException(400, f"{self.name}: got no message")
        self.is_read, self.received_bytes = True, len(content)
        return content

    @property
    def client(self) -> str:
        """The client's address, like 127.0.0.1."""
        match = re.fullmatch(r"ipv[46]:(.*):\d+", self.context.peer())
        return match[1].strip("[]").replace("%5B", "").replace("%5D", "") if match else self.context.peer()

    @property
    def headers(self) -> list[tuple[str, str]]:
        """The metadata of the answer."""
        trace = [(TRACEPARENT, self.span.trace.traceparent)] if self.span.trace else []
        return [(REQUEST_ID_HEADER, self.request_id), *trace]


class InferenceService:
    """The protocol's calls over the generation that is current when a call begins.

    Their messages are read by the calls themselves, so that a call can be refused before its message is in memory.
    """

    def __init__(self, app: ReloadableApp, limits: Limits, uploads: UploadSlots):
        self._app = app
        self._limits = limits
        self._uploads = uploads
        self._calls: dict[str, Callable[[Generation, Call], Awaitable[bytes]]] = {
            "ServerLive": self._server_live,
            "ServerReady": self._server_ready,
            "ModelReady": self._model_ready,
            "ServerMetadata": self._server_metadata,
            "ModelMetadata": self._model_metadata,
            "ModelInfer": self._model_infer,
        }

    def service(self, handler_call_details: Any) -> Any:
        """The handler of a call, as grpc.GenericRpcHandler has it; None: the protocol has no such call."""
        from grpc import stream_unary_rpc_method_handler  # here, because grpcio is an extra

        name = handler_call_details.method.removeprefix(PREFIX)
        if name not in self._calls:
            return None
        return stream_unary_rpc_method_handler(partial(self._answer, name))

    async def _answer(self, name: str, messages: Messages, context: Any) -> bytes:
        started, pipeline = time.perf_counter(), self._app.current.pipeline
        call = Call(name, messages, context, pipeline.tracing)
        trace_fields = call.span.trace.log_fields if call.span.trace else {}
        answer, status, message, retry = b"", CLIENT_LEFT, "", ()
        with structlog.contextvars.bound_contextvars(request_id=call.request_id, **trace_fields):
            try:
                answer, status, message, retry = await self._run(call)
            finally:  # also if the client left
                seconds = time.perf_counter() - started
                pipeline.metrics.on_request(PREFIX + name, status, seconds)
                fields = {
                    "method": "gRPC",
                    "path": PREFIX + name,
                    "client": call.client,
                    "status": status,
                    "ms": round(1000 * seconds, 3),
                    "received_bytes": call.received_bytes,
                }
                log_request(__name__, **fields, **call.log)
                about = {"rpc.system": "grpc", "rpc.service": PREFIX.strip("/"), "rpc.method": name}
                call.span.end(PREFIX.strip("/") + f"/{name}", status, about | span_attributes(fields | call.log))
        await context.send_initial_metadata(call.headers)
        if status != 200:
            from grpc import StatusCode

            await context.abort(StatusCode[STATUS_NAMES.get(status, "INTERNAL")], message, (*call.headers, *retry))
        return answer

    async def _run(self, call: Call) -> tuple[bytes, int, str, Sequence[tuple[str, str]]]:
        """The answer, its HTTP status, the message of a failure, and metadata that says when to try again."""
        timeout_s = self._limits.request_timeout_s
        try:
            async with asyncio.timeout(timeout_s):
                with self._app.use() as generation:
                    keys, metrics = generation.keys, generation.pipeline.metrics
                    counted = nullcontext()
                    if keys and call.name not in OPEN_CALLS:
                        counted = keys.enter(key_in(call.metadata), call.log, metrics)
                    with counted:
                        return await self._calls[call.name](generation, call), 200, "", ()
        except HTTPException as error:
            retry = [(key, value) for key, value in (error.headers or {}).items() if key == "retry-after"]
            return b"", error.status_code, error.detail, retry
        except ProtocolError as error:
            return b"", 400, str(error), ()
        except TimeoutError:
            if call.is_read:
                return b"", 503, f"not answered within {timeout_s:g} s; try again later", [("retry-after", "1")]
            return b"", 408, f"the upload took longer than {timeout_s:g} s; send it faster", ()
        except Exception as error:
            return b"", 500, log_fault(call.request_id, f"gRPC {call.name}", error), ()

    async def _server_live(self, generation: Generation, call: Call) -> bytes:
        return write_flag(True)

    async def _server_ready(self, generation: Generation, call: Call) -> bytes:
        pipeline = generation.pipeline
        return write_flag(not await pipeline.readiness.problem(pipeline.admission.draining, call.request_id))

    async def _model_ready(self, generation: Generation, call: Call) -> bytes:
        self._check_model(generation, *read_model(await call.read()))
        return await self._server_ready(generation, call)

    async def _server_metadata(self, generation: Generation, call: Call) -> bytes:
        return write_server(**SERVER)

    async def _model_metadata(self, generation: Generation, call: Call) -> bytes:
        self._check_model(generation, *read_model(await call.read()))
        return write_model(model_metadata(generation.pipeline))

    async def _model_infer(self, generation: Generation, call: Call) -> bytes:
        pipeline = generation.pipeline
        with pipeline.admission.enter() as ticket:
            async with self._uploads.enter():
                content = await call.read()
            ticket.hold_bytes(len(content))
            parse = partial(read_model_infer, content, pipeline.embedder.manifest.window.samples)
            del content
            model, version, inference = await pipeline.decode(parse)
            del parse
            self._check_model(generation, model, version)
            rows = await embed_inference(pipeline, inference, ticket, call.log)
        return write_model_infer(rows, inference, model, VERSION)

    def _check_model(self, generation: Generation, model: str, version: str) -> None:
        check_model(model_name(generation.pipeline), model, version or VERSION)
