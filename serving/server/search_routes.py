"""The route that searches the index: /v1/search, by words (GET), or by a recording with or without words (POST)."""

import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response
from numpy.typing import NDArray
from pydantic_core import to_json
from starlette.exceptions import HTTPException

from serving.audio import is_silent
from serving.errors import AudioError, LabelError
from serving.pooling import pool_like
from serving.server.app_state import pipeline_of
from serving.server.model_routes import choose_texts
from serving.server.pipeline import EmbeddedUpload, Pipeline, UploadResult
from serving.server.repeated_parameters import no_repeats
from serving.server.response_bodies import check_answer_size, json_response
from serving.server.schemas import (
    FoundSound,
    SearchQuery,
    SearchResponse,
    SearchResponses,
    SoundSearchResponse,
    describe_errors,
)
from serving.server.upload import REQUEST_BODY

if TYPE_CHECKING:
    from serving.search.phrases import Phrases
    from serving.search.search_index import SearchIndex

MAX_TEXTS = 20  # in one request
NO_INDEX = (
    "no index to search: start the server with --index INDEX, which python -m serving.index SOUNDS.parquet --bundle "
    "BUNDLE --out INDEX makes"
)
FIELDS = tuple(FoundSound.model_fields)


def create_search_router() -> APIRouter:
    """The route for both methods, as one router."""
    router = APIRouter(redirect_slashes=False)

    @router.get(
        "/v1/search",
        response_model=SearchResponse,
        responses=describe_errors(400, 401, 404, 422, 429, 500, 503),
        summary="Sounds of the index that words describe",
        dependencies=[no_repeats(SearchQuery)],
    )
    async def search_words(request: Request, query: Annotated[SearchQuery, Query()]) -> Response:
        pipeline = pipeline_of(request)
        index = index_of(pipeline)
        if query.words is None:
            raise HTTPException(422, "words: got none; wanted what is looked for, like ?words=rain")
        with pipeline.admission.enter() as ticket:
            ticket.expect_seconds(0)  # it brings no sound
            phrases, unknown = await choose_phrases(pipeline, query)
            (fields,) = await search(pipeline, index, request, query, phrases, [None])
        return Response(to_json({**fields, "unknown_words": unknown}), media_type="application/json")

    @router.post(
        "/v1/search",
        response_model=SoundSearchResponse | SearchResponses,
        responses=describe_errors(400, 401, 404, 408, 413, 415, 422, 429, 500, 503),
        summary="Sounds of the index that are like a recording",
        dependencies=[no_repeats(SearchQuery)],
        openapi_extra={"requestBody": REQUEST_BODY},
    )
    async def search_sound(request: Request, query: Annotated[SearchQuery, Query()]) -> Response:
        pipeline = pipeline_of(request)
        index = index_of(pipeline)
        result = refuse_silent(await pipeline.embed_files(request))
        most = min(query.top, len(index))  # rows
        check_answer_size(len(result.names), most * (1 + len(query.texts)), "a smaller top")
        phrases, unknown = await choose_phrases(pipeline, query)
        sounds = [each for each in result.outcomes if isinstance(each, EmbeddedUpload)]
        embeddings = [pool_like(index.per, each.rows, each.recording.levels_dbfs) for each in sounds]
        found = await search(pipeline, index, request, query, phrases, embeddings)
        of_sound = {id(each): fields for each, fields in zip(sounds, found, strict=True)}
        return await json_response(
            pipeline,
            result,
            lambda recording: {**of_sound[id(recording)], "unknown_words": unknown},
        )

    return router


def index_of(pipeline: Pipeline) -> "SearchIndex":
    """The server's index. HTTPException 404: it has none."""
    if pipeline.index is None:
        raise HTTPException(404, NO_INDEX)
    return pipeline.index


async def choose_phrases(pipeline: Pipeline, query: SearchQuery) -> tuple["Phrases | None", dict[str, list[str]]]:
    """The phrases of a query, and the words of each that the text model does not know.

    errors   LabelError: a text is empty, too long or repeated, or there are too many, or they cannot be understood;
             HTTPException 429: too many texts of other requests wait
    """
    texts = query.texts
    if len(texts) > MAX_TEXTS:
        raise LabelError(f"words: got {len(texts)} texts; wanted at most {MAX_TEXTS}")
    if not texts:
        return None, {}
    from serving.search.phrases import Phrases
    from serving.search.query import check_phrases

    check_phrases(texts)
    zeroshot = pipeline.embedder.zeroshot
    chosen, unknown = await choose_texts(pipeline, texts, zeroshot.typed(texts, pipeline.embedder.labels.knows_text))
    return Phrases(zeroshot, chosen), unknown


async def search(
    pipeline: Pipeline,
    index: "SearchIndex",
    request: Request,
    query: SearchQuery,
    phrases: "Phrases | None",
    sounds: "Sequence[NDArray[Any] | None]",
) -> list[dict[str, Any]]:
    """Search in a decoder thread, once for each sound. Returns the fields `found` and `rows` of each response."""
    from serving.search.query import make_query

    def work() -> list[dict[str, Any]]:
        answers = []
        for sound in sounds:
            started = time.perf_counter()
            asked = make_query(
                index.manifest.embedding_space, pipeline.embedder.zeroshot, sound, phrases, len(query.without)
            )
            rows = [asdict(each) for each in index.search(asked, query.top)]
            pipeline.metrics.search_seconds.observe(time.perf_counter() - started)
            answers.append({"found": [{name: row[name] for name in FIELDS} for row in rows], "rows": len(index)})
        return answers

    started = time.perf_counter()
    answers = await pipeline.decode(work)
    stages = request.state.log.get("stages_ms", {})
    request.state.log |= {"stages_ms": stages | {"search": round(1000 * (time.perf_counter() - started), 3)}}
    return answers


def refuse_silent(result: UploadResult) -> UploadResult:
    """The same, with an error for each recording that is silent. AudioError: the only one is."""

    def check(name: str, outcome: EmbeddedUpload | AudioError) -> EmbeddedUpload | AudioError:
        if isinstance(outcome, AudioError) or not is_silent(max(outcome.recording.levels_dbfs)):
            return outcome
        error = AudioError(f"{name}: is silent, so no sound is like it; send another recording")
        if not result.is_list:
            raise error
        return error

    return replace(result, outcomes=[check(*each) for each in zip(result.names, result.outcomes, strict=True)])
