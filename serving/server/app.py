"""The routes: an Embedder over HTTP.

app = create_app(Pipeline(Embedder.load("bundles/first"), Limits()))
"""

from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from importlib.metadata import version
from typing import Annotated, Any

from fastapi import FastAPI, Query, Request
from fastapi.responses import HTMLResponse, JSONResponse, Response
from starlette.middleware.cors import CORSMiddleware

from serving.embedder import Embedder
from serving.errors import LabelError
from serving.label_text import split_labels, unquote
from serving.pooling import pool
from serving.server.answers import RAW, RAW_HEADERS, answer_json, answer_raw, embedding_fields, wants_raw
from serving.server.canary import Canary
from serving.server.failures import REQUEST_ID_HEADER, install
from serving.server.guard import RequestGuard
from serving.server.inference_protocol import create_router
from serving.server.keys import KeyCheck, Keys
from serving.server.metrics import CONTENT_TYPE
from serving.server.page import render
from serving.server.pipeline import Heard, Pipeline
from serving.server.responses import (
    ClassifyQuery,
    ClassifyResponse,
    ClassifyResponses,
    EmbedQuery,
    EmbedResponse,
    EmbedResponses,
    Failure,
    Health,
    ModelResponse,
)
from serving.server.route import QueryRoute
from serving.server.upload import REQUEST_BODY

DESCRIPTION = """Recordings to 128-number embeddings, and to ranked labels, also of sounds never trained on.

    curl --data-binary @dog.ogg 'http://127.0.0.1:8000/v1/classify?labels=dog,rain'

Every failure is `{"error": one line that says the way out, "request_id": ...}`. A request's id is its own header
`x-request-id`, or made here; it comes back in that header and stands in the server's log. The Open Inference Protocol
(KServe v2) is at `/v2`."""

FAILURES: dict[int | str, dict[str, Any]] = {
    400: {"model": Failure, "description": "empty, not a whole multipart form, or not packed as it says"},
    401: {"model": Failure, "description": "no valid API key, where the server asks for one"},
    408: {"model": Failure, "description": "the upload took too long"},
    413: {"model": Failure, "description": "too large, or too long"},
    415: {"model": Failure, "description": "not a readable audio file, or packed in an unknown way"},
    422: {"model": Failure, "description": "no samples, samples that are no sound, or a wrong parameter"},
    429: {"model": Failure, "description": "too busy; the header retry-after says in how many seconds to try again"},
    500: {"model": Failure, "description": "a fault of the server, logged under the id"},
    503: {"model": Failure, "description": "shutting down, or not answered in time"},
}
RAW_CONTENT = {
    "description": f"JSON, or with `Accept: {RAW}` the float32 values alone",
    "headers": {name: {"description": told, "schema": {"type": "string"}} for name, told in RAW_HEADERS.items()},
    "content": {RAW: {"schema": {"type": "string", "format": "binary"}}},
}
MOST_LABELS = 1000  # in one request; the text model takes some milliseconds for each that it has not met lately
# What can change the numbers or the answers, besides the runtime.
LIBRARIES = ("numpy", "soundfile", "soxr", "fastapi", "uvicorn")


