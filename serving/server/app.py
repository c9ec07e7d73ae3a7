"""The HTTP application of one embedder, assembled from its routes and middleware.

app = create_app(Pipeline(Embedder.load("bundles/first"), Limits()))
"""

from collections.abc import Sequence

from fastapi import FastAPI
from fastapi.responses import HTMLResponse

from serving.server.api_keys import ApiKeyMiddleware, ApiKeys
from serving.server.app_state import set_pipeline
from serving.server.cors import CorsMiddleware
from serving.server.docs_page import render_docs
from serving.server.error_responses import REQUEST_ID_HEADER, install_error_handlers
from serving.server.inference_protocol import create_inference_router, model_metadata
from serving.server.model_routes import create_model_router
from serving.server.operation_routes import create_operation_router, describe_model
from serving.server.pipeline import Pipeline
from serving.server.request_middleware import RequestMiddleware
from serving.server.response_bodies import RAW_HEADERS
from serving.server.search_routes import create_search_router

DESCRIPTION = """Turns recordings into embeddings of 128 numbers and into ranked labels, unseen classes included.

    curl --data-binary @dog.ogg 'http://127.0.0.1:8000/v1/classify?labels=dog,rain'

Every failure is `{"error": one line that says what to do, "request_id": ...}`. A request's id is its own header
`x-request-id`, or a new one; it is returned in that header and is in the server's log. The Open Inference Protocol
(KServe v2) is at `/v2`."""


def create_app(
    pipeline: Pipeline, keys: ApiKeys | None = None, cors_origins: Sequence[str] = (), root_path: str = ""
) -> FastAPI:
    """The HTTP application of one embedder.

    keys          only requests with one of them are answered; None: all requests are
    cors_origins  origins whose web pages may send requests, like https://example.org; empty: no other origin
    root_path     the prefix under which a proxy offers the application, like /audio; "": none
    errors        RuntimeError: the model does not work
    """
    app = FastAPI(
        title="Unheard",
        description=DESCRIPTION,
        version="1",
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,  # a redirect would go to the host that the client names
    )
    install_error_handlers(app)
    if keys:
        app.add_middleware(ApiKeyMiddleware, keys=keys, metrics=pipeline.metrics)
    app.add_middleware(
        RequestMiddleware,
        timeout_s=pipeline.limits.request_timeout_s,
        metrics=pipeline.metrics,
        tracing=pipeline.tracing,
        root_path=root_path,
    )
    if cors_origins:  # outermost, so that a web page can read failures too
        app.add_middleware(
            CorsMiddleware,
            allow_origins=cors_origins,
            allow_methods=["GET", "POST"],
            allow_headers=["*"],
            expose_headers=[REQUEST_ID_HEADER, "retry-after", *RAW_HEADERS],
        )
    _ = pipeline.readiness  # before the first request
    set_pipeline(app, pipeline)
    app.include_router(create_model_router())
    app.include_router(create_search_router())
    app.include_router(create_operation_router(describe_model(pipeline.embedder)))
    app.include_router(create_inference_router(model_metadata(pipeline), pipeline.embedder.manifest.window))
    page = render_docs(app.openapi(), with_keys=keys is not None)

    @app.get("/docs", include_in_schema=False)
    async def docs() -> HTMLResponse:
        return HTMLResponse(page, headers={"content-security-policy": "default-src 'none'; style-src 'unsafe-inline'"})

    return app
