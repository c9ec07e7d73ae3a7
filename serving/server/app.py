"""The routes: an Embedder over HTTP.

app = create_app(Embedder.load("bundles/first"), Limits())
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from importlib.metadata import version
from typing import Annotated, Any, TypeVar

import numpy as np
from fastapi import FastAPI, Query, Request
from fastapi.responses import JSONResponse
from numpy.typing import NDArray

from serving.embedder import Embedder, pool, usable_cores
from serving.server.clip import Clip, check_canary, read_clip, timed
from serving.server.failures import failure, install, unexpected
from serving.server.limits import Limits
from serving.server.responses import (
    ClassifyQuery,
    ClassifyResponse,
    EmbedQuery,
    EmbedResponse,
    Failure,
    Health,
    ModelResponse,
)
from serving.server.upload import REQUEST_BODY, read_upload

Result = TypeVar("Result")

DESCRIPTION = """Recordings to 128-number embeddings, and to ranked labels, also of sounds never trained on.

    curl --data-binary @dog.ogg 'http://127.0.0.1:8000/v1/classify?labels=dog,rain'

Every failure is `{"error": one line that says the way out, "request_id": ...}`."""

UPLOAD_FAILURES: dict[int | str, dict[str, Any]] = {
    400: {"model": Failure, "description": "empty, or not a whole multipart form"},
    413: {"model": Failure, "description": "too large, or too long"},
    415: {"model": Failure, "description": "not a readable audio file"},
    422: {"model": Failure, "description": "no samples, samples that are no sound, or a wrong parameter"},
    500: {"model": Failure, "description": "a fault of the server, logged under the id"},
}
# What can change the numbers or the answers, besides the runtime.
LIBRARIES = ("numpy", "soundfile", "soxr", "fastapi", "uvicorn")


def create_app(embedder: Embedder, limits: Limits) -> FastAPI:
    """The HTTP service of one embedder. Decoding and inference run in threads, as many as there are cores."""
    app = FastAPI(title="Unheard", description=DESCRIPTION, version="1")
    install(app)
    threads = ThreadPoolExecutor(usable_cores(), thread_name_prefix="clip")
    seen = dict(zip(embedder.zeroshot.class_names, embedder.zeroshot.seen.tolist(), strict=True))
    model = describe(embedder, seen)

    async def in_thread(work: Callable[[], Result]) -> Result:
        return await asyncio.get_running_loop().run_in_executor(threads, work)

    async def run_windows(windows: NDArray[np.float32]) -> tuple[NDArray[np.float32], float]:
        """The one place where windows meet the model: [n, samples] -> [n, 128] and the milliseconds it took."""
        return await in_thread(lambda: timed(lambda: embedder.run(windows)))

    async def hear(request: Request) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """The embeddings of the uploaded recording's windows [n_windows, 128], and the answer's common fields."""
        data = await read_upload(request, limits)
        clip = await in_thread(lambda: read_clip(data, embedder, limits.max_seconds))
        rows, model_ms = await run_windows(clip.windows)
        return rows, heard(clip, model_ms, embedder.manifest.embedding_space)

    @app.post(
        "/v1/embed",
        response_model=EmbedResponse,
        responses=UPLOAD_FAILURES,
        openapi_extra={"requestBody": REQUEST_BODY},
        summary="A recording's embedding",
    )
    async def embed(request: Request, query: Annotated[EmbedQuery, Query()]) -> JSONResponse:
        rows, answer = await hear(request)
        answer |= {"embedding": pool(rows).tolist(), "windows": None}
        if query.windows:
            window = embedder.manifest.window
            starts = [i * window.hop_samples / window.rate_hz for i in range(len(rows))]
            answer["windows"] = [
                {"start_s": start, "embedding": row.tolist()} for start, row in zip(starts, rows, strict=True)
            ]
        return JSONResponse(answer)

    @app.post(
        "/v1/classify",
        response_model=ClassifyResponse,
        responses=UPLOAD_FAILURES,
        openapi_extra={"requestBody": REQUEST_BODY},
        summary="A recording's classes, likeliest first",
    )
    async def classify(request: Request, query: Annotated[ClassifyQuery, Query()]) -> JSONResponse:
        rows, answer = await hear(request)
        labels = None
        if query.labels is not None:
            labels = [label.strip() for value in query.labels for label in value.split(",") if label.strip()]
        ranking = embedder.zeroshot.rank(pool(rows), labels, query.offset)
        answer["ranking"] = [{"label": label, "score": score, "seen": seen[label]} for label, score in ranking]
        answer["offset"] = query.offset
        return JSONResponse(answer)

    @app.get("/v1/model", response_model=ModelResponse, summary="What serves")
    async def describe_model() -> JSONResponse:
        return JSONResponse(model)

    @app.get("/healthz", response_model=Health, summary="The process is alive")
    async def health() -> JSONResponse:
        return JSONResponse({"status": "ok"})

    @app.get(
        "/readyz",
        response_model=Health,
        responses={503: {"model": Failure, "description": "the model does not work"}},
        summary="The model works: it embeds a tone",
    )
    async def ready(request: Request) -> JSONResponse:
        try:
            # Not among the clips' threads: a queue of uploads must not make the server look broken.
            await asyncio.to_thread(check_canary, embedder)
        except Exception as error:  # whatever it is, it is ours, and the answer is the same
            return failure(request, 503, f"not ready: {unexpected(request, error)}")
        return JSONResponse({"status": "ready"})

    return app


def heard(clip: Clip, model_ms: float, embedding_space: str) -> dict[str, Any]:
    """The fields of responses.Heard."""
    stages = {"decode": clip.decode_ms, "resample": clip.resample_ms, "model": model_ms}
    return {
        "duration_s": clip.duration_s,
        "rate_hz": clip.rate_hz,
        "channels": clip.channels,
        "embedding_space": embedding_space,
        "timings_ms": {stage: round(ms, 3) for stage, ms in stages.items()},
    }


def describe(embedder: Embedder, seen: dict[str, bool]) -> dict[str, Any]:
    """The fields of responses.ModelResponse."""
    manifest = asdict(embedder.manifest)
    del manifest["seen_classes"]
    runtime = embedder.runtime
    return manifest | {
        "classes": [{"label": label, "seen": flag} for label, flag in seen.items()],
        "backend": embedder.backend,
        "providers": getattr(runtime, "providers", []),
        "versions": {embedder.backend: getattr(runtime, "version", "unknown")}
        | {library: version(library) for library in LIBRARIES},
    }