def create_app(pipeline: Pipeline, keys: Keys | None = None, cors_origins: Sequence[str] = ()) -> FastAPI:
    """The HTTP service of one embedder.

    keys          only who has one of them is answered; None: everybody
    cors_origins  web pages that may ask, like https://example.org; none: no page from elsewhere
    errors        RuntimeError: the model does not work
    """
    embedder = pipeline.embedder
    app = FastAPI(title="Unheard", description=DESCRIPTION, version="1", docs_url=None, redoc_url=None)
    install(app)
    if keys:
        app.add_middleware(KeyCheck, keys=keys)
    app.add_middleware(RequestGuard, timeout_s=pipeline.limits.request_timeout_s, metrics=pipeline.metrics)
    if cors_origins:  # outermost, so that a page may read failures too
        app.add_middleware(
            CORSMiddleware,
            allow_origins=cors_origins,
            allow_methods=["GET", "POST"],
            allow_headers=["*"],
            expose_headers=[REQUEST_ID_HEADER, "retry-after", *RAW_HEADERS],
        )
    canary = Canary(embedder, pipeline.batcher)
    space, window = embedder.manifest.embedding_space, embedder.manifest.window
    model = describe(embedder)

    async def embed(request: Request, query: Annotated[EmbedQuery, Query()]) -> Response:
        answer = await pipeline.hear(request)
        if wants_raw(request):
            return answer_raw(answer, space, query.windows)
        return answer_json(answer, space, lambda heard: embedding_fields(heard, window if query.windows else None))

    async def classify(request: Request, query: Annotated[ClassifyQuery, Query()]) -> Response:
        answer = await pipeline.hear(request)
        labels = None
        if query.labels is not None:
            labels = read_labels(query.labels, embedder.zeroshot.class_names)
            if len(labels) > MOST_LABELS:
                raise LabelError(f"labels: got {len(labels)}; wanted at most {MOST_LABELS}")
        chosen, unknown_words = embedder.zeroshot, {}
        if labels is not None:  # in a thread: labels that the bundle does not know by name go through its text model
            chosen, unknown_words = await pipeline.decode(
                lambda: (embedder.choose(labels), embedder.unknown_words(labels))
            )
        seen = dict(zip(chosen.class_names, chosen.seen.tolist(), strict=True))

        def rank(heard: Heard) -> dict[str, Any]:
            ranking = chosen.rank(pool(heard.rows), offset=query.offset)
            rows = [{"label": label, "score": score, "seen": seen[label]} for label, score in ranking]
            return {"ranking": rows, "offset": query.offset, "unknown_words": unknown_words}

        return answer_json(answer, space, rank)

    add_for_sounds = partial(
        app.router.add_api_route,
        methods=["POST"],
        openapi_extra={"requestBody": REQUEST_BODY},
        route_class_override=QueryRoute,
    )
    add_for_sounds(
        "/v1/embed",
        embed,
        response_model=EmbedResponse | EmbedResponses,
        responses=FAILURES | {200: RAW_CONTENT},
        summary="A recording's embedding",
    )
    add_for_sounds(
        "/v1/classify",
        classify,
        response_model=ClassifyResponse | ClassifyResponses,
        responses=FAILURES,
        summary="A recording's classes, likeliest first",
    )

    @app.get("/v1/model", response_model=ModelResponse, summary="What serves")
    async def describe_model() -> JSONResponse:
        return JSONResponse(model)

    @app.head("/healthz", include_in_schema=False)
    @app.get("/healthz", response_model=Health, summary="The process is alive")
    async def health() -> JSONResponse:
        return JSONResponse({"status": "ok"})

    @app.head("/readyz", include_in_schema=False)
    @app.get(
        "/readyz",
        response_model=Health,
        responses={503: {"model": Failure, "description": "the model does not work, or the server is shutting down"}},
        summary="The model works: a test sound embeds as it did at the start",
    )
    async def ready(request: Request) -> JSONResponse:
        return await canary.answer(request, pipeline.admission.draining, {"status": "ready"})

    @app.get("/metrics", summary="Counters for Prometheus", response_class=Response)
    async def metrics() -> Response:
        return Response(pipeline.metrics.text(), media_type=CONTENT_TYPE)

    @app.get("/docs", include_in_schema=False)
    async def docs() -> HTMLResponse:
        return HTMLResponse(page, headers={"content-security-policy": "default-src 'none'; style-src 'unsafe-inline'"})

    app.include_router(create_router(pipeline, canary))
    page = render(app.openapi(), with_keys=keys is not None)
    return app


def read_labels(values: Sequence[str], known: Sequence[str]) -> list[str]:
    """The labels that a query asks for.

    values   of the parameter `labels`: one holds labels with commas between, see `split_labels`; of several each is
             one label
    known    the bundle's own names
    errors   LabelError: see `split_labels`
    """
    if len(values) == 1:
        return split_labels(values[0], known)
    return [label for label in map(unquote, values) if label]


def describe(embedder: Embedder) -> dict[str, Any]:
    """The fields of responses.ModelResponse."""
    manifest = asdict(embedder.manifest)
    del manifest["seen_classes"]
    runtime, zeroshot = embedder.runtime, embedder.zeroshot
    return manifest | {
        "classes": [
            {"label": label, "seen": bool(seen)}
            for label, seen in zip(zeroshot.class_names, zeroshot.seen, strict=True)
        ],
        "typed_labels": embedder.knows_text,
        "backend": embedder.backend,
        "precision": embedder.precision,
        "providers": getattr(runtime, "providers", []),
        "versions": {embedder.backend: getattr(runtime, "version", "unknown")}
        | {library: version(library) for library in LIBRARIES},
    }
