"""The Open Inference Protocol, version 2, over HTTP, for NVIDIA's tritonclient and KServe's clients.

    client = tritonclient.http.InferenceServerClient("127.0.0.1:8000")
    waveform = InferInput("waveform", [1, 77040], "FP32")     # exact windows at the model's rate

Version 2 of https://github.com/kserve/open-inference-protocol, with Triton's binary tensors.
"""

from functools import partial
from typing import Any

import numpy as np
from fastapi import APIRouter, Path, Request
from fastapi.responses import JSONResponse, Response
from numpy.typing import NDArray
from starlette.exceptions import HTTPException

from serving.audio import Window
from serving.server.admission import Ticket
from serving.server.app_state import pipeline_of
from serving.server.body import read_chunks, read_whole
from serving.server.pipeline import Pipeline
from serving.server.schemas import ErrorResponse, describe_errors
from serving.server.tensors import (
    DATATYPE,
    INPUT,
    OUTPUT,
    Inference,
    ProtocolError,
    max_json_bytes,
    read_inference,
    write_inference,
)

VERSION = "1"  # a server has one version of one model
SERVER = {"name": "unheard", "version": "1"}
EXTENSIONS = ["binary_tensor_data"]
# Triton's names for the runtimes that it knows.
PLATFORMS = {"onnxruntime": "onnxruntime_onnx", "openvino": "openvino_onnx", "tensorrt": "tensorrt_plan"}
BAD_REQUEST = {"model": ErrorResponse, "description": "not a request of the protocol, or not fit for the model"}
JSON_LENGTH_HEADER = "inference-header-content-length"


def create_inference_router(metadata: dict[str, Any], window: Window) -> APIRouter:
    """The routes below /v2 for one model.

    metadata   see `model_metadata`
    window     of the model
    """
    router = APIRouter(prefix="/v2", tags=["Open Inference Protocol"], redirect_slashes=False)
    name = metadata["name"]
    # Described as an enum but checked by check_model, because another name is a 404 in this protocol.
    named = Path(description="the model's name", json_schema_extra={"enum": [name]})

    @router.get("", summary="The server")
    async def server() -> JSONResponse:
        return JSONResponse({**SERVER, "extensions": EXTENSIONS})

    @router.get("/health/live", summary="The process is alive")
    async def live() -> JSONResponse:
        return JSONResponse({"live": True})

    @router.get("/health/ready", summary="The model works", responses={503: {"model": ErrorResponse}})
    async def ready(request: Request) -> JSONResponse:
        pipeline = pipeline_of(request)
        return await pipeline.readiness.answer(request, pipeline.admission.draining, {"ready": True})

    @router.get("/models/{model}", summary="Names, types and shapes of the tensors", responses=describe_errors(404))
    @router.get("/models/{model}/versions/{version}", include_in_schema=False)
    async def describe(model: str = named, version: str = VERSION) -> JSONResponse:
        check_model(name, model, version)
        return JSONResponse(metadata)

    @router.get("/models/{model}/ready", summary="The model works", responses=describe_errors(404))
    @router.get("/models/{model}/versions/{version}/ready", include_in_schema=False)
    async def model_ready(request: Request, model: str = named, version: str = VERSION) -> JSONResponse:
        check_model(name, model, version)
        pipeline = pipeline_of(request)
        return await pipeline.readiness.answer(request, pipeline.admission.draining, {"name": name, "ready": True})

    @router.post(
        "/models/{model}/infer",
        summary="Windows to embeddings",
        responses={400: BAD_REQUEST} | describe_errors(404, 413, 429),
        openapi_extra={"requestBody": inference_body(window)},
    )
    @router.post("/models/{model}/versions/{version}/infer", include_in_schema=False)
    async def infer(request: Request, model: str = named, version: str = VERSION) -> Response:
        check_model(name, model, version)
        content, n_json = await run_inference(pipeline_of(request), request, name)
        if n_json is None:
            return Response(content, media_type="application/json")
        headers = {JSON_LENGTH_HEADER: str(n_json)}
        return Response(content, headers=headers, media_type="application/octet-stream")

    return router


async def run_inference(pipeline: Pipeline, request: Request, model: str) -> tuple[bytes, int | None]:
    """Read a request to infer and embed its windows.

    returns  as `write_inference`
    errors   HTTPException: 4xx or 503
    """
    with pipeline.admission.enter() as ticket:
        inference = await read_request(pipeline, request, ticket)
        rows = await embed_inference(pipeline, inference, ticket, request.state.log)
    return write_inference(rows, inference, model, VERSION)


