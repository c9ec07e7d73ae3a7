"""Decode and embed one recording with the time of each stage, and rank labels for it."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from serving.audio import Recording, is_silent, level_dbfs
from serving.embedder import Embedder
from serving.errors import AudioError
from serving.pooling import pool
from serving.zeroshot import ZeroShot

MAX_SECONDS = 600  # longest recording that the page accepts


@dataclass(frozen=True, eq=False)
class EmbeddedRecording:
    """A decoded recording and its embeddings.

    rows          [n_windows, 128] float32 embeddings
    wave          [n_samples] float32 mono at the model's rate
    levels        peak level of each window in dBFS, see `serving.audio.level_dbfs`
    milliseconds  by stage: decode, resample, model
    rate_hz, channels, seconds   of the file
    space         the bundle's embedding_space
    warnings      what of the recording could not be read, a line each
    """

    rows: NDArray[np.float32]
    wave: NDArray[np.float32]
    levels: list[float]
    milliseconds: dict[str, float]
    rate_hz: int
    channels: int
    seconds: float
    space: str
    warnings: tuple[str, ...] = ()

    @property
    def level_dbfs(self) -> float:
        """That of the loudest window."""
        return max(self.levels)

    @property
    def is_silent(self) -> bool:
        """Whether there is nothing to hear."""
        return is_silent(self.level_dbfs)


@dataclass(frozen=True, eq=False)
class RankedLabels:
    """The ranking of labels for one recording.

    chosen        the zero-shot map for these labels, which knows the seen ones
    unknown_words label -> its words that the text model does not know, if there are any
    ranking       (label, probability) pairs in descending order; the probabilities sum to 1
    by_window     (label, probability) of the most probable label of each window
    milliseconds  time for the label vectors and the ranking
    """

    chosen: ZeroShot
    unknown_words: dict[str, list[str]]
    ranking: list[tuple[str, float]]
    by_window: list[tuple[str, float]]
    milliseconds: float

    @property
    def seen(self) -> set[str]:
        """The labels that are training classes."""
        return set(self.chosen.seen_names)


def embed_recording(embedder: Embedder, path: str | Path | None) -> EmbeddedRecording:
    """Decode one file, resample and embed it.

    errors   AudioError: no recording, not readable, empty, not finite, or longer than MAX_SECONDS
    """
    if path is None:
        raise AudioError("recording: got none; send one audio file")
    window = embedder.manifest.window
    recording = Recording.from_bytes(_bytes_of(Path(path)), Path(path).name, window.rate_hz, MAX_SECONDS)
    start = time.perf_counter()
    windows = recording.windows(window)
    rows = embedder.run(windows)
    model_ms = 1000 * (time.perf_counter() - start)
    return EmbeddedRecording(
        rows,
        recording.wave,
        [level_dbfs(each) for each in windows],
        recording.milliseconds | {"model": model_ms},
        int(recording.rate_hz),
        recording.channels,
        recording.duration_s,
        embedder.manifest.embedding_space,
        recording.warnings,
    )


def _bytes_of(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise AudioError(f"{path.name}: no longer exists; send it again") from error


def rank_labels(
    embedder: Embedder, rows: NDArray[np.float32], labels: Sequence[str] | None, offset: float | None = None
) -> RankedLabels:
    """Rank labels for a clip's windows [n_windows, 128].

    labels, offset   as for `Embedder.classify`
    errors           LabelError
    """
    start = time.perf_counter()
    chosen = embedder.choose(labels)
    ranking = chosen.rank(pool(rows), offset=offset)
    by_window = [chosen.rank(row, offset=offset)[0] for row in rows]
    unknown_words = embedder.unknown_words(labels or [])
    return RankedLabels(chosen, unknown_words, ranking, by_window, 1000 * (time.perf_counter() - start))
