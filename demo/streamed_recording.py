"""Embed a recording that is too long to be decoded whole, and give what is known of it while it is read."""

import time
from collections.abc import Generator
from pathlib import Path

import numpy as np

from demo.embedded_recording import EmbeddedRecording, embed_recording
from demo.upload import check_upload, name_upload, named_upload
from serving.embedder import Embedder
from serving.embedding_stream import EmbeddingStream
from serving.errors import DurationError

EVERY_S = 1.0  # least time between two answers
DRAWING_SHARE = 5  # the next answer comes after this many times as long as the last one took to be shown
NO_WAVE = np.zeros(0, np.float32)


def stream_recording(
    embedder: Embedder, path: str | Path | None, hop_seconds: float | None = None
) -> Generator[tuple[EmbeddedRecording, bool]]:
    """Embed a recording of any length. Only its embeddings stay in memory: 512 bytes a window.

    hop_seconds   as for `embed_recording`
    yields        what has been read so far and False, now and then; at last the whole recording and True
    errors        AudioError: no recording, or nothing of it can be read
    """
    path = check_upload(path)
    start = shown = time.perf_counter()
    pause = EVERY_S
    rows, n = np.empty((1024, 0), np.float32), 0
    levels: list[float] = []

    def snapshot(stream: EmbeddingStream, seconds: float) -> EmbeddedRecording:
        return EmbeddedRecording(
            str(path),
            rows[:n],
            NO_WAVE,
            embedder.manifest.window.with_hop(hop_seconds),
            levels[:],
            {"read and model": 1000 * (time.perf_counter() - start)},
            stream.rate_hz,
            stream.channels,
            seconds,
            embedder.manifest.embedding_space,
            tuple(name_upload(line, path) for line in stream.warnings),
        )

    with named_upload(path), embedder.stream(path, hop_seconds) as stream:
        for block in stream:
            if n == 0:
                rows = np.empty((1024, block.rows.shape[1]), np.float32)
            if n + len(block) > len(rows):
                rows = np.concatenate([rows, np.empty_like(rows)])
            rows[n : n + len(block)] = block.rows
            n += len(block)
            levels += block.levels_dbfs.tolist()
            now = time.perf_counter()
            if now - shown >= pause:
                yield snapshot(stream, float(block.ends_s[-1])), False
                shown = time.perf_counter()
                pause = max(EVERY_S, DRAWING_SHARE * (shown - now))
        yield snapshot(stream, stream.duration_s), True


def embed_any_length(
    embedder: Embedder, path: str | Path | None, hop_seconds: float | None = None
) -> EmbeddedRecording:
    """Embed a recording whole where it is short enough, and block by block where it is not."""
    try:
        return embed_recording(embedder, path, hop_seconds)
    except DurationError:
        for embedded, is_whole in stream_recording(embedder, path, hop_seconds):
            if is_whole:
                return embedded
        raise
