"""The routes for those who run the server: the model's description, health, metrics."""

from dataclasses import asdict
from importlib.metadata import version
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response

from serving.embedder import Embedder
from serving.server.app_state import pipeline_of
from serving.server.metrics import CONTENT_TYPE
from serving.server.schemas import ErrorResponse, Health, ModelResponse

# Besides the runtime, these libraries can change the numbers or the responses.
LIBRARIES = ("numpy", "soundfile", "soxr", "fastapi", "uvicorn")


def create_operation_router(model: dict[str, Any]) -> APIRouter:
    """The routes, as one router. model: see `describe_model`"""
    router = APIRouter(redirect_slashes=False)

    @router.get("/v1/model", response_model=ModelResponse, summary="The model and what runs it")
    async def get_model() -> JSONResponse:
        return JSONResponse(model)

    @router.get("/healthz", response_model=Health, summary="The process is alive")
    async def health() -> JSONResponse:
        return JSONResponse({"status": "ok"})

    unready = "the model does not work, or the server is shutting down"

    @router.get(
        "/readyz",
        response_model=Health,
        responses={503: {"model": ErrorResponse, "description": unready}},
        summary="The model works: a test sound has the same embedding as at the start",
    )
    async def ready(request: Request) -> JSONResponse:
        pipeline = pipeline_of(request)
        return await pipeline.readiness.answer(request, pipeline.admission.draining, {"status": "ready"})

    @router.get("/metrics", summary="Metrics for Prometheus", response_class=Response)
    async def metrics(request: Request) -> Response:
        return Response(pipeline_of(request).metrics.text(), media_type=CONTENT_TYPE)

    return router


def describe_model(embedder: Embedder) -> dict[str, Any]:
    """The fields of schemas.ModelResponse."""
    manifest = asdict(embedder.manifest)
    del manifest["seen_classes"]
    runtime, zeroshot = embedder.runtime, embedder.zeroshot
    return manifest | {
        "classes": [
            {"label": label, "seen": bool(seen)}
            for label, seen in zip(zeroshot.class_names, zeroshot.seen, strict=True)
        ],
        "typed_labels": embedder.labels.knows_text,
        "backend": embedder.backend,
        "precision": embedder.precision,
        "providers": getattr(runtime, "providers", []),
        "versions": {embedder.backend: getattr(runtime, "version", "unknown")}
        | {library: version(library) for library in LIBRARIES},
    }
