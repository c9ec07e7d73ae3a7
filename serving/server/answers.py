"""What was heard -> what is sent: JSON, or the bare numbers for who asks for application/octet-stream."""

from collections.abc import Callable
from typing import Any

import numpy as np
from fastapi import Request
from fastapi.responses import Response
from numpy.typing import NDArray
from pydantic_core import to_json
from starlette.exceptions import HTTPException

from serving.audio import Window, is_silent
from serving.errors import AudioError
from serving.pooling import pool
from serving.server.failures import status_of
from serving.server.pipeline import Answer, Heard

RAW = "application/octet-stream"
MOST_TOLD = 2000  # characters of warnings in a header
RAW_HEADERS = {
    "x-embedding-shape": "128 for a recording; 3,128 for three windows or three files",
    "x-embedding-dtype": "<f4: little-endian float32, row after row",
    "x-embedding-space": "embeddings compare only where this is equal",
    "x-audio-warnings": "what of the recordings could not be read, with ; between; empty: all was read",
}


def answer_json(answer: Answer, embedding_space: str, describe: Callable[[Heard], dict[str, Any]]) -> Response:
    """One object for the one recording of a request; for a list of files, one for each, heard or not.

    describe  the fields that the address adds to responses.Heard
    """
    objects = [
        _refusal(name, outcome)
        if isinstance(outcome, AudioError)
        else _common(outcome, embedding_space) | ({"file": name} if answer.several else {}) | describe(outcome)
        for name, outcome in zip(answer.names, answer.outcomes, strict=True)
    ]
    content = {"results": objects} if answer.several else objects[0]
    return Response(to_json(content), media_type="application/json")  # ten times as fast as json.dumps


def answer_raw(answer: Answer, embedding_space: str, by_window: bool) -> Response:
    """The float32 values alone: [size] or, by window, [n_windows, size]; for a list of files [n_files, size].

    errors   AudioError: one of the files cannot be used, for here is no place to say so beside the others;
             HTTPException 422: windows of several files
    """
    rows: list[NDArray[np.float32]] = []
    for outcome in answer.outcomes:
        if isinstance(outcome, AudioError):
            raise outcome
        rows.append(outcome.rows if by_window else pool(outcome.rows))
    if answer.several and by_window:
        raise HTTPException(422, "windows of several files: their numbers differ; ask for JSON, or send one file")
    values = np.stack(rows) if answer.several else rows[0]
    warnings = "; ".join(
        line for heard in answer.outcomes if isinstance(heard, Heard) for line in heard.recording.warnings
    )
    shape = ",".join(map(str, values.shape))
    told = (shape, "<f4", embedding_space, warnings[:MOST_TOLD].encode("ascii", "backslashreplace").decode())
    return Response(values.astype("<f4").tobytes(), 200, dict(zip(RAW_HEADERS, told, strict=True)), RAW)


def wants_raw(request: Request) -> bool:
    """Whether the client asks for bare numbers."""
    return RAW in request.headers.get("accept", "")


def embedding_fields(heard: Heard, window: Window | None) -> dict[str, Any]:
    """The fields of responses.EmbedResponse. window: of the model, where each window's embedding is asked for."""
    fields: dict[str, Any] = {"embedding": pool(heard.rows).tolist(), "windows": None}
    if window:
        fields["windows"] = [
            {"start_s": i * window.hop_samples / window.rate_hz, **_level(level), "embedding": row.tolist()}
            for i, (row, level) in enumerate(zip(heard.rows, heard.recording.levels_dbfs, strict=True))
        ]
    return fields


def _common(heard: Heard, embedding_space: str) -> dict[str, Any]:
    """The fields of responses.Heard."""
    recording = heard.recording
    stages = recording.milliseconds | {"queue": heard.queue_ms, "model": heard.model_ms}
    return {
        "duration_s": recording.duration_s,
        "rate_hz": recording.rate_hz,
        "channels": recording.channels,
        **_level(max(recording.levels_dbfs)),
        "embedding_space": embedding_space,
        "warnings": list(recording.warnings),
        "timings_ms": {stage: round(ms, 3) for stage, ms in stages.items()},
    }


def _level(level_dbfs: float) -> dict[str, Any]:
    """The fields of responses.Level."""
    return {"level_dbfs": round(level_dbfs, 2), "silent": is_silent(level_dbfs)}


def _refusal(name: str, error: AudioError) -> dict[str, Any]:
    """The fields of responses.FileFailure."""
    return {"file": name, "error": " ".join(str(error).split()), "status": status_of(error)}
