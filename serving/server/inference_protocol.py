"""The Open Inference Protocol, version 2, over HTTP: what NVIDIA's tritonclient and KServe's clients speak.

    client = tritonclient.http.InferenceServerClient("127.0.0.1:8000")
    waveform = InferInput("waveform", [1, 77040], "FP32")     # exact windows at the model's rate

Version 2 of https://github.com/kserve/open-inference-protocol, with Triton's binary tensors.
"""

from functools import partial
from typing import Any

from fastapi import APIRouter, Path, Request
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException

from serving.server.canary import Canary
from serving.server.pipeline import Pipeline
from serving.server.responses import Failure
from serving.server.tensors import DATATYPE, INPUT, OUTPUT, ProtocolError, read_inference, write_inference
from serving.server.upload import read_stream, read_whole

VERSION = "1"  # of the model: a server has one
EXTENSIONS = ["binary_tensor_data"]
# As Triton calls what runs a model, where it has a name for it.
PLATFORMS = {"onnxruntime": "onnxruntime_onnx", "openvino": "openvino_onnx", "tensorrt": "tensorrt_plan"}
FAILURES: dict[int | str, dict[str, Any]] = {
    400: {"model": Failure, "description": "not a request of the protocol, or one that does not fit the model"},
    404: {"model": Failure, "description": "another model or version"},
    413: {"model": Failure, "description": "too large, or too long"},
    429: {"model": Failure, "description": "too busy; the header retry-after says in how many seconds to try again"},
}


def create_router(pipeline: Pipeline, canary: Canary) -> APIRouter:
    """The addresses below /v2, for one model with the name of its bundle's folder, as export.triton calls it."""
    router = APIRouter(prefix="/v2", tags=["Open Inference Protocol"])
    manifest = pipeline.embedder.manifest
    name, window = pipeline.embedder.bundle.folder.resolve().name, manifest.window
    # Told, not checked: another name is a 404 in the protocol's words.
    named = Path(description="the model's name", json_schema_extra={"enum": [name]})
    metadata = {
        "name": name,
        "versions": [VERSION],
        "platform": PLATFORMS.get(pipeline.embedder.backend, pipeline.embedder.backend),
        "inputs": [{"name": INPUT, "datatype": DATATYPE, "shape": [-1, window.samples]}],
        "outputs": [{"name": OUTPUT, "datatype": DATATYPE, "shape": [-1, manifest.embedding_size]}],
        "parameters": {"rate_hz": window.rate_hz, "embedding_space": manifest.embedding_space},
    }

    def check_model(model: str, version: str) -> None:
        if (model, version) != (name, VERSION):
            got = f"{model[:80]} version {version[:80]}"
            raise HTTPException(404, f"no such model: got {got}; this server has {name} version {VERSION}")

    @router.get("", summary="The server")
    async def server() -> JSONResponse:
        return JSONResponse({"name": "unheard", "version": "1", "extensions": EXTENSIONS})

    @router.get("/health/live", summary="The process is alive")
    async def live() -> JSONResponse:
        return JSONResponse({"live": True})

    @router.get("/health/ready", summary="The model works", responses={503: {"model": Failure}})
    async def ready(request: Request) -> JSONResponse:
        return await canary.answer(request, pipeline.admission.draining, {"ready": True})

    @router.get("/models/{model}", summary="Names, types and shapes of the tensors", responses={404: FAILURES[404]})
    @router.get("/models/{model}/versions/{version}", include_in_schema=False)
    async def describe(model: str = named, version: str = VERSION) -> JSONResponse:
        check_model(model, version)
        return JSONResponse(metadata)

    @router.get("/models/{model}/ready", summary="The model works", responses={404: FAILURES[404]})
    @router.get("/models/{model}/versions/{version}/ready", include_in_schema=False)
    async def model_ready(request: Request, model: str = named, version: str = VERSION) -> JSONResponse:
        check_model(model, version)
        return await canary.answer(request, pipeline.admission.draining, {"name": name, "ready": True})

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
    body = {
        "required": True,
        "description": f"Exact windows of {window.samples} samples at {window.rate_hz} Hz, mono, in [-1, 1]; the "
        "example's data is cut short. Tensors may follow as bytes, as Triton's binary extension says.",
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

    @router.post(
        "/models/{model}/infer",
        summary="Windows to embeddings",
        responses=FAILURES,
        openapi_extra={"requestBody": body},
    )
    @router.post("/models/{model}/versions/{version}/infer", include_in_schema=False)
    async def infer(request: Request, model: str = named, version: str = VERSION) -> Response:
        check_model(model, version)
        header_length = request.headers.get("inference-header-content-length")
        with pipeline.admission.enter() as ticket:
            data = await read_whole(read_stream(request, pipeline.limits, ticket))
            parse = partial(read_inference, data, header_length, window.samples)
            del data
            try:
                inference = await pipeline.decode(parse)
            except ProtocolError as error:
                raise HTTPException(400, str(error)) from error
            del parse
            ticket.release_bytes()
            seconds = len(inference.windows) * window.samples / window.rate_hz
            if seconds > pipeline.limits.max_seconds:
                raise HTTPException(
                    413, f"{INPUT}: got {seconds:g} s; wanted at most {pipeline.limits.max_seconds:g} in one request"
                )
            ticket.hold_seconds(seconds)
            batched = await pipeline.embed(inference.windows)
        request.state.log |= {"audio_s": round(seconds, 3)}
        content, n_json = write_inference(batched.rows, inference, name, VERSION)
        if n_json is None:
            return Response(content, media_type="application/json")
        headers = {"inference-header-content-length": str(n_json)}
        return Response(content, headers=headers, media_type="application/octet-stream")

    return router
