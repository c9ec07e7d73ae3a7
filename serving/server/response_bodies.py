"""Embeddings -> response bodies: JSON, or raw float32 for clients that accept application/octet-stream."""

from collections.abc import Callable
from typing import Any

import numpy as np
from fastapi import Request
from fastapi.responses import Response
from numpy.typing import NDArray
from pydantic_core import to_json
from starlette.exceptions import HTTPException

from serving.audio import Window, is_silent
from serving.errors import AudioError, one_line
from serving.pooling import pool
from serving.server.error_responses import status_of
from serving.server.pipeline import EmbeddedUpload, Pipeline, UploadResult

RAW = "application/octet-stream"
MAX_SCORES = 100_000  # in the answer to a list of files: about 10 MB of JSON
MAX_WARNINGS_LENGTH = 2000  # characters of warnings in a header
RAW_HEADERS = {
    "x-embedding-shape": "128 for a recording; 3,128 for three windows or three files",
    "x-embedding-dtype": "<f4: little-endian float32, row after row",
    "x-embedding-space": "embeddings can be compared only if this is equal",
    "x-audio-warnings": "parts of the recordings that could not be read, separated by ; empty if everything was read",
}


async def json_response(
    pipeline: Pipeline, result: UploadResult, describe: Callable[[EmbeddedUpload], dict[str, Any]]
) -> Response:
    """One object for the one recording of a request; for a list of files one for each, embedded or refused.

    describe  returns the fields that the address adds to schemas.RecordingFields. For a list it is called in a thread
    """
    space = pipeline.embedder.manifest.embedding_space

    def write(name: str, outcome: EmbeddedUpload | AudioError) -> bytes:
        if isinstance(outcome, AudioError):
            return to_json(_file_failure_fields(name, outcome))
        fields = _recording_fields(outcome, space) | ({"file": name} if result.is_list else {})
        return to_json(fields | describe(outcome))  # ten times as fast as json.dumps

    def write_list() -> bytes:
        # One after the other: to_json keeps Python's lock, and so all requests wait for it.
        return b'{"results":[' + b",".join(map(write, result.names, result.outcomes)) + b"]}"

    content = await pipeline.decode(write_list) if result.is_list else write(result.names[0], result.outcomes[0])
    return Response(content, media_type="application/json")


def check_answer_size(n_files: int, n_scores: int, fewer: str) -> None:
    """Refuse an answer that would be too large. One file alone is always answered.

    n_scores   of each file
    fewer      for the message: what else than files the client may send fewer of
    errors     HTTPException 422: more than MAX_SCORES of all files
    """
    if n_files > 1 and n_files * n_scores > MAX_SCORES:
        raise HTTPException(
            422,
            f"got {n_files} files with {n_scores} scores each; wanted at most {MAX_SCORES} scores in one answer; send "
            f"fewer files at a time, or {fewer}",
        )


def raw_response(result: UploadResult, embedding_space: str, by_window: bool) -> Response:
    """The float32 values alone: [size] or, by window, [n_windows, size]; for a list of files [n_files, size].

    errors   AudioError: a file cannot be used, and the raw format has no place to report it beside the other files;
             HTTPException 422: windows of several files
    """
    rows: list[NDArray[np.float32]] = []
    for outcome in result.outcomes:
        if isinstance(outcome, AudioError):
            raise outcome
        rows.append(outcome.rows if by_window else pool(outcome.rows))
    if result.is_list and by_window:
        raise HTTPException(422, "windows of several files: their numbers differ; ask for JSON, or send one file")
    values = np.stack(rows) if result.is_list else rows[0]
    warnings = "; ".join(
        warning
        for upload in result.outcomes
        if isinstance(upload, EmbeddedUpload)
        for warning in upload.recording.warnings
    )
    shape = ",".join(map(str, values.shape))
    ascii_warnings = warnings[:MAX_WARNINGS_LENGTH].encode("ascii", "backslashreplace").decode()
    headers = dict(zip(RAW_HEADERS, (shape, "<f4", embedding_space, ascii_warnings), strict=True))
    return Response(values.astype("<f4").tobytes(), 200, headers, RAW)


def wants_raw(request: Request) -> bool:
    """Whether the client accepts raw numbers."""
    return RAW in request.headers.get("accept", "")


def embedding_fields(upload: EmbeddedUpload, window: Window | None) -> dict[str, Any]:
    """The fields of schemas.EmbedResponse. window: of the model, if each window's embedding is wanted."""
    fields: dict[str, Any] = {"embedding": pool(upload.rows).tolist(), "windows": None}
    if window:
        fields["windows"] = [
            {"start_s": i * window.hop_samples / window.rate_hz, **_level_fields(level), "embedding": row.tolist()}
            for i, (row, level) in enumerate(zip(upload.rows, upload.recording.levels_dbfs, strict=True))
        ]
    return fields


def _recording_fields(upload: EmbeddedUpload, embedding_space: str) -> dict[str, Any]:
    """The fields of schemas.RecordingFields."""
    recording = upload.recording
    return {
        "duration_s": recording.duration_s,
        "rate_hz": recording.rate_hz,
        "channels": recording.channels,
        **_level_fields(max(recording.levels_dbfs)),
        "embedding_space": embedding_space,
        "warnings": list(recording.warnings),
        "timings_ms": {stage: round(ms, 3) for stage, ms in upload.stages_ms.items()},
    }


def _level_fields(level_dbfs: float) -> dict[str, Any]:
    """The fields of schemas.Level."""
    return {"level_dbfs": round(level_dbfs, 2), "silent": is_silent(level_dbfs)}


def _file_failure_fields(name: str, error: AudioError) -> dict[str, Any]:
    """The fields of schemas.FileFailure."""
    return {"file": name, "error": one_line(error), "status": status_of(error)}
