"""The routes that embed and classify recordings: /v1/embed and /v1/classify."""

from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response

from serving.errors import LabelError
from serving.pooling import pool_heard
from serving.server.app_state import pipeline_of
from serving.server.pipeline import EmbeddedUpload, Pipeline
from serving.server.repeated_parameters import no_repeats
from serving.server.response_bodies import (
    RAW,
    RAW_HEADERS,
    check_answer_size,
    embedding_fields,
    json_response,
    raw_response,
    wants_raw,
)
from serving.server.schemas import (
    ClassifyQuery,
    ClassifyResponse,
    ClassifyResponses,
    EmbedQuery,
    EmbedResponse,
    EmbedResponses,
    describe_errors,
)
from serving.server.upload import REQUEST_BODY
from serving.zeroshot import ZeroShot
from serving.zeroshot.label_text import check_label_length, split_labels, unquote
from serving.zeroshot.ranking import rank_embedding

MAX_LABELS = 1000  # in one request
RAW_CONTENT = {
    "description": f"JSON, or with `Accept: {RAW}` the float32 values alone",
    "headers": {name: {"description": text, "schema": {"type": "string"}} for name, text in RAW_HEADERS.items()},
    "content": {RAW: {"schema": {"type": "string", "format": "binary"}}},
}
ERRORS = describe_errors(400, 401, 408, 413, 415, 422, 429, 500, 503)


def create_model_router() -> APIRouter:
    """The routes for recordings, as one router."""
    router = APIRouter(redirect_slashes=False)

    @router.post(
        "/v1/embed",
        response_model=EmbedResponse | EmbedResponses,
        responses=ERRORS | {200: RAW_CONTENT},
        summary="A recording's embedding",
        dependencies=[no_repeats(EmbedQuery)],
        openapi_extra={"requestBody": REQUEST_BODY},
    )
    async def embed(request: Request, query: Annotated[EmbedQuery, Query()]) -> Response:
        pipeline = pipeline_of(request)
        manifest = pipeline.embedder.manifest
        result = await pipeline.embed_files(request)
        if wants_raw(request):
            return raw_response(result, manifest.embedding_space, query.windows)
        window = manifest.window if query.windows else None
        return await json_response(pipeline, result, lambda recording: embedding_fields(recording, window))

    @router.post(
        "/v1/classify",
        response_model=ClassifyResponse | ClassifyResponses,
        responses=ERRORS,
        summary="A recording's classes, most likely first",
        dependencies=[no_repeats(ClassifyQuery)],
        openapi_extra={"requestBody": REQUEST_BODY},
    )
    async def classify(request: Request, query: Annotated[ClassifyQuery, Query()]) -> Response:
        pipeline = pipeline_of(request)
        embedder = pipeline.embedder
        result = await pipeline.embed_files(request)
        zeroshot, unknown_words = embedder.zeroshot, {}
        if query.labels is None:
            check_answer_size(len(result.names), len(zeroshot.class_names), "choose labels")
        else:
            zeroshot, unknown_words = await choose_labels(pipeline, query.labels, len(result.names))
        offset = zeroshot.own_offset if query.offset is None else query.offset
        seen = dict(zip(zeroshot.class_names, zeroshot.seen.tolist(), strict=True))

        def rank(recording: EmbeddedUpload) -> dict[str, Any]:
            levels = recording.recording.levels_dbfs
            embedding = pool_heard(recording.rows, levels)
            ranking = rank_embedding(zeroshot, embedding, max(levels), unknown_words, offset)
            rows = [
                {"label": label, "score": score, "similarity": similarity, "seen": seen[label]}
                for (label, score), similarity in zip(ranking, ranking.similarities, strict=True)
            ]
            return {
                "ranking": rows,
                "none_of_these": ranking.none_of_these,
                "threshold": ranking.threshold,
                "offset": offset,
                "unknown_words": unknown_words,
            }

        return await json_response(pipeline, result, rank)

    return router


async def choose_labels(
    pipeline: Pipeline, values: Sequence[str], n_files: int
) -> tuple[ZeroShot, dict[str, list[str]]]:
    """The class vectors of the labels in a query, and the words of each label that the text model does not know.

    errors   LabelError: too many, or one is too long; else as `labels_in_query` and `LabelSpace.choose`; HTTPException
             422: too many for so many files, 429: too many labels of other requests wait
    """
    zeroshot, knows_text = pipeline.embedder.zeroshot, pipeline.embedder.labels.knows_text

    def read() -> tuple[list[str], list[str]]:
        labels = labels_in_query(values, zeroshot.class_names)
        if len(labels) > MAX_LABELS:
            raise LabelError(f"labels: got {len(labels)}; wanted at most {MAX_LABELS}")
        check_answer_size(n_files, len(labels), "fewer labels")
        typed = zeroshot.typed(labels, knows_text)
        for label in typed:
            check_label_length(label)
        return labels, typed

    labels, typed = await pipeline.decode(read)  # in a thread: a query may have 16 000 commas
    return await choose_texts(pipeline, labels, typed)


async def choose_texts(
    pipeline: Pipeline, labels: Sequence[str], typed: Sequence[str]
) -> tuple[ZeroShot, dict[str, list[str]]]:
    """As `choose_labels`, for labels that were checked. typed: those of them that are not the names of classes."""
    zeroshot = pipeline.embedder.zeroshot
    if not typed:
        return zeroshot.choose(labels), {}
    encoded = await pipeline.text.encode(typed)
    return zeroshot.choose(labels, lambda _: encoded.vectors), encoded.unknown_words


def labels_in_query(values: Sequence[str], known: Sequence[str]) -> list[str]:
    """The labels in a query.

    values   of the parameter `labels`: a single value holds labels separated by commas, see `split_labels`; of several
             values each is one label
    known    the bundle's class names
    errors   LabelError: see `split_labels`
    """
    if len(values) == 1:
        return split_labels(values[0], known)
    return [label for label in map(unquote, values) if label]