async def embed_inference(
    pipeline: Pipeline, inference: Inference, ticket: Ticket, log: dict[str, Any]
) -> NDArray[np.float32]:
    """Embed the windows of a request that was read: [n, size] float32.

    log     the fields of the request's log line; what was embedded is added
    errors  HTTPException 413: too much sound; 429: the queue is full
    """
    limits, window = pipeline.limits, pipeline.embedder.manifest.window
    ticket.release_bytes()
    seconds = len(inference.windows) * window.samples / window.rate_hz
    if seconds > limits.max_seconds:
        raise HTTPException(413, f"{INPUT}: got {seconds:g} s; wanted at most {limits.max_seconds:g} in one request")
    ticket.hold_seconds(seconds)
    batched = await pipeline.embed_windows(inference.windows)
    stages = {"queue": round(batched.queue_ms, 3), "model": round(batched.model_ms, 3)}
    log |= {"audio_s": round(seconds, 3), "stages_ms": stages}
    return batched.rows


async def read_request(pipeline: Pipeline, request: Request, ticket: Ticket) -> Inference:
    """Read and parse a request to infer, in a decoder thread. A body of JSON alone has a lower limit than others."""
    header_length = request.headers.get(JSON_LENGTH_HEADER)
    max_json = max_json_bytes(pipeline.max_batch, pipeline.embedder.manifest.window.samples)
    hint = f"send at most {pipeline.max_batch} windows as JSON, or binary tensors"
    chunks = read_chunks(request, pipeline.limits, ticket, max_json if header_length is None else None, hint)
    data = await read_whole(chunks)
    parse = partial(read_inference, data, header_length, pipeline.embedder.manifest.window.samples, max_json)
    del data
    try:
        return await pipeline.decode(parse)
    except ProtocolError as error:
        raise HTTPException(400, str(error)) from error


def model_name(pipeline: Pipeline) -> str:
    """The model's name: that of the bundle's folder, as in export.triton."""
    return pipeline.embedder.bundle.folder.resolve().name


def check_model(name: str, model: str, version: str) -> None:
    """Refuse a request for another model than the one with this name, or for another version. HTTPException 404."""
    if (model, version) != (name, VERSION):
        got = f"{model[:80]} version {version[:80]}"
        raise HTTPException(404, f"no such model: got {got}; this server has {name} version {VERSION}")


def model_metadata(pipeline: Pipeline) -> dict[str, Any]:
    """The protocol's description of the model: the names, types and shapes of its tensors."""
    manifest, backend = pipeline.embedder.manifest, pipeline.embedder.backend
    window = manifest.window
    return {
        "name": model_name(pipeline),
        "versions": [VERSION],
        "platform": PLATFORMS.get(backend, backend),
        "inputs": [{"name": INPUT, "datatype": DATATYPE, "shape": [-1, window.samples]}],
        "outputs": [{"name": OUTPUT, "datatype": DATATYPE, "shape": [-1, manifest.embedding_size]}],
        "parameters": {"rate_hz": window.rate_hz, "embedding_space": manifest.embedding_space},
    }


def inference_body(window: Window) -> dict[str, Any]:
    """OpenAPI's description of the body of a request to infer."""
    values = [0.0, 0.1, -0.1]
    example = {"inputs": [{"name": INPUT, "datatype": DATATYPE, "shape": [1, window.samples], "data": values}]}
    tensor = {
        "type": "object",
        "required": ["name", "datatype", "shape"],
        "properties": {
            "name": {"const": INPUT},
            "datatype": {"const": DATATYPE},
            "shape": {"type": "array", "items": {"type": "integer"}, "minItems": 2, "maxItems": 2},
            "data": {"type": "array", "description": "row after row, flat or nested"},
        },
    }
    return {
        "required": True,
        "description": f"Windows of exactly {window.samples} samples at {window.rate_hz} Hz, mono, in [-1, 1]. The "
        "example shows only the first values. Tensors may also follow as bytes, as in Triton's binary extension.",
        "content": {
            "application/json": {
                "schema": {
                    "type": "object",
                    "required": ["inputs"],
                    "properties": {"inputs": {"type": "array", "items": tensor, "minItems": 1, "maxItems": 1}},
                },
                "example": example,
            }
        },
    }
